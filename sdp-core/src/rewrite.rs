//! One description with our address and ports in it.
//!
//! Changed are: the address of `o=`; the address of every `c=`; the port of each `m=`; ports and addresses of `a=rtcp`.
//! An `a=rtcp` is added only where our RTCP port is not RTP plus one (RFC 3605 §2.1). All other bytes stay.
//!
//! *Direct.* A line whose media goes past the relay (MED-03) says the address and the ports of the phone at the other end.
//! `o=` stays ours: it must not change while a session lasts (RFC 3264 §8). Where other lines keep the relay, such a line
//! gets a `c=` of its own.
//!
//! *Hold.* A connection address 0.0.0.0 (RFC 2543 hold) becomes our address like any other, so that the far side keeps a
//! real address to send to; direction attributes are never touched.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use bytes::Bytes;

use crate::sdp::{Edit, Media, Rtcp, Sdp};

/// What a media line is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Declined: port 0 (RFC 3264 §6).
    Decline,
    /// Our ports.
    Relay {
        /// For RTP.
        rtp: u16,
        /// For RTCP.
        rtcp: u16,
    },
    /// Not ours: where the phone at the other end said it receives (MED-03).
    Direct {
        /// RTP.
        rtp: SocketAddr,
        /// RTCP.
        rtcp: SocketAddr,
    },
}

impl Placement {
    /// The address that the line is to name, where `ours` stands for the relay; `None`: it names none that matters.
    fn address(&self, ours: IpAddr) -> Option<IpAddr> {
        match self {
            Self::Decline => None,
            Self::Relay { .. } => Some(ours),
            Self::Direct { rtp, .. } => Some(rtp.ip()),
        }
    }
}

/// Writes `address` and the placements, one a media line; a line without one is declined.
pub fn rewrite(sdp: &Sdp<'_>, address: IpAddr, placements: &[Placement]) -> Bytes {
    let shared = shared_address(sdp, address, placements);
    let mut writer = Writer { edit: Edit::new(sdp.bytes), address, shared, line_end: sdp.line_end() };
    writer.replace(&sdp.origin.address_range, host_text(address));
    if let Some(connection) = &sdp.connection {
        writer.replace(&connection.address_range, host_text(shared));
    }
    for rtcp in &sdp.rtcp {
        // Outside a stream it has no port of ours to name; 9 is "discard".
        writer.rtcp(rtcp, 9, address);
    }
    for (at, media) in sdp.media.iter().enumerate() {
        writer.media(media, placements.get(at).copied().unwrap_or(Placement::Decline));
    }
    writer.edit.into_bytes()
}

/// What `c=` of the session says: the address all live lines share, else ours.
fn shared_address(sdp: &Sdp<'_>, ours: IpAddr, placements: &[Placement]) -> IpAddr {
    let live = sdp.media.iter().zip(placements).filter(|(media, _)| media.port != 0);
    let mut named = live.filter_map(|(_, placement)| placement.address(ours));
    let first = named.next().unwrap_or(ours);
    if named.all(|address| address == first) { first } else { ours }
}

fn host_text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("IP4 {ip}"),
        IpAddr::V6(ip) => format!("IP6 {ip}"),
    }
}

struct Writer<'a> {
    edit: Edit<'a>,
    address: IpAddr,
    shared: IpAddr,
    line_end: &'static str,
}

impl Writer<'_> {
    fn media(&mut self, media: &Media<'_>, placement: Placement) {
        // What its author declined stays declined, whatever is wished for it.
        let placement = if media.port == 0 { Placement::Decline } else { placement };
        let address = placement.address(self.address).unwrap_or(self.address);
        match &media.connection {
            Some(connection) => self.replace(&connection.address_range, host_text(address)),
            None if placement != Placement::Decline && address != self.shared => {
                self.connection(media, address)
            }
            None => {}
        }
        // A multiplexed description may name the RTP port twice (RFC 8035 §2.1).
        let same = media.rtcp_mux && named_rtcp(media) == Some(media.port);
        let (rtp, rtcp) = match placement {
            Placement::Decline => (0, (self.address, 9).into()),
            Placement::Relay { rtp, .. } if same => (rtp, (address, rtp).into()),
            Placement::Relay { rtp, rtcp } => (rtp, (address, rtcp).into()),
            Placement::Direct { rtp, .. } if same => (rtp.port(), rtp),
            Placement::Direct { rtp, rtcp } => (rtp.port(), rtcp),
        };
        self.replace(&media.port_range, rtp.to_string());
        for line in &media.rtcp {
            self.rtcp(line, rtcp.port(), rtcp.ip());
        }
        if media.rtcp.is_empty() && rtp != 0 {
            if rtcp.ip() != address {
                self.append(media, &format!("a=rtcp:{} IN {}", rtcp.port(), host_text(rtcp.ip())));
            } else if rtp.checked_add(1) != Some(rtcp.port()) {
                self.append(media, &format!("a=rtcp:{}", rtcp.port()));
            }
        }
    }

    /// Gives a stream a `c=` of its own: behind `m=` and `i=` (RFC 8866 §9).
    fn connection(&mut self, media: &Media<'_>, address: IpAddr) {
        let section = self.edit.original().get(media.start..media.end).unwrap_or_default();
        let mut lines = section.split_inclusive(|b| *b == b'\n');
        let head = lines.next().map_or(0, <[u8]>::len);
        let title = lines.next().filter(|line| line.starts_with(b"i=")).map_or(0, <[u8]>::len);
        self.insert(media.start + head + title, &format!("c=IN {}", host_text(address)));
    }

    /// A value against the grammar is replaced as well: whoever reads it more kindly than we do must not find a foreign port.
    fn rtcp(&mut self, line: &Rtcp, port: u16, address: IpAddr) {
        let text = match line.host {
            Some(host) if host.address.is_some() => format!("{port} IN {}", host_text(address)),
            _ => port.to_string(),
        };
        self.replace(&line.value_range, text);
    }

    /// Adds a line at the end of a stream's section, whose last line may lack its end.
    fn append(&mut self, media: &Media<'_>, line: &str) {
        self.insert(media.end, line);
    }

    /// Adds a line behind the one that ends at `at`, which may lack its end.
    fn insert(&mut self, at: usize, line: &str) {
        let ended = self.edit.original().get(..at).is_some_and(|bytes| bytes.ends_with(b"\n"));
        let text =
            if ended { format!("{line}{}", self.line_end) } else { format!("{}{line}", self.line_end) };
        self.replace(&(at..at), text);
    }

    fn replace(&mut self, range: &Range<usize>, text: String) {
        // Ranges of one description never overlap: each is a field of a line of its own.
        let replaced = self.edit.replace(range.clone(), text);
        debug_assert!(replaced, "fields of one description overlap");
    }
}

fn named_rtcp(media: &Media<'_>) -> Option<u16> {
    media.rtcp.first()?.host.map(|host| host.port)
}

#[cfg(test)]
mod tests;
