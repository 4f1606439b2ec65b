//! SRTP of a leg: what comes is opened before anything is made of it, what leaves is sealed last.

use super::command::LegSetup;
use crate::srtp::{Context, Fault, Keys, Opened, Reached};

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
        let keys = setup.srtp.as_deref()?;
        let (mut send, mut receive) = (None, None);
        if let Some(was) = was {
            let same = was.keys.send == keys.send;
            send = was.send.and_then(|send| if same { Some(send) } else { send.send_on(&keys.send) });
            let same = was.keys.receive == keys.receive;
            receive = was
                .receive
                .and_then(|known| if same { Some(known) } else { known.receive_on(&keys.receive) });
        }
        let reached = keys.reached.as_ref();
        let mine =
            || reached.map_or_else(|| Context::new(&keys.send), |at| Context::send_from(&keys.send, at));
        let theirs = || {
            reached.map_or_else(|| Context::new(&keys.receive), |at| Context::receive_from(&keys.receive, at))
        };
        Some(Box::new(Self {
            send: send.or_else(mine),
            receive: receive.or_else(theirs),
            keys: keys.clone(),
        }))
    }

    /// How far both directions have come.
    pub(super) fn reached(&self) -> Option<Reached> {
        Some(Context::reached(self.send.as_ref()?, self.receive.as_ref()?))
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
