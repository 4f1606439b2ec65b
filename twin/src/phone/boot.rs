//! From the box to the first registration: version, firmware, trust file, `startup.cfg`, tunnels.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Phone;
use crate::http::{Exchange, HttpError, Response};
use crate::tls::{self, ConnectError, SettingsError, Stream};

/// Where the phone's trust file lies on its server.
pub const TRUST_FILE: &str = "/keystore/certs/hq_ca.crt";

/// A step of the boot did not work.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No exchange.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// TLS settings could not be made from a trust file.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The answer was not the one wanted.
    #[error("{0} was answered {1}")]
    Status(String, u16),
    /// The content is not what the phone needs.
    #[error("{0}")]
    Content(String),
    /// Nothing came in time.
    #[error("{0} took longer than {1:?}")]
    Slow(String, Duration),
}

/// What `version.txt` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The firmware the site wants.
    pub version: String,
    /// Where it lies.
    pub file: String,
    /// Its checksum, in hexadecimal.
    pub sha256: String,
}

/// What `startup.cfg` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// `mivoice config server`: the hosts, in order.
    pub config_servers: Vec<String>,
    /// `tunnel port`: for HTTP CONNECT.
    pub tunnel_port: u16,
}

/// An HTTPS connection to the gateway.
pub type Https = Exchange<TlsStream<TcpStream>>;
/// A connection through the gateway's tunnel.
pub type Tunnel = TlsStream<TcpStream>;

impl Phone {
    /// A mutual TLS connection to the gateway, on which the server has accepted our certificate: with TLS 1.3
    /// only the first answer shows that, so a HEAD is sent.
    pub async fn open(&self, to: SocketAddr, fqdn: &str) -> Result<Https, BootError> {
        self.within(format!("TLS with {to}"), async {
            let mut https = Exchange::new(self.tls(to, fqdn).await?);
            https.request("HEAD", "/version.txt", fqdn).await?;
            Ok(https)
        })
        .await
    }

    /// Whether a server refuses us: says how, or fails because we were let in. Nothing is sent, so that the
    /// server's alert cannot be lost behind data it did not read.
    pub async fn refused(&self, to: SocketAddr, fqdn: &str) -> Result<String, BootError> {
        // On the loopback a refusal comes at once; a server that has let us in waits for us to speak.
        const SILENCE: Duration = Duration::from_secs(1);
        let mut byte = [0_u8];
        let mut stream = match self.within(format!("TLS with {to}"), self.tls(to, fqdn)).await {
            Ok(stream) => stream,
            Err(BootError::Connect(ConnectError::Handshake(_, error))) => return Ok(error.to_string()),
            Err(error) => return Err(error),
        };
        match tokio::time::timeout(SILENCE, stream.read(&mut byte)).await {
            Ok(Err(error)) => Ok(error.to_string()),
            Ok(Ok(0)) => Ok("closed".to_owned()),
            Ok(Ok(_)) | Err(_) => Err(BootError::Content(format!("{to} let us in"))),
        }
    }

    /// Step 3: which firmware does the site want?
    pub async fn version(&self, https: &mut Https, fqdn: &str) -> Result<Version, BootError> {
        let text = self.text(https, "/version.txt", fqdn).await?;
        let field = |name: &str| {
            field(&text, name).ok_or_else(|| BootError::Content(format!("version.txt has no line '{name}:'")))
        };
        Ok(Version { version: field("version")?, file: field("file")?, sha256: field("sha256")? })
    }

    /// Step 4: fetches the firmware and checks it; returns its size.
    pub async fn firmware(
        &self,
        https: &mut Https,
        fqdn: &str,
        version: &Version,
    ) -> Result<usize, BootError> {
        let body = self.get(https, &version.file, fqdn).await?.body;
        let sum = hex(&body);
        if sum == version.sha256 {
            Ok(body.len())
        } else {
            Err(BootError::Content(format!("firmware of {} bytes has SHA-256 {sum}", body.len())))
        }
    }

    /// Step 6: asks for the trust file over clear HTTP. Through a gateway that must fail, and quickly;
    /// returns how long the 404 took.
    pub async fn clear_trust_file(&self, http: SocketAddr, fqdn: &str) -> Result<Duration, BootError> {
        let start = Instant::now();
        let response = self
            .within(format!("GET http://{fqdn}{TRUST_FILE}"), async {
                Ok(Exchange::new(tls::tcp(self.ip(), http).await?).request("GET", TRUST_FILE, fqdn).await?)
            })
            .await?;
        match (response.status, start.elapsed()) {
            (404, took) if took < Duration::from_secs(1) => Ok(took),
            (404, took) => Err(BootError::Slow("the 404".to_owned(), took)),
            (status, _) => Err(BootError::Status(format!("GET http://{fqdn}{TRUST_FILE}"), status)),
        }
    }

    /// Step 7: fetches `startup.cfg` and its checksum, checks and reads it.
    pub async fn startup(&self, https: &mut Https, fqdn: &str) -> Result<Startup, BootError> {
        let file = self.get(https, "/startup.cfg", fqdn).await?.body;
        let sum = self.text(https, "/startup.cfg.sha256", fqdn).await?;
        let sum = sum.split_whitespace().next().unwrap_or("");
        if sum != hex(&file) {
            let ours = hex(&file);
            return Err(BootError::Content(format!(
                "startup.cfg has SHA-256 {ours}, its checksum file says {sum}"
            )));
        }
        read_startup(&String::from_utf8_lossy(&file))
    }

    /// CONNECT through the gateway to `target` (`host:port`).
    pub async fn tunnel(&self, to: SocketAddr, fqdn: &str, target: &str) -> Result<Tunnel, BootError> {
        self.within(format!("CONNECT {target}"), async {
            let mut exchange = Exchange::new(self.tls(to, fqdn).await?);
            let response = exchange.request("CONNECT", target, target).await?;
            if response.status != 200 {
                return Err(BootError::Status(format!("CONNECT {target}"), response.status));
            }
            let ahead = || BootError::Content("bytes came through the tunnel before we spoke".to_owned());
            exchange.into_tunnel().ok_or_else(ahead)
        })
        .await
    }

    /// Fetches the site's root over a tunnel to the HQ server's clear port.
    pub async fn trust_file(&self, tunnel: Tunnel, host: &str) -> Result<CertificateDer<'static>, BootError> {
        let pem = self.get(&mut Exchange::new(tunnel), TRUST_FILE, host).await?.body;
        CertificateDer::from_pem_slice(&pem)
            .map_err(|_| BootError::Content("hq_ca.crt holds no certificate".to_owned()))
    }

    /// HTTPS inside a tunnel, with the site's root and our certificate: GETs one path.
    pub async fn inner_get(
        &self,
        tunnel: Tunnel,
        root: &CertificateDer<'static>,
        host: &str,
        path: &str,
    ) -> Result<String, BootError> {
        let settings = tls::client(std::slice::from_ref(root), Some(&self.identity))?;
        let inner = self
            .within(format!("TLS with {host} in the tunnel"), async {
                Ok(tls::start(tunnel, host, &settings).await?)
            })
            .await?;
        self.text(&mut Exchange::new(inner), path, host).await
    }

    async fn tls(&self, to: SocketAddr, fqdn: &str) -> Result<TlsStream<TcpStream>, BootError> {
        Ok(tls::start(tls::tcp(self.ip(), to).await?, fqdn, &self.outside).await?)
    }

    async fn text<S: Stream>(
        &self,
        http: &mut Exchange<S>,
        path: &str,
        host: &str,
    ) -> Result<String, BootError> {
        String::from_utf8(self.get(http, path, host).await?.body)
            .map_err(|_| BootError::Content(format!("{path} is not text")))
    }

    async fn get<S: Stream>(
        &self,
        http: &mut Exchange<S>,
        path: &str,
        host: &str,
    ) -> Result<Response, BootError> {
        let what = format!("GET {path}");
        let response =
            self.within(what.clone(), async { Ok(http.request("GET", path, host).await?) }).await?;
        if response.status == 200 { Ok(response) } else { Err(BootError::Status(what, response.status)) }
    }

    async fn within<T>(
        &self,
        what: String,
        work: impl Future<Output = Result<T, BootError>>,
    ) -> Result<T, BootError> {
        tokio::time::timeout(self.patience, work)
            .await
            .unwrap_or_else(|_| Err(BootError::Slow(what, self.patience)))
    }
}

/// The value of a `name: value` line; `#` starts a comment; names compare without case.
pub fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or("");
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

fn read_startup(text: &str) -> Result<Startup, BootError> {
    let missing = |name: &str| BootError::Content(format!("startup.cfg has no usable line '{name}:'"));
    let servers = field(text, "mivoice config server").ok_or_else(|| missing("mivoice config server"))?;
    let config_servers: Vec<String> =
        servers.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect();
    if config_servers.is_empty() {
        return Err(missing("mivoice config server"));
    }
    let port = field(text, "tunnel port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0);
    Ok(Startup { config_servers, tunnel_port: port.ok_or_else(|| missing("tunnel port"))? })
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_startup_cfg_as_the_guide_writes_it() {
        let text = "\nmivoice config server: 10.0.1.10, 10.0.1.11\nTunnel Port: 6587   # HTTP CONNECT\n\
                    backup outbound proxy:\n";
        let startup = read_startup(text).expect("valid");
        assert_eq!(startup.config_servers, ["10.0.1.10", "10.0.1.11"]);
        assert_eq!(startup.tunnel_port, 6587);
        for bad in
            ["", "mivoice config server: # none\ntunnel port: 1", "mivoice config server: a\ntunnel port: 0"]
        {
            assert!(matches!(read_startup(bad), Err(BootError::Content(_))), "{bad}");
        }
    }
}
