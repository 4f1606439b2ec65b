//! One description with our address and ports in it.
//!
//! Changed are: the address of `o=`; the address of every `c=`; the port of each `m=`; ports and addresses of `a=rtcp`.
//! An `a=rtcp` is added only where our RTCP port is not RTP plus one (RFC 3605 §2.1). All other bytes stay.
//!
//! *Hold.* A connection address 0.0.0.0 (RFC 2543 hold) becomes our address like any other, so that the far side keeps a
//! real address to send to; direction attributes are never touched.

use std::net::IpAddr;
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
}

/// Writes `address` and the placements, one a media line; a line without one is declined.
pub fn rewrite(sdp: &Sdp<'_>, address: IpAddr, placements: &[Placement]) -> Bytes {
    let mut writer =
        Writer { edit: Edit::new(sdp.bytes), host: host_text(address), line_end: sdp.line_end() };
    writer.replace(&sdp.origin.address_range, writer.host.clone());
    if let Some(connection) = &sdp.connection {
        writer.replace(&connection.address_range, writer.host.clone());
    }
    for rtcp in &sdp.rtcp {
        // Outside a stream it has no port of ours to name; 9 is "discard".
        writer.rtcp(rtcp, 9);
    }
    for (at, media) in sdp.media.iter().enumerate() {
        writer.media(media, placements.get(at).copied().unwrap_or(Placement::Decline));
    }
    writer.edit.into_bytes()
}

fn host_text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("IP4 {ip}"),
        IpAddr::V6(ip) => format!("IP6 {ip}"),
    }
}

struct Writer<'a> {
    edit: Edit<'a>,
    host: String,
    line_end: &'static str,
}

impl Writer<'_> {
    fn media(&mut self, media: &Media<'_>, placement: Placement) {
        if let Some(connection) = &media.connection {
            self.replace(&connection.address_range, self.host.clone());
        }
        let (rtp, rtcp) = match placement {
            Placement::Decline => (0, 9),
            // What its author declined stays declined, whatever is wished for it.
            Placement::Relay { .. } if media.port == 0 => (0, 9),
            // A multiplexed description may name the RTP port twice (RFC 8035 §2.1).
            Placement::Relay { rtp, .. } if media.rtcp_mux && named_rtcp(media) == Some(media.port) => {
                (rtp, rtp)
            }
            Placement::Relay { rtp, rtcp } => (rtp, rtcp),
        };
        self.replace(&media.port_range, rtp.to_string());
        for line in &media.rtcp {
            self.rtcp(line, rtcp);
        }
        if media.rtcp.is_empty() && rtp != 0 && rtp.checked_add(1) != Some(rtcp) {
            self.append(media, &format!("a=rtcp:{rtcp}"));
        }
    }

    /// A value against the grammar is replaced as well: whoever reads it more kindly than we do must not find a foreign port.
    fn rtcp(&mut self, line: &Rtcp, port: u16) {
        let text = match line.host {
            Some(host) if host.address.is_some() => format!("{port} IN {}", self.host),
            _ => port.to_string(),
        };
        self.replace(&line.value_range, text);
    }

    /// Adds a line at the end of a stream's section, whose last line may lack its end.
    fn append(&mut self, media: &Media<'_>, line: &str) {
        let ended = self.edit.original().get(..media.end).is_some_and(|bytes| bytes.ends_with(b"\n"));
        let text =
            if ended { format!("{line}{}", self.line_end) } else { format!("{}{line}", self.line_end) };
        self.replace(&(media.end..media.end), text);
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
