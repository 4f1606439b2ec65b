//! What an agent keeps of each dialog, and why it sent a request.

use super::event::{DialogKey, Label};
use crate::dialog::{self, Dialog};
use crate::flow::{Dial, Side, Target, Transport};
use crate::transaction::{ClientKey, ServerKey};
use crate::uri::Uri;

/// How a dialog's requests travel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) target: Target,
    pub(super) transport: Transport,
    pub(super) side: Side,
}

/// One dialog and what goes on in it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) dialog: Dialog,
    pub(super) way: Way,
    /// Our BYE is on its way.
    pub(super) ending: bool,
    /// Our INVITE that is not answered, or whose 2xx is not acknowledged.
    pub(super) inviting: Option<ClientKey>,
    /// Their INVITE that we have not answered, or whose answer they have not acknowledged.
    pub(super) invited: Option<ServerKey>,
    /// An UPDATE of ours, one of theirs.
    pub(super) updating: bool,
    pub(super) updated: Option<ServerKey>,
    /// Reliable provisional responses to our INVITE.
    pub(super) received: dialog::Received,
    /// One of them brought an offer and waits for its PRACK.
    pub(super) offered: Option<u32>,
    /// End it as soon as the 2xx is acknowledged: a callee may not before (RFC 3261 §15).
    pub(super) bye_due: bool,
}

/// Why a request other than INVITE was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    pub(super) label: Option<Label>,
    pub(super) dialog: Option<DialogKey>,
    pub(super) kind: Kind,
    /// A challenge was answered.
    pub(super) again: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Plain,
    Update,
    Bye,
}

impl Held {
    /// How the next request within it travels.
    pub(super) fn next_way(&self) -> Way {
        toward(self.dialog.next_hop(), self.way)
    }
}

/// Where a request within a dialog goes: its connection; without one the next hop, if that is an address
/// (RFC 3261 §12.2.1.1, §8.1.2), else wherever the dialog began.
fn toward(next_hop: &[u8], way: Way) -> Way {
    let Some(dial) = dial_of(next_hop, way) else { return way };
    let target = match way.target {
        Target::Flow(flow) => Target::Flow(flow),
        Target::Datagram { listener, .. } if dial.transport == Transport::Udp => {
            Target::Datagram { listener, remote: dial.remote }
        }
        Target::Datagram { .. } | Target::Dial(_) => Target::Dial(dial),
    };
    let transport = if matches!(target, Target::Flow(_)) { way.transport } else { dial.transport };
    Way { target, transport, side: way.side }
}

/// The address that a URI names literally.
pub(super) fn dial_of(uri: &[u8], way: Way) -> Option<Dial> {
    let uri = Uri::parse(uri).ok()?;
    let address = uri.host()?.ip()?;
    let transport = match uri.param("transport") {
        Some(text) if text.eq_ignore_ascii_case(b"udp") => Transport::Udp,
        Some(text) if text.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
        Some(text) if text.eq_ignore_ascii_case(b"tls") => Transport::Tls,
        // Over what it came: a Contact without the parameter says UDP by the letter (RFC 3263 §4.1) and means this.
        _ => way.transport,
    };
    let affinity = if let Target::Dial(dial) = way.target { dial.affinity } else { None };
    let remote = (address, uri.port().unwrap_or_else(|| transport.default_port())).into();
    Some(Dial { transport, remote, side: way.side, affinity })
}
