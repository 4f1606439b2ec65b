//! Who misbehaves, and what follows: rates, failed credentials, forged tokens, scanners; blocks that end by themselves.
//!
//! Peers are told apart by their certificate where it was verified, else by their address (an IPv6 peer by its /64), so that
//! one phone's typing error does not shut out the office it shares an address with (SEC-01). Verified peers inside are
//! never limited or blocked: a PBX speaks for all its phones at once.
//!
//! Nothing here knows a socket. Blocks of addresses leave as [`Event::Blocked`](super::Event::Blocked) and
//! [`Event::Unblocked`](super::Event::Unblocked), for whoever holds the listeners.

mod blocks;
pub mod signature;
mod sources;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

pub use blocks::BlockState;
pub(super) use blocks::Blocks;
pub(super) use sources::{Admission, Sources};

use crate::flow::{Peer, Side};
use crate::resolve::Networks;

/// All settings of `[guard]` that the machine acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Failed credentials: `[guard.auth]` (SEC-01).
    pub auth: Auth,
    /// How much one source may send: `[guard.limits]` (SEC-03).
    pub rates: Rates,
    /// Scanners and forgeries: `[guard.ids]` (SEC-04).
    pub ids: Ids,
    /// Addresses that are neither limited nor blocked, only reported: `guard.allow` (SEC-05).
    pub allow: Networks,
}

/// Brute-force protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Whether failures are counted at all.
    pub enabled: bool,
    /// So many failures within [`Auth::window`] block their source. At least 1.
    pub failures: u32,
    /// How long a failure counts. It is the window of all other offences, too.
    pub window: Duration,
    /// How long the first block lasts; every further one twice as long as the one before, up to [`Auth::longest`].
    pub block: Duration,
    /// The longest block. A source that was good for as long after its block starts anew.
    pub longest: Duration,
}

impl Default for Auth {
    /// 10 failures in 60 s block 300 s, doubling to a day.
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 10,
            window: Duration::from_secs(60),
            block: Duration::from_secs(300),
            longest: Duration::from_secs(24 * 3600),
        }
    }
}

/// What one source may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Messages of any kind.
    pub messages: Rate,
    /// INVITEs that begin a call or change one; they count as messages, too.
    pub invites: Rate,
    /// An address that is trusted without certificates may have so many phones behind it: each socket there has the rates
    /// above, and the address so many times as much.
    pub phones: u32,
}

impl Rates {
    fn of_address(&self) -> Self {
        let many = |rate: Rate| Rate {
            per_second: rate.per_second.saturating_mul(self.phones),
            burst: rate.burst.saturating_mul(self.phones),
        };
        Self { messages: many(self.messages), invites: many(self.invites), phones: self.phones }
    }
}

impl Default for Rates {
    /// 100 messages a second with bursts of 200; 20 INVITEs a second with bursts of 40; fifty times as much for an address.
    fn default() -> Self {
        Self {
            messages: Rate { per_second: 100, burst: 200 },
            invites: Rate { per_second: 20, burst: 40 },
            phones: 50,
        }
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What flows in. At least 1.
    pub per_second: u32,
    /// What it holds. At least 1.
    pub burst: u32,
}

/// Intrusion signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Whether they are looked for.
    pub enabled: bool,
    /// Literal texts; a User-Agent that contains one, in any case, gives a scanner away.
    pub user_agents: Vec<String>,
    /// So many offences of one kind that is no proof by itself (junk, forged tokens, floods, users that don't exist) within
    /// [`Auth::window`] block their source.
    pub offences: u32,
}

impl Default for Ids {
    fn default() -> Self {
        let user_agents = signature::SCANNERS.iter().map(|text| (*text).to_owned()).collect();
        Self { enabled: true, user_agents, offences: 20 }
    }
}

/// Whom an offence is put down to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Suspect {
    /// Whoever has this certificate's key: SHA-256 of its SubjectPublicKeyInfo.
    Certificate([u8; 32]),
    /// Whoever sends from this IPv4 address, or from this IPv6 network of 64 bits.
    Address(IpAddr),
}

impl Suspect {
    /// By certificate, if it was verified; else by address.
    pub fn of(peer: &Peer) -> Self {
        match &peer.identity {
            Some(identity) if peer.verified => Self::Certificate(identity.key_hash),
            _ => Self::address(peer.remote.ip()),
        }
    }

    /// An IPv6 peer has 2^64 addresses to come from: what counts is the network.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
            v4 => v4,
        })
    }
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(key) => {
                f.write_str("certificate ")?;
                key.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "{address}/64"),
        }
    }
}

/// What somebody did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Offence {
    /// Credentials that were refused, or a REGISTER that met 403 or 404 (SEC-01).
    Credentials,
    /// A token that is not ours, or not the sender's (SIP-13).
    ForgedToken,
    /// More than [`Rates`] allow (SEC-03).
    Flood,
    /// What is no SIP (SIP-10).
    Junk,
    /// Many numbers that nobody has (SEC-04).
    DigitScan,
    /// The User-Agent of a scanner (SEC-04).
    Scanner,
    /// SQL in a user (SEC-04).
    Injection,
    /// None: an operator wished the block, or another machine found the reason.
    Told,
}

impl Offence {
    /// How logs and counters call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::ForgedToken => "forged token",
            Self::Flood => "flood",
            Self::Junk => "junk",
            Self::DigitScan => "digit scan",
            Self::Scanner => "scanner",
            Self::Injection => "injection",
            Self::Told => "told",
        }
    }
}

/// Everything the edge remembers about sources.
#[derive(Default)]
pub(super) struct Guard {
    pub(super) sources: Sources,
    pub(super) blocks: Blocks,
}

impl Settings {
    /// Whether a peer is outside the guard's reach altogether: the PBX.
    pub(super) fn trusts(&self, peer: &Peer) -> bool {
        peer.side == Side::Inside && peer.verified
    }

    /// Whether a peer is reported but never limited or blocked.
    pub(super) fn spares(&self, peer: &Peer) -> bool {
        self.trusts(peer) || (!self.allow.is_empty() && self.allow.contains(peer.remote.ip()))
    }

    /// How many offences of a kind within the window it takes.
    fn patience(&self, offence: Offence) -> u32 {
        match offence {
            Offence::Credentials => self.auth.failures,
            Offence::Scanner | Offence::Injection | Offence::Told => 1,
            Offence::ForgedToken | Offence::Flood | Offence::Junk | Offence::DigitScan => self.ids.offences,
        }
    }

    /// Whether offences of a kind are counted.
    pub(super) fn minds(&self, offence: Offence) -> bool {
        match offence {
            Offence::Credentials => self.auth.enabled,
            Offence::Told => true,
            _ => self.ids.enabled,
        }
    }
}

impl Guard {
    /// Notes an offence. Says whether it was one too many.
    pub(super) fn offend(
        &mut self,
        now: Instant,
        suspect: Suspect,
        offence: Offence,
        settings: &Settings,
    ) -> bool {
        let patience = settings.patience(offence);
        self.sources.offend(now, suspect, offence, patience, settings.auth.window)
    }
}

#[cfg(test)]
mod tests;
