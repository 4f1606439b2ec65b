//! What listeners and dialled connections show and demand, exchangeable while they work.
//!
//! Two things change at different speeds. A renewed *certificate* goes into its [`Certificate`] cell; every configuration built around
//! the cell shows it in the next handshake, and open connections stay. A change of *trust* or of a setting is a whole new
//! configuration, built by [`Listener::build`], with new ticket keys and an empty session cache: a peer that the new trust refuses can't
//! come in by resuming what the old trust accepted.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme, SupportedProtocolVersion};
use serde::{Deserialize, Serialize};

use crate::certificate::Credential;
use crate::key::provider;
use crate::trust::Trust;
use crate::verify::{ClientVerifier, NameRule, ServerVerifier};

/// The certificate that a name of the configuration stands for, now. Shared by every listener and dialler that uses it.
pub struct Certificate {
    cell: ArcSwap<Published>,
}

struct Published {
    certified: Arc<CertifiedKey>,
    credential: Credential,
}

impl Certificate {
    /// A cell that shows `credential`.
    pub fn new(credential: Credential) -> Arc<Self> {
        Arc::new(Self { cell: ArcSwap::from_pointee(Published::new(credential)) })
    }

    /// Shows `credential` from the next handshake on.
    pub fn publish(&self, credential: Credential) {
        self.cell.store(Arc::new(Published::new(credential)));
    }

    /// What is shown now.
    pub fn current(&self) -> Credential {
        self.cell.load().credential.clone()
    }
}

impl Published {
    fn new(credential: Credential) -> Self {
        let certified = CertifiedKey::new(credential.chain().to_vec(), credential.key().signing());
        Self { certified: Arc::new(certified), credential }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.cell.load().credential).finish()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.cell.load().certified))
    }
}

impl ResolvesClientCert for Certificate {
    // The authorities that the server hints at are not compared: a switch with a partial list would get no certificate, and the
    // reason would show nowhere. The server decides.
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.cell.load().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The TLS versions offered. Older ones do not exist here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2+")]
    V12AndUp,
    /// TLS 1.2 only.
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    V13,
}

/// Not a TLS setting of this product.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionsError {
    /// SSL 3, TLS 1.0 or 1.1.
    #[error("\"{0}\" is not offered: versions below TLS 1.2 are broken; use \"1.2+\", \"1.2\" or \"1.3\"")]
    TooOld(String),
    /// Something else.
    #[error("\"{0}\" is not a TLS setting; use \"1.2+\", \"1.2\" or \"1.3\"")]
    Unknown(String),
}

impl FromStr for Versions {
    type Err = VersionsError;

    fn from_str(text: &str) -> Result<Self, VersionsError> {
        match text {
            "1.2+" => Ok(Self::V12AndUp),
            "1.2" => Ok(Self::V12),
            "1.3" => Ok(Self::V13),
            "1.0" | "1.1" | "1.0+" | "1.1+" | "ssl3" | "SSLv3" | "TLSv1" | "TLSv1.0" | "TLSv1.1" => {
                Err(VersionsError::TooOld(text.to_owned()))
            }
            _ => Err(VersionsError::Unknown(text.to_owned())),
        }
    }
}

impl Versions {
    fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        let (newer, older) = BOTH.split_at(1);
        match self {
            Self::V12AndUp => &BOTH,
            Self::V12 => older,
            Self::V13 => newer,
        }
    }
}

/// What is spoken inside: decides on ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Application {
    /// SIP: no ALPN.
    #[default]
    Sip,
    /// HTTP/1.1 and nothing else: `http/1.1`.
    Http1,
}

impl Application {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Sip => Vec::new(),
            Self::Http1 => vec![b"http/1.1".to_vec()],
        }
    }
}

/// Which peers a listener lets in.
#[derive(Clone, Debug)]
pub enum Clients {
    /// Anybody; no certificate is asked for.
    Anonymous,
    /// A certificate is asked for. One that is presented must be good.
    Known {
        /// Who issues good ones.
        trust: Trust,
        /// A peer without one is refused.
        required: bool,
    },
}

/// The TLS side of one listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What is shown.
    pub certificate: Arc<Certificate>,
    /// Who is let in.
    pub clients: Clients,
    /// Versions offered.
    pub versions: Versions,
    /// What is spoken inside.
    pub application: Application,
}

/// The TLS side of connections that we open.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// Shown when the server asks.
    pub certificate: Option<Arc<Certificate>>,
    /// Who issues good server certificates.
    pub trust: Trust,
    /// How the name is compared.
    pub names: NameRule,
    /// Versions offered.
    pub versions: Versions,
    /// What is spoken inside.
    pub application: Application,
}

/// The cryptographic library refused a configuration; a fault of the system (no randomness, say), not of the settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("TLS can't be set up: {0}")]
pub struct BuildError(#[from] rustls::Error);

impl Listener {
    /// A configuration for the handshakes from now on. Each call makes new ticket keys.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self) -> Result<Arc<ServerConfig>, BuildError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.versions.supported())?;
        let builder = match &self.clients {
            Clients::Anonymous => builder.with_no_client_auth(),
            Clients::Known { trust, required } => {
                builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(trust.clone(), *required)))
            }
        };
        let resolver: Arc<dyn ResolvesServerCert> = self.certificate.clone();
        let mut config = builder.with_cert_resolver(resolver);
        // Tickets, not a cache: a cache of bounded size is emptied by strangers, and a thousand phones come back at once.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        // A phone has one connection to come back by; each ticket more is sealed and sent for nothing.
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = self.application.protocols();
        Ok(Arc::new(config))
    }
}

impl Dialler {
    /// A configuration for the handshakes from now on.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self) -> Result<Arc<ClientConfig>, BuildError> {
        let verifier = ServerVerifier::new(self.trust.clone(), self.names);
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.versions.supported())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.certificate {
            Some(certificate) => {
                let resolver: Arc<dyn ResolvesClientCert> = certificate.clone();
                builder.with_client_cert_resolver(resolver)
            }
            None => builder.with_no_client_auth(),
        };
        // A resumed session is not verified again on this side, and the server would see the identity of the old certificate.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = self.application.protocols();
        Ok(Arc::new(config))
    }
}
