//! SRTP of a leg: what comes is opened before anything is made of it, what leaves is sealed last.

use super::command::LegSetup;
use crate::srtp::{Context, Fault, Keys, Opened};

/// Both directions of a leg under keys. What can't be used as a key opens and seals nothing.
#[derive(Debug)]
pub(super) struct Crypt {
    keys: Keys,
    send: Option<Context>,
    receive: Option<Context>,
}

impl Crypt {
    /// What a leg has now. A key that stays keeps where its packets are in their numbers.
    pub(super) fn renewed(was: Option<Box<Self>>, setup: &LegSetup) -> Option<Box<Self>> {
        let keys = setup.srtp.as_ref()?;
        let (mut send, mut receive) = (None, None);
        if let Some(was) = was {
            send = was.send.filter(|_| was.keys.send == keys.send);
            receive = was.receive.filter(|_| was.keys.receive == keys.receive);
        }
        Some(Box::new(Self {
            send: send.or_else(|| Context::new(&keys.send)),
            receive: receive.or_else(|| Context::new(&keys.receive)),
            keys: keys.clone(),
        }))
    }

    pub(super) fn open(&self, packet: &mut Vec<u8>) -> Result<Opened, Fault> {
        self.receive.as_ref().ok_or(Fault::Auth)?.unprotect(packet)
    }

    pub(super) fn accept(&mut self, opened: Opened) {
        if let Some(receive) = &mut self.receive {
            receive.accept(opened);
        }
    }

    pub(super) fn seal(&mut self, packet: &mut Vec<u8>) -> Result<(), Fault> {
        self.send.as_mut().ok_or(Fault::Auth)?.protect(packet)
    }
}
