//! A listener with mutual TLS whose certificate is exchanged while a connection is open, all in one process:
//! `cargo run -p farend-acme-store --features tokio --example mutual_tls`.
#![allow(clippy::disallowed_methods)] // An example reads the clock.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acme_store::certificate::Credential;
use acme_store::import;
use acme_store::key::{Key, KeyKind};
use acme_store::net::tls::{Acceptor, Connector};
use acme_store::publish::{Application, Certificate, Clients, Dialler, Listener, Versions};
use acme_store::request::{Form, INTERIM_LIFETIME, self_signed};
use acme_store::trust::Trust;
use acme_store::verify::NameRule;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What an administrator would bring: a key and a certificate in one PEM text.
fn brought(ca: &CertifiedIssuer<'_, KeyPair>, name: &str) -> Result<Credential, Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = format!("{}{}", params.signed_by(&key, ca)?.pem(), key.serialize_pem());
    Ok(import::credential(&[pem.as_bytes()], SystemTime::now())?.credential)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Example CA");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let (trust, report) = Trust::import(&[ca.pem().as_bytes()], SystemTime::now())?;
    println!("bundle: {report}");

    // At the first start there is only the interim certificate.
    let form = Form::for_names(&["gw.example".to_owned()]);
    let interim =
        self_signed(&Key::generate(KeyKind::EcdsaP256)?, &form, SystemTime::now(), INTERIM_LIFETIME)?;
    println!("interim: {:?}, self-signed: {}", interim, interim.details().is_self_signed_leaf());
    let outside = Certificate::new(interim);
    let acceptor = Arc::new(Acceptor::new(Listener {
        certificate: Arc::clone(&outside),
        clients: Clients::Known { trust: trust.clone(), required: true },
        versions: Versions::V12AndUp,
        application: Application::Sip,
    })?);
    let connector = Connector::new(Dialler {
        certificate: Some(Certificate::new(brought(&ca, "phone.example")?)),
        trust,
        names: NameRule::NameOrCommonName,
        versions: Versions::V12AndUp,
        application: Application::Sip,
    })?;

    // One handshake after the other; the signed certificate arrives in between.
    for round in ["interim", "signed"] {
        if round == "signed" {
            outside.publish(brought(&ca, "gw.example")?);
        }
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        let acceptor = Arc::clone(&acceptor);
        let server = tokio::spawn(async move {
            let mut accepted = acceptor.accept(ours).await.map_err(|error| error.to_string())?;
            let names = accepted.identity.map(|identity| identity.names.join(", ")).unwrap_or_default();
            accepted
                .stream
                .write_all(format!("hello {names}\n").as_bytes())
                .await
                .map_err(|error| error.to_string())?;
            accepted.stream.shutdown().await.map_err(|error| error.to_string())
        });
        match connector.connect(theirs, "gw.example").await {
            Err(error) => println!("{round}: {error}"),
            Ok(mut connected) => {
                let mut greeting = String::new();
                connected.stream.read_to_string(&mut greeting).await?;
                println!(
                    "{round}: {} with {}: {}",
                    connected.version,
                    connected.identity.subject,
                    greeting.trim()
                );
            }
        }
        match tokio::time::timeout(Duration::from_secs(5), server).await?? {
            Ok(()) => {}
            Err(error) => println!("{round}, seen by the server: {error}"),
        }
    }
    Ok(())
}
