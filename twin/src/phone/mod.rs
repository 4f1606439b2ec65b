//! The virtual desk phone: boots from the box ([`boot`]), registers ([`mod@line`]), calls ([`call`]).

pub mod boot;
pub mod call;
pub mod line;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::pki::{Identity, Pki, PkiError};
use crate::plan::Handset;
use crate::tls::{self, SettingsError};

/// A phone out of the box: its factory certificate, and the public roots it trusts.
#[derive(Debug)]
pub struct Phone {
    handset: Handset,
    identity: Identity,
    outside: Arc<ClientConfig>,
    patience: Duration,
}

/// A phone could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    /// No certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// No TLS settings.
    #[error(transparent)]
    Tls(#[from] SettingsError),
}

impl Phone {
    /// A phone with a certificate from the manufacturer. `patience` bounds every wait.
    pub fn new(handset: Handset, pki: &Pki, patience: Duration) -> Result<Self, PhoneError> {
        let identity = pki.phone(handset.mac)?;
        let outside = tls::client(std::slice::from_ref(pki.public_root()), Some(&identity))?;
        Ok(Self { handset, identity, outside, patience })
    }

    /// The same phone in the hands of somebody else: a certificate that names its MAC but comes from a root
    /// the manufacturer does not know, or none at all.
    pub fn impostor(
        handset: Handset,
        pki: &Pki,
        certificate: bool,
        patience: Duration,
    ) -> Result<Self, PhoneError> {
        let identity = pki.forged_phone(handset.mac)?;
        let shown = certificate.then_some(&identity);
        let outside = tls::client(std::slice::from_ref(pki.public_root()), shown)?;
        Ok(Self { handset, identity, outside, patience })
    }

    /// Trusts these roots outside too; for a phone at the site's own network, without a gateway.
    pub fn trusting(
        mut self,
        roots: &[rustls_pki_types::CertificateDer<'static>],
    ) -> Result<Self, PhoneError> {
        self.outside = tls::client(roots, Some(&self.identity))?;
        Ok(self)
    }

    /// Who it is.
    pub fn handset(&self) -> &Handset {
        &self.handset
    }

    /// Its TLS settings towards the gateway.
    pub fn settings(&self) -> &Arc<ClientConfig> {
        &self.outside
    }

    /// The longest it waits for anything.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    fn ip(&self) -> IpAddr {
        self.handset.ip.into()
    }
}
