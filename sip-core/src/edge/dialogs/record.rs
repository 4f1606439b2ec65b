//! What of the calls on a media session outlives the process: a compact text of octets that the media side keeps with the
//! session, unread (decision 13).
//!
//! `version (1)`, the number of dialogs, and of each: the phone's instance (8), the key of its certificate (32), the key of
//! the dialog, a set of flags, and what they announce: the switch, the phone's Contact, its route set. Numbers are big
//! endian, texts carry their length in two octets. Times are not kept: a call that was taken over counts as just refreshed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Dialog, DialogKey};
use crate::flow::{Dial, Side, Transport};
use crate::token::InstanceId;

/// What the first octet says.
const VERSION: u8 = 1;
/// The most octets of a record.
pub(in crate::edge) const MOST: usize = 48 * 1024;
/// Entries of one route set; a message has no more rows.
const ROUTES: usize = 256;

const SWITCH: u8 = 1;
const CONTACT: u8 = 2;
const ROUTE_SET: u8 = 4;
const INSIDE: u8 = 8;
const AFFINITY: u8 = 16;
const KNOWN: u8 = SWITCH | CONTACT | ROUTE_SET | INSIDE | AFFINITY;

/// A call as a record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::edge) struct Kept {
    pub(in crate::edge) key: DialogKey,
    pub(in crate::edge) phone: InstanceId,
    pub(in crate::edge) certificate: [u8; 32],
    pub(in crate::edge) switch: Option<Dial>,
    pub(in crate::edge) contact: Option<Vec<u8>>,
    pub(in crate::edge) routes: Option<Vec<Vec<u8>>>,
}

/// The record of these dialogs. One that does not fit is left out: its call does not outlive us, the others do.
pub(in crate::edge) fn write(dialogs: &[(&DialogKey, &Dialog)]) -> Vec<u8> {
    let mut record = vec![VERSION, 0];
    for (key, dialog) in dialogs {
        let before = record.len();
        let fits = write_one(&mut record, key, dialog).is_some() && record.len() <= MOST;
        let counted = record.get_mut(1).filter(|count| fits && **count < u8::MAX);
        match counted {
            Some(count) => *count += 1,
            None => record.truncate(before),
        }
    }
    record
}

/// `None` when a text is too long for its length.
fn write_one(record: &mut Vec<u8>, key: &DialogKey, dialog: &Dialog) -> Option<()> {
    record.extend_from_slice(&dialog.phone.0.to_be_bytes());
    record.extend_from_slice(&dialog.certificate);
    write_text(record, &key.0)?;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let switch = dialog.switch.as_ref();
    record.push(
        flag(switch.is_some(), SWITCH)
            | flag(dialog.contact.is_some(), CONTACT)
            | flag(dialog.routes.is_some(), ROUTE_SET)
            | flag(switch.is_some_and(|dial| dial.side == Side::Inside), INSIDE)
            | flag(switch.is_some_and(|dial| dial.affinity.is_some()), AFFINITY),
    );
    if let Some(dial) = switch {
        record.push(match dial.transport {
            Transport::Udp => 0,
            Transport::Tcp => 1,
            Transport::Tls => 2,
        });
        match dial.remote.ip() {
            IpAddr::V4(ip) => write_text(record, &ip.octets())?,
            IpAddr::V6(ip) => write_text(record, &ip.octets())?,
        }
        record.extend_from_slice(&dial.remote.port().to_be_bytes());
        if let Some(affinity) = dial.affinity {
            record.extend_from_slice(&affinity.to_be_bytes());
        }
    }
    if let Some(contact) = &dialog.contact {
        write_text(record, contact)?;
    }
    if let Some(routes) = &dialog.routes {
        if routes.len() > ROUTES {
            return None;
        }
        record.extend_from_slice(&u16::try_from(routes.len()).ok()?.to_be_bytes());
        for route in routes {
            write_text(record, route)?;
        }
    }
    Some(())
}

fn write_text(record: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    record.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
    record.extend_from_slice(text);
    Some(())
}

/// The dialogs of a record; `None` when it is none of this version, or not whole.
pub(in crate::edge) fn read(record: &[u8]) -> Option<Vec<Kept>> {
    if record.len() > MOST {
        return None;
    }
    let mut rest = Rest(record);
    if rest.byte()? != VERSION {
        return None;
    }
    let count = rest.byte()?;
    let kept = (0..count).map(|_| read_one(&mut rest)).collect::<Option<Vec<Kept>>>()?;
    rest.0.is_empty().then_some(kept)
}

fn read_one(rest: &mut Rest<'_>) -> Option<Kept> {
    let phone = InstanceId(rest.number()?);
    let certificate = *rest.take::<32>()?;
    let key = rest.text()?;
    // Call-ID and two tags.
    let parts = || key.split(|b| *b == 0);
    if parts().count() != 3 || parts().any(<[u8]>::is_empty) {
        return None;
    }
    let flags = rest.byte()?;
    if flags & !KNOWN != 0 {
        return None;
    }
    let has = |flag: u8| flags & flag != 0;
    let switch = if has(SWITCH) { Some(read_dial(rest, flags)?) } else { None };
    let contact = if has(CONTACT) { Some(rest.text()?.to_vec()) } else { None };
    let routes = if has(ROUTE_SET) {
        let count = usize::from(u16::from_be_bytes(*rest.take()?));
        let routes = (0..count).map(|_| rest.text().map(<[u8]>::to_vec)).collect::<Option<Vec<_>>>();
        Some(routes.filter(|routes| routes.len() <= ROUTES)?)
    } else {
        None
    };
    Some(Kept { key: DialogKey(Arc::from(key)), phone, certificate, switch, contact, routes })
}

fn read_dial(rest: &mut Rest<'_>, flags: u8) -> Option<Dial> {
    let transport = match rest.byte()? {
        0 => Transport::Udp,
        1 => Transport::Tcp,
        2 => Transport::Tls,
        _ => return None,
    };
    let ip = rest.text()?;
    let ip = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return None,
    };
    let remote = SocketAddr::from((ip, u16::from_be_bytes(*rest.take()?)));
    let side = if flags & INSIDE == 0 { Side::Outside } else { Side::Inside };
    let affinity = if flags & AFFINITY == 0 { None } else { Some(rest.number()?) };
    Some(Dial { transport, remote, side, affinity })
}

/// What of a record is not read yet.
struct Rest<'r>(&'r [u8]);

impl<'r> Rest<'r> {
    fn take<const N: usize>(&mut self) -> Option<&'r [u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| *byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(|bytes| u64::from_be_bytes(*bytes))
    }

    fn text(&mut self) -> Option<&'r [u8]> {
        let length = usize::from(u16::from_be_bytes(*self.take()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }
}

#[cfg(test)]
mod tests;
