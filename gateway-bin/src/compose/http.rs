//! The HTTPS listeners: `tunnel` behind the TLS of `acme-store`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use acme_store::certificate::Identity;
use acme_store::net::tls::Connector;
use acme_store::publish::Application;
use acme_store::verify::NameRule;
use bytes::Bytes;
use tokio::net::TcpStream;
use tunnel::files::{ChecksumStyle, FileGroup, FileGroupError, FileSource};
use tunnel::net::{BoxFuture, Config, Dial, Limits, Repository, Resolve, Stream, Tunnel, Upstream};
use tunnel::repository::{Methods, Remote, Row, Server};

use super::credentials::{CredentialError, Draft};
use super::listen::keep;
use super::names::Names;
use crate::config::{
    Endpoint, FileRepository, LocalEndpoint, PolicyError, RemoteEndpoint, Settings, TunnelRow,
};
use crate::report;

/// A repository or tunnel that the check should have refused.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Files.
    #[error(transparent)]
    Files(#[from] FileGroupError),
    /// Networks and ports of a tunnel.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Certificates of a remote endpoint.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

/// What the endpoint `name` does.
pub(crate) fn service(
    name: &str,
    endpoint: &LocalEndpoint,
    settings: &Settings,
    draft: &Draft,
    names: &Arc<Names>,
) -> Result<Config, ServiceError> {
    let observed = name.to_owned();
    let mut config = Config {
        tunnel: None,
        repository: None,
        limits: Limits::default(),
        observer: Arc::new(move |event| report::http::log(&observed, &event)),
    };
    match &endpoint.serves {
        Endpoint::Repository(row) => config.repository = Some(repository(row, draft, names)?),
        Endpoint::Tunnel(row) => config.tunnel = Some(tunnel(row, settings, names)?),
    }
    Ok(config)
}

fn repository(row: &FileRepository, draft: &Draft, names: &Arc<Names>) -> Result<Repository, ServiceError> {
    let sources = row
        .files
        .iter()
        .map(|file| FileSource { path: file.path.clone(), content: Bytes::from(file.content.clone()) });
    let files = FileGroup::new(sources, ChecksumStyle::default())?;
    let connector = row.remote.as_ref().map(|remote| connector(remote, draft)).transpose()?;
    let remote = row.remote.as_ref().map(|remote| {
        let servers = remote.servers.iter().map(|(host, port)| Server { host: host.clone(), port: *port });
        Arc::new(Remote {
            name: row.name.clone(),
            server_name: remote.server_name.clone(),
            servers: servers.collect(),
        })
    });
    let row = Row { files: Some(Arc::new(files)), remote, methods: Methods::default() };
    Ok(Repository { rows: vec![row], upstream: Arc::new(Servers { connector, names: names.clone() }) })
}

fn connector(remote: &RemoteEndpoint, draft: &Draft) -> Result<Connector, ServiceError> {
    let certificate = remote.certificate.as_deref();
    let dialler =
        draft.dialler(certificate, &remote.trust, NameRule::NameOrCommonName, Application::Http1)?;
    Ok(Connector::new(dialler).map_err(CredentialError::from)?)
}

fn tunnel(row: &TunnelRow, settings: &Settings, names: &Arc<Names>) -> Result<Tunnel, ServiceError> {
    Ok(Tunnel { policy: settings.tunnel_policy(row)?, resolve: names.clone(), dial: Arc::new(Direct) })
}

/// The tunnel's peer as `tunnel` knows it.
pub(crate) fn peer(
    remote: SocketAddr,
    local: SocketAddr,
    identity: Option<&Identity>,
) -> tunnel::event::Peer {
    let identity =
        identity.map(|one| tunnel::event::Identity { subject: one.subject.clone(), key_hash: one.key_hash });
    tunnel::event::Peer { remote, local, identity }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(self.addresses(name))
    }
}

/// Connects to the address that was checked.
struct Direct;

impl Dial for Direct {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            keep(&stream);
            Ok(stream)
        })
    }
}

/// The servers of a repository's remote endpoint, over verified TLS.
struct Servers {
    /// `None` for a repository without a remote endpoint, which asks for no server.
    connector: Option<Connector>,
    names: Arc<Names>,
}

impl Upstream for Servers {
    fn connect<'a>(
        &'a self,
        remote: &'a Remote,
        server: &'a Server,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let connector = self.connector.as_ref().ok_or(io::ErrorKind::NotFound)?;
            let stream = self.names.connect(&server.host, server.port).await?;
            let connected = connector.connect(stream, &remote.server_name).await.map_err(io::Error::other)?;
            Ok(Box::new(connected.stream) as Box<dyn Stream>)
        })
    }
}
