//! The ceilings that keep memory flat.

use crate::token::is_address_key;

/// Ceilings; each has its own refusal and counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Registered phones in all; more are refused with 503.
    pub bindings: usize,
    /// Registrations on one certificate; more are refused with 403 (load generators use one per phone).
    pub bindings_per_certificate: usize,
    /// Connections from outside on one certificate. One more closes the one that was of no use for longest; it is
    /// closed itself if all others carry registrations, calls or requests.
    pub flows_per_certificate: usize,
    /// Requests in progress; more are refused with 503. Twice as many inside of dialogs; BYE and ACK always pass.
    pub contexts: usize,
    /// Calls that are remembered; new ones are refused with 503.
    pub dialogs: usize,
    /// Calls that phones with one certificate make and that are remembered at once; new ones are refused with 503 (S14).
    pub dialogs_per_certificate: usize,
    /// Registrations from one address (IPv6: one /64) on rows that trust addresses; more are refused with 403. A NAT
    /// may have a whole office behind it.
    pub bindings_per_address: usize,
    /// Connections from one such address, as [`Limits::flows_per_certificate`].
    pub flows_per_address: usize,
    /// Calls that phones at one such address make, as [`Limits::dialogs_per_certificate`].
    pub dialogs_per_address: usize,
    /// Branches of one fork (RFC 5393 Max-Breadth).
    pub breadth: usize,
    /// Names being looked up; more are refused with 503.
    pub lookups: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bindings: 100_000,
            bindings_per_certificate: 10,
            flows_per_certificate: 16,
            contexts: 200_000,
            dialogs: 100_000,
            dialogs_per_certificate: 100,
            bindings_per_address: 1_000,
            flows_per_address: 1_000,
            dialogs_per_address: 1_000,
            breadth: 60,
            lookups: 1_000,
        }
    }
}

/// What one owner may have: a certificate, or an address where there are none. With the name of the ceiling.
impl Limits {
    pub(super) fn bindings_of(&self, owner: &[u8; 32]) -> (usize, &'static str) {
        if is_address_key(owner) {
            (self.bindings_per_address, "bindings_per_address")
        } else {
            (self.bindings_per_certificate, "bindings_per_certificate")
        }
    }

    pub(super) fn flows_of(&self, owner: &[u8; 32]) -> usize {
        if is_address_key(owner) { self.flows_per_address } else { self.flows_per_certificate }
    }

    pub(super) fn dialogs_of(&self, owner: &[u8; 32]) -> (usize, &'static str) {
        if is_address_key(owner) {
            (self.dialogs_per_address, "dialogs_per_address")
        } else {
            (self.dialogs_per_certificate, "dialogs_per_certificate")
        }
    }
}
