//! TLS settings and connections: mutual TLS 1.2 and 1.3, from an address of one's own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::mac::Mac;
use crate::pki::Identity;

/// A stream of bytes, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// TLS could not be set up from what was given.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// rustls refused a certificate, a key or a version.
    #[error("TLS settings: {0}")]
    Tls(#[from] rustls::Error),
    /// The verifier of client certificates refused its roots.
    #[error("TLS client roots: {0}")]
    Roots(#[from] rustls::server::VerifierBuilderError),
}

/// A connection could not be made; says how far it came.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP: refused, unreachable, or the own address could not be used.
    #[error("connect to {0}: {1}")]
    Tcp(SocketAddr, io::Error),
    /// The TLS handshake failed: a wrong name, an unknown root, a certificate missing.
    #[error("TLS with {0}: {1}")]
    Handshake(String, io::Error),
    /// Not a host name and not an address.
    #[error("'{0}' is no name TLS can check")]
    Name(String),
    /// Nothing came in time.
    #[error("{0} did not answer within {1:?}")]
    Slow(String, Duration),
}

/// Who may connect to a server.
#[derive(Debug, Clone, Copy)]
pub enum Clients<'a> {
    /// Only who shows a certificate of one of these roots.
    Certified(&'a [CertificateDer<'static>]),
    /// Anybody; a certificate is asked for and checked when shown.
    Anybody(&'a [CertificateDer<'static>]),
}

/// Settings of a TLS client that trusts `roots` and shows `identity` when asked.
pub fn client(
    roots: &[CertificateDer<'static>],
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, SettingsError> {
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store(roots)?);
    Ok(Arc::new(match identity {
        Some(identity) => {
            builder.with_client_auth_cert(vec![identity.certificate().clone()], identity.key())?
        }
        None => builder.with_no_client_auth(),
    }))
}

/// Settings of a TLS server.
pub fn server(identity: &Identity, clients: Clients<'_>) -> Result<Arc<ServerConfig>, SettingsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (Clients::Certified(roots) | Clients::Anybody(roots)) = clients;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(store(roots)?), Arc::clone(&provider));
    let verifier = match clients {
        Clients::Certified(_) => verifier.build()?,
        Clients::Anybody(_) => verifier.allow_unauthenticated().build()?,
    };
    Ok(Arc::new(
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![identity.certificate().clone()], identity.key())?,
    ))
}

/// Connects TCP from the address `from` to `to`.
pub async fn tcp(from: IpAddr, to: SocketAddr) -> Result<TcpStream, ConnectError> {
    let connect = async {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(from, 0))?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    connect.await.map_err(|error| ConnectError::Tcp(to, error))
}

/// Starts TLS on a stream; the certificate must be valid for `name` (a host name or an address).
pub async fn start<S: Stream>(
    stream: S,
    name: &str,
    settings: &Arc<ClientConfig>,
) -> Result<TlsStream<S>, ConnectError> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::Name(name.to_owned()))?;
    TlsConnector::from(Arc::clone(settings))
        .connect(server, stream)
        .await
        .map_err(|error| ConnectError::Handshake(name.to_owned(), error))
}

/// The MAC in the common name of the certificate that a client showed.
pub fn client_mac(chain: Option<&[CertificateDer<'static>]>) -> Option<Mac> {
    let (_, certificate) = x509_parser::parse_x509_certificate(chain?.first()?).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    name.parse().ok()
}

fn store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    Ok(store)
}
