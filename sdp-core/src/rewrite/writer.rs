//! The walk: line by line from the description to what leaves.

use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;

use super::section::{Host, Ice, RtcpLine, Section, is_rtp, own_ice};
use super::{Orders, Placement, hold, ice};
use crate::policy::bit;
use crate::sdp::{Connection, Direction, Line, Lines, Media, Rtcp, Sdp, attribute};

/// Writes `sdp` by `orders` behind what `out` holds, which is nothing.
pub(super) fn write(sdp: &Sdp<'_>, orders: &Orders<'_>, out: &mut Vec<u8>) {
    let placement = |at: usize| orders.placements.get(at).copied().unwrap_or(Placement::Decline);
    let mut lines = sdp.media.iter().enumerate();
    let relayed_ice = lines.any(|(at, media)| own_ice(sdp, orders, at, media).is_some());
    // What the session says of ICE holds for lines that stay their author's.
    let foreign = |at| matches!(placement(at), Placement::Pass);
    let keeps_addresses = (0..sdp.media.len()).any(foreign);
    let keeps_ice = !orders.rules.strip_ice && keeps_addresses;
    let shared = shared(sdp, orders);
    let mut writer = Writer {
        sdp,
        shared,
        orders,
        out,
        host: 0..0,
        end: 0,
        keeps_ice,
        keeps_addresses,
        relayed_ice,
        unended: false,
    };
    let mut section: Option<Section<'_, '_>> = None;
    let (mut next, mut rtcp) = (0, 0);
    for line in Lines::new(sdp.bytes).flatten() {
        if line.kind == b'm' {
            writer.finish(section.as_mut());
            section = sdp.media.get(next).map(|media| Section::new(sdp, orders, next, media));
            if let Some(section) = section.as_mut() {
                section.secured = orders.srtp.get(next).and_then(Option::as_ref);
                section.owes_host &= section.host != shared;
            }
            (next, rtcp) = (next + 1, 0);
        }
        match section.as_mut() {
            None => writer.session_line(&line, &mut rtcp),
            Some(section) => writer.media_line(&line, section, &mut rtcp),
        }
        writer.end = line.end;
    }
    // A description whose last line has no end gets none for it.
    writer.unended = !sdp.bytes.get(..writer.end).is_some_and(|lines| lines.ends_with(b"\n"));
    writer.finish(section.as_mut());
    let rest = sdp.bytes.get(writer.end..).unwrap_or_default();
    writer.out.extend_from_slice(rest);
}

/// What `c=` of the session says: the address that all live lines share, else ours.
fn shared(sdp: &Sdp<'_>, orders: &Orders<'_>) -> Host {
    let live = sdp.media.iter().zip(orders.placements).filter(|(media, _)| media.port != 0);
    let mut named = live.filter_map(|(_, placement)| match placement {
        Placement::Decline => None,
        Placement::Relay { .. } | Placement::Pass => Some(Host::Ours),
        Placement::Direct { rtp, .. } => Some(Host::Other(rtp.ip())),
    });
    let first = named.next().unwrap_or(Host::Ours);
    if named.all(|host| host == first) { first } else { Host::Ours }
}

struct Writer<'w, 'a> {
    sdp: &'w Sdp<'a>,
    orders: &'w Orders<'w>,
    out: &'w mut Vec<u8>,
    /// Where our address stands in `out`, once it was written.
    host: Range<usize>,
    /// How far the original was taken.
    end: usize,
    /// What `c=` of the session says.
    shared: Host,
    keeps_ice: bool,
    keeps_addresses: bool,
    relayed_ice: bool,
    /// The last line written has no end.
    unended: bool,
}

impl<'a> Writer<'_, 'a> {
    fn session_line(&mut self, line: &Line<'a>, rtcp: &mut usize) {
        match line.kind {
            b'o' => self.address(line, &self.sdp.origin.address_range, Host::Ours),
            b'c' => match &self.sdp.connection {
                Some(connection) => {
                    let awaits =
                        |media: &Media<'_>| media.connection.is_none() && self.sdp.awaits_address(media);
                    let holds = !self.sdp.media.iter().any(awaits);
                    self.connection(line, connection, (self.shared, holds));
                }
                None => self.copy(line.start..line.end),
            },
            b'a' if line.value.starts_with(b"rtcp:") => {
                // Outside a stream it has no port of ours to name; 9 is "discard" (RFC 863).
                let port = RtcpLine::Port(9, Host::Ours);
                let kept = if self.orders.rules.rtcp_attribute { port } else { RtcpLine::Drop };
                self.rtcp_line(line, self.sdp.rtcp.get(*rtcp), kept, Host::Ours);
                *rtcp += 1;
            }
            b'a' if attribute::is_ice(line.value) && !self.keeps_ice => {}
            b'a' if attribute::names_address(line.value) && !self.keeps_addresses => {}
            _ => self.other(line),
        }
    }

    fn media_line(&mut self, line: &Line<'a>, section: &mut Section<'_, 'a>, rtcp: &mut usize) {
        if section.owes_host && !matches!(line.kind, b'm' | b'i') {
            self.owed_host(section);
        }
        match line.kind {
            b'm' => self.head(line, section),
            b'c' => match &section.media.connection {
                Some(connection) => {
                    let holds = !self.sdp.awaits_address(section.media);
                    self.connection(line, connection, (section.host, holds));
                }
                None => self.copy(line.start..line.end),
            },
            b'a' if line.value.starts_with(b"rtcp:") => {
                self.rtcp_line(line, section.media.rtcp.get(*rtcp), section.rtcp, section.host);
                *rtcp += 1;
            }
            b'a' if attribute::is_ice(line.value) && section.ice != Ice::Keep => {}
            b'a' if attribute::names_address(line.value) && section.host != Host::Author => {}
            b'a' => self.attribute(line, section),
            _ => self.other(line),
        }
    }

    fn attribute(&mut self, line: &Line<'a>, section: &mut Section<'_, 'a>) {
        if let Some(direction) = section.direction
            && Direction::parse(line.value).is_some()
        {
            section.saw_direction = true;
            return self.value(line, direction.text());
        }
        if let Some(ptime) = section.ptime
            && line.value.starts_with(b"ptime:")
        {
            section.saw_ptime = true;
            let digits = line.value_range().start + b"ptime:".len()..line.value_range().end;
            self.copy(line.start..digits.start);
            let _ = write!(self.out, "{ptime}");
            return self.copy(digits.end..line.end);
        }
        let keys = [&b"crypto:"[..], b"cryptoscale:"];
        if section.secured.is_some() && keys.iter().any(|start| line.value.starts_with(start)) {
            // Keys of its author: on the other side they would open nothing. (The second form is Lync's.)
            return;
        }
        if section.removed != 0
            && let Some((_, payload_type, _)) = attribute::of_payload(line.value)
            && section.removed & bit(payload_type) != 0
        {
            return;
        }
        self.other(line);
    }

    /// A line nobody here understands: it stays, unless it is on the list.
    fn other(&mut self, line: &Line<'a>) {
        let text = self.sdp.bytes.get(line.start..line.end).unwrap_or_default();
        let strips = |start: &String| text.starts_with(start.as_bytes());
        // The version is the first line of every description (RFC 8866 §5.1).
        if line.kind == b'v' || !self.orders.rules.strip_lines.iter().any(strips) {
            self.out.extend_from_slice(text);
        }
    }

    /// `m=`.
    fn head(&mut self, line: &Line<'a>, section: &Section<'_, 'a>) {
        let media = section.media;
        self.copy(line.start..media.port_range.start);
        match section.port {
            Some(port) => drop(write!(self.out, "{port}")),
            None => self.copy(media.port_range.clone()),
        }
        let end = line.value_range().end;
        let mut from = media.port_range.end;
        if let Some(profile) = section.secured.and_then(|secured| secured.profile) {
            let blanks = self.sdp.bytes.get(from..end).unwrap_or_default();
            let blanks = blanks.iter().take_while(|octet| **octet == b' ').count();
            self.copy(from..from + blanks);
            self.out.extend_from_slice(profile.token().as_bytes());
            from += blanks + media.transport.len();
        }
        if section.removed == 0 {
            self.copy(from..end);
        } else {
            self.copy(from..media.formats_start);
            let stays = |format: &&[u8]| {
                attribute::payload_type(format).is_none_or(|number| section.removed & bit(number) == 0)
            };
            for (at, format) in media.formats.split(|b| *b == b' ').filter(stays).enumerate() {
                if at > 0 {
                    self.out.push(b' ');
                }
                self.out.extend_from_slice(format);
            }
        }
        if let Some(payload_type) = section.dtmf {
            let _ = write!(self.out, " {payload_type}");
        }
        self.copy(end..line.end);
    }

    /// `holds`: 0.0.0.0 would be a hold there, not an address that follows.
    fn connection(&mut self, line: &Line<'a>, connection: &Connection<'a>, (host, holds): (Host, bool)) {
        let zero = holds
            && connection.host.is_unspecified()
            && hold::keeps_zero(self.orders.part, self.orders.rules);
        match host {
            Host::Ours if zero => {
                let text = self.sdp.bytes.get(connection.address_range.clone()).unwrap_or_default();
                let same = text.starts_with(b"IP4") == self.orders.address.is_ipv4();
                if same {
                    return self.copy(line.start..line.end);
                }
                let zero = if self.orders.address.is_ipv4() { "IP4 0.0.0.0" } else { "IP6 ::" };
                self.copy(line.start..connection.address_range.start);
                self.out.extend_from_slice(zero.as_bytes());
                self.copy(connection.address_range.end..line.end);
            }
            Host::Author => self.copy(line.start..line.end),
            _ => self.address(line, &connection.address_range, host),
        }
    }

    /// The `c=` of a line whose address is not the session's any more (RFC 8866 §5.7).
    fn owed_host(&mut self, section: &mut Section<'_, 'a>) {
        section.owes_host = false;
        self.begin();
        self.out.extend_from_slice(b"c=IN ");
        match (section.host, &self.sdp.connection) {
            (Host::Author, Some(connection)) => self.copy(connection.address_range.clone()),
            (host, _) => self.host(host),
        }
        self.finish_line();
    }

    /// A value against the grammar is replaced as well: whoever reads it more kindly than we do must not find a foreign port.
    fn rtcp_line(&mut self, line: &Line<'a>, rtcp: Option<&Rtcp>, becomes: RtcpLine, section: Host) {
        let (port, host) = match becomes {
            RtcpLine::Keep => return self.copy(line.start..line.end),
            RtcpLine::Drop => return,
            RtcpLine::Port(port, host) => (port, host),
        };
        let Some(rtcp) = rtcp else { return };
        self.copy(line.start..rtcp.value_range.start);
        let _ = write!(self.out, "{port}");
        let named = rtcp.host.is_some_and(|host| host.address.is_some());
        match host {
            Host::Other(_) => {
                self.out.extend_from_slice(b" IN ");
                self.host(host);
            }
            _ if named => {
                self.out.extend_from_slice(b" IN ");
                self.host(section);
            }
            _ => {}
        }
        self.copy(rtcp.value_range.end..line.end);
    }

    /// What a section gets at its end.
    fn finish(&mut self, section: Option<&mut Section<'_, 'a>>) {
        let Some(section) = section else {
            if self.relayed_ice {
                self.line(b"a=ice-lite");
            }
            return;
        };
        if section.owes_host {
            // Nothing followed the `m=`.
            self.owed_host(section);
        }
        if let Some(ptime) = section.ptime.filter(|_| !section.saw_ptime) {
            self.text(format_args!("a=ptime:{ptime}"));
        }
        if let Some(direction) = section.direction.filter(|_| !section.saw_direction) {
            self.text(format_args!("a={}", direction.text()));
        }
        self.owed_rtcp(section);
        if let Some(payload_type) = section.dtmf {
            self.text(format_args!("a=rtpmap:{payload_type} telephone-event/8000"));
            // Digits, star, pound, A to D (RFC 4733 §3.2).
            self.text(format_args!("a=fmtp:{payload_type} 0-15"));
        }
        if let Ice::Ours(credentials, rtp, rtcp) = section.ice {
            let ports = (self.orders.address, rtp, rtcp);
            let part = (self.orders.part, section.media.rtcp_mux);
            ice::attributes(&credentials, ports, part, |line| self.line(line));
        }
        for crypto in section.secured.iter().flat_map(|secured| &secured.crypto) {
            self.text(format_args!("a={}", crypto.write()));
        }
    }

    fn owed_rtcp(&mut self, section: &Section<'_, 'a>) {
        let RtcpLine::Port(rtcp, host) = section.rtcp else { return };
        let Some(rtp) = section.port.filter(|port| *port != 0) else { return };
        let next = rtp.checked_add(1) == Some(rtcp) && matches!(host, Host::Ours);
        if section.media.rtcp.is_empty() && is_rtp(section.media) && !next {
            self.begin();
            let _ = write!(self.out, "a=rtcp:{rtcp}");
            if matches!(host, Host::Other(_)) {
                self.out.extend_from_slice(b" IN ");
                self.host(host);
            }
            self.finish_line();
        }
    }

    /// A line with another address in the place of the one it has.
    fn address(&mut self, line: &Line<'a>, range: &Range<usize>, host: Host) {
        self.copy(line.start..range.start);
        self.host(host);
        self.copy(range.end..line.end);
    }

    /// A line with another value.
    fn value(&mut self, line: &Line<'a>, text: &str) {
        self.copy(line.start..line.value_range().start);
        self.out.extend_from_slice(text.as_bytes());
        self.copy(line.value_range().end..line.end);
    }

    /// `IP4 192.0.2.1`.
    fn host(&mut self, host: Host) {
        let other = match host {
            Host::Other(ip) => Some(ip),
            _ => None,
        };
        if other.is_none() && !self.host.is_empty() {
            return self.out.extend_from_within(self.host.clone());
        }
        let from = self.out.len();
        let _ = match other.unwrap_or(self.orders.address) {
            IpAddr::V4(ip) => write!(self.out, "IP4 {ip}"),
            IpAddr::V6(ip) => write!(self.out, "IP6 {ip}"),
        };
        if other.is_none() {
            self.host = from..self.out.len();
        }
    }

    fn copy(&mut self, range: Range<usize>) {
        self.out.extend_from_slice(self.sdp.bytes.get(range).unwrap_or_default());
    }

    /// A line of ours.
    fn line(&mut self, text: &[u8]) {
        self.begin();
        self.out.extend_from_slice(text);
        self.finish_line();
    }

    fn text(&mut self, text: std::fmt::Arguments<'_>) {
        self.begin();
        let _ = self.out.write_fmt(text);
        self.finish_line();
    }

    /// Before a line of ours: the last one of the description may lack its end.
    fn begin(&mut self) {
        if !self.out.ends_with(b"\n") {
            self.out.extend_from_slice(self.sdp.line_end().as_bytes());
        }
    }

    fn finish_line(&mut self) {
        if self.unended {
            return;
        }
        self.out.extend_from_slice(self.sdp.line_end().as_bytes());
    }
}
