//! A gateway on loopback that serves a start-up file and tunnels to one echo server, and a phone that asks.
//!
//! `cargo run -p farend-tunnel --features tokio --example gateway`
#![allow(clippy::disallowed_methods, reason = "an example owns its tasks")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tunnel::Peer;
use tunnel::event::Event;
use tunnel::files::{ChecksumStyle, FileGroup, FileSource};
use tunnel::net::{
    BoxFuture, Config, Endpoint, Limits, Repository, Stream, SystemDial, SystemResolve, Tunnel, Upstream,
};
use tunnel::policy::{Networks, Policy, Ports, Rule};
use tunnel::repository::{Remote, Row, Server};

/// A real gateway speaks TLS here and checks the certificate against `remote.server_name`.
struct PlainUpstream;

impl Upstream for PlainUpstream {
    fn connect<'a>(
        &'a self,
        _: &'a Remote,
        server: &'a Server,
    ) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let gateway = listener.local_addr()?;
    let echo = echo().await?;

    let content = Bytes::from(format!(
        "mivoice config server: 10.0.1.10\ntunnel port: {}\nbackup outbound proxy:\n",
        gateway.port()
    ));
    let startup = FileSource { path: "/startup.cfg".to_owned(), content };
    let files = FileGroup::new([startup], ChecksumStyle::default())?;
    let rule =
        Rule { allow_to: Networks::parse(["127.0.0.1"])?, ports: Ports::parse([echo.port().to_string()])? };
    let endpoint = Endpoint::new(Config {
        tunnel: Some(Tunnel {
            // `lab` because this example lives on loopback, which is never a target otherwise.
            policy: Policy {
                rules: vec![rule],
                own_listeners: vec![gateway],
                lab: true,
                ..Policy::default()
            },
            resolve: Arc::new(SystemResolve),
            dial: Arc::new(SystemDial),
        }),
        repository: Some(Repository {
            rows: vec![Row { files: Some(Arc::new(files)), ..Row::default() }],
            upstream: Arc::new(PlainUpstream),
        }),
        limits: Limits::default(),
        observer: Arc::new(|event: Event| println!("        {event:?}")),
    });
    tokio::spawn(async move {
        while let Ok((stream, remote)) = listener.accept().await {
            tokio::spawn(endpoint.serve(stream, Peer { remote, local: gateway, identity: None }));
        }
    });

    for path in ["/startup.cfg", "/startup.cfg.sha256", "/..%2fetc/passwd"] {
        println!("GET {path}\n{}", ask(gateway, &format!("GET {path} HTTP/1.0\r\n\r\n")).await?);
    }
    for target in [echo, gateway, SocketAddr::from(([169, 254, 169, 254], 80))] {
        let request =
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nhello through the tunnel\n");
        println!("CONNECT {target}\n{}", ask(gateway, &request).await?);
    }
    Ok(())
}

async fn ask(gateway: SocketAddr, request: &str) -> Result<String, Box<dyn Error>> {
    let mut phone = TcpStream::connect(gateway).await?;
    phone.write_all(request.as_bytes()).await?;
    phone.shutdown().await?;
    let mut answer = String::new();
    phone.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn echo() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    Ok(address)
}
