//! What can be broken on purpose, and which step must then fail.

use std::fmt;
use std::str::FromStr;

/// One part switched off. All but [`Fault::ReHoming`] are switched off in the gateway's configuration by
/// whoever starts the play; a re-homing to a switch that is none is made by the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `sip.tag_routing.enabled = false`: the burst can not be told apart.
    TagRouting,
    /// Media goes nowhere, or not through the gateway.
    Relay,
    /// CONNECT to the site is not allowed.
    Tunnel,
    /// The outside certificate comes from a root no phone knows ([`crate::pki::Files::outside_stranger`]).
    Certificate,
    /// `startup.cfg` is missing.
    File,
    /// The 301 names an address where no switch is.
    ReHoming,
}

/// No part of that name.
#[derive(Debug, thiserror::Error)]
#[error("no part '{0}'; parts: tag routing, relay, tunnel, certificate, file, re-homing")]
pub struct UnknownFault(String);

impl Fault {
    /// Every part.
    pub const ALL: [Self; 6] =
        [Self::TagRouting, Self::Relay, Self::Tunnel, Self::Certificate, Self::File, Self::ReHoming];

    /// The step that must fail, as the timeline names it.
    pub const fn step(self) -> &'static str {
        match self {
            Self::TagRouting => "tag routing",
            Self::Relay => "relay",
            Self::Tunnel => "tunnel",
            Self::Certificate => "certificate",
            Self::File => "file",
            Self::ReHoming => "re-homing",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.step())
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;

    /// Blank, dash and underscore are one; case does not matter.
    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_', ' '], "");
        Self::ALL
            .into_iter()
            .find(|fault| plain(fault.step()) == plain(text))
            .ok_or_else(|| UnknownFault(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse::<Fault>().ok(), Some(fault));
        }
        assert_eq!("Tag-Routing".parse::<Fault>().ok(), Some(Fault::TagRouting));
        assert_eq!("rehoming".parse::<Fault>().ok(), Some(Fault::ReHoming));
        assert!("dns".parse::<Fault>().is_err());
    }
}
