//! Inside addresses and route sets as phones see them, remembered: a PBX writes the same few Contacts into every message,
//! and sealing one costs as much as the rest of a short message's way.

use std::collections::HashMap;
use std::sync::Arc;

use super::Edge;
use super::uri_codec::{SEALED_CONTACT, SEALED_ROUTES};

/// Texts remembered of each kind; when there are as many, all are forgotten.
const TEXTS: usize = 4096;
/// The longest that are.
const LENGTH: usize = 512;

/// Before the text of a Contact whose host is no place of ours; no URI begins so.
const STRANGE: &[u8] = b"!";

/// What went in and what came out, under the keys as they are: all is forgotten when those change.
struct Recent<V: ?Sized>(HashMap<Box<[u8]>, Arc<V>>);

impl<V: ?Sized> Recent<V> {
    fn get(&mut self, text: &[u8], make: impl FnOnce() -> Option<Arc<V>>) -> Option<Arc<V>> {
        if let Some(known) = self.0.get(text) {
            return Some(known.clone());
        }
        let made = make()?;
        if text.len() <= LENGTH {
            if self.0.len() >= TEXTS {
                self.0.clear();
            }
            self.0.insert(text.into(), made.clone());
        }
        Some(made)
    }
}

impl<V: ?Sized> Default for Recent<V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// One kind of sealed text, both ways.
#[derive(Default)]
struct Kind {
    sealed: Recent<str>,
    opened: Recent<[u8]>,
}

/// All kinds.
#[derive(Default)]
pub(super) struct Seals {
    contacts: Kind,
    routes: Kind,
    addresses: Kind,
}

/// Which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seal {
    /// A Contact, in `pc=`.
    Contact,
    /// A route set, in `rs=`.
    Routes,
    /// A phone's name, in its address towards the PBX.
    Address,
}

impl Seal {
    fn label(self) -> &'static str {
        match self {
            Self::Contact => SEALED_CONTACT,
            Self::Routes => SEALED_ROUTES,
            Self::Address => "e1",
        }
    }
}

impl Seals {
    fn kind(&mut self, seal: Seal) -> &mut Kind {
        match seal {
            Seal::Contact => &mut self.contacts,
            Seal::Routes => &mut self.routes,
            Seal::Address => &mut self.addresses,
        }
    }
}

impl Edge {
    /// See [`Keyring::seal`](crate::token::Keyring::seal).
    pub(super) fn sealed(&self, seal: Seal, text: &[u8]) -> Option<Arc<str>> {
        let make = || self.keys.seal(seal.label(), text).map(Arc::from);
        self.seals.borrow_mut().kind(seal).sealed.get(text, make)
    }

    /// A Contact for a phone. `known` says whether its host is a place of ours; of another one the text says so, since who
    /// made it is anybody's guess: a PBX passes on what phones write (a 302).
    pub(super) fn sealed_contact(&self, text: &[u8], known: impl FnOnce() -> bool) -> Option<Arc<str>> {
        let make = || {
            let label = Seal::Contact.label();
            let marked = if known() { None } else { Some([STRANGE, text].concat()) };
            self.keys.seal(label, marked.as_deref().unwrap_or(text)).map(Arc::from)
        };
        self.seals.borrow_mut().contacts.sealed.get(text, make)
    }

    /// The Contact that [`Edge::sealed_contact`] hid, and whether its host was a place of ours then.
    pub(super) fn opened_contact(&self, token: &[u8]) -> Option<(Vec<u8>, bool)> {
        let text = self.opened(Seal::Contact, token)?;
        Some(match text.strip_prefix(STRANGE) {
            Some(strange) => (strange.to_vec(), false),
            None => (text.to_vec(), true),
        })
    }

    /// The name of a phone, sealed by the key its binding was born with. The name stands for one binding, so that it is
    /// remembered without that key until the keys change.
    pub(super) fn sealed_address(&self, born: Option<u8>, name: &[u8]) -> Option<Arc<str>> {
        let make = || self.keys.seal_born(born, Seal::Address.label(), name).map(Arc::from);
        self.seals.borrow_mut().addresses.sealed.get(name, make)
    }

    /// See [`Keyring::open`](crate::token::Keyring::open). Only what is genuine is remembered.
    pub(super) fn opened(&self, seal: Seal, token: &[u8]) -> Option<Arc<[u8]>> {
        let make = || self.keys.open(seal.label(), token).map(Arc::from);
        self.seals.borrow_mut().kind(seal).opened.get(token, make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_right() {
        let mut recent: Recent<str> = Recent::default();
        let shout = |text: &str| Some(Arc::from(text.to_uppercase()));
        for n in 0..3 * TEXTS {
            let text = format!("text {n}");
            assert_eq!(recent.get(text.as_bytes(), || shout(&text)).as_deref(), Some(&*text.to_uppercase()));
            assert!(recent.0.len() <= TEXTS);
        }
        let last = format!("text {}", 3 * TEXTS - 1);
        assert!(recent.get(last.as_bytes(), || panic!("forgotten")).is_some());
        let before = recent.0.len();
        assert_eq!(recent.get(b"bad", || None), None);
        assert!(recent.get(&[b'x'; LENGTH + 1], || shout("x")).is_some());
        assert_eq!(recent.0.len(), before);
    }
}
