//! Addresses that get no word with the machine: asked before a byte is read.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::edge::Event;
use crate::edge::guard::Suspect;

/// The addresses that are blocked now, of one machine or of all shards together. Clones share it. While it is empty a
/// question costs one load.
#[derive(Clone, Debug, Default)]
pub struct Blocklist {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    // Chosen by attackers: the hasher has a secret key.
    blocked: RwLock<HashSet<Suspect>>,
}

impl Blocklist {
    /// Whether an address, or its IPv6 network, is blocked.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.shared.count.load(Ordering::Relaxed) > 0
            && self
                .shared
                .blocked
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&Suspect::address(address))
    }

    /// Follows a machine's blocks of addresses. Certificates are its own matter: they are not known before a handshake.
    pub fn heed(&self, event: &Event) {
        let (suspect, add) = match event {
            Event::Blocked { suspect, .. } => (suspect, true),
            Event::Unblocked { suspect, .. } => (suspect, false),
            _ => return,
        };
        if let Suspect::Address(_) = suspect {
            let mut blocked = self.shared.blocked.write().unwrap_or_else(PoisonError::into_inner);
            if add {
                blocked.insert(*suspect);
            } else {
                blocked.remove(suspect);
            }
            self.shared.count.store(blocked.len(), Ordering::Relaxed);
        }
    }
}

impl PartialEq for Blocklist {
    /// Whether they share the list.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Blocklist {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::event::Release;
    use crate::edge::guard::Offence;

    #[test]
    fn it_follows_the_machine_and_knows_networks() {
        let list = Blocklist::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let suspect = Suspect::address(address("2001:db8::1"));
        list.heed(&Event::Blocked { suspect, subject: None, offence: Offence::Flood, seconds: 1 });
        let key = Suspect::Certificate([1; 32]);
        list.heed(&Event::Blocked { suspect: key, subject: None, offence: Offence::Flood, seconds: 1 });
        assert!(list.clone().holds(address("2001:db8::2")) && !list.holds(address("2001:db9::1")));
        list.heed(&Event::Unblocked { suspect, why: Release::Over });
        assert!(!list.holds(address("2001:db8::2")));
    }
}
