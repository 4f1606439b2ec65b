//! One sentence a verdict, for who has to act.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::verdict::{Party, Verdict, Why};
use crate::anchor::{NotAcceptable, Refusal};
use crate::policy::Transport;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("packets go both ways"),
            Self::NotEnough { packets, seconds: Some(seconds) } => {
                write!(f, "not enough data: {packets} packets in {seconds} s")
            }
            Self::NotEnough { .. } => f.write_str("not enough data: no counters since the answer"),
            Self::Unanswered => f.write_str("the answer has not come yet"),
            Self::Early => f.write_str("early media: the call is not answered yet"),
            Self::Held { by, how } => write!(f, "held by {by} ({how}): no fault"),
            Self::Direct => f.write_str(
                "the phones send to each other directly: nothing of it is seen here, nor any fault in it",
            ),
            Self::PortsTaken { ours: [near, far] } => write!(
                f,
                "the media relay was started anew and could not have the ports {} and {} again, another program has one of \
                 them: nobody is heard until a new offer (hold and resume, or a re-INVITE) gives the call others; keep \
                 media.port_range free of other programs",
                At(*near),
                At(*far)
            ),
            Self::Silent { from: Party::Switch, ours, other, strays, seconds, .. } => {
                let (ours, strays) = (At(*ours), Strays(*strays));
                write!(
                    f,
                    "the switch has sent no packet to {ours} in {seconds} s{strays}, while {other} came from the other end: \
                     look for a route or firewall inside, or for an end behind the switch that sends nothing"
                )
            }
            Self::Silent { from, ours, says, other, strays, seconds } => write!(
                f,
                "{from} has sent no packet to {} in {seconds} s{}, while {other} came from the other end: a NAT or \
                 firewall before it or before this gateway blocks UDP, or it sends nothing; its description names {}",
                At(*ours),
                Strays(*strays),
                At(*says)
            ),
            Self::Unlatched { silent, ours, says, sender, waiting } => write!(
                f,
                "{sender} sends, but its {waiting} packets have nowhere to go: {silent} has sent none to {}, and behind \
                 its NAT it is found only by its first packet (its description says {}): UDP from it is blocked, or it \
                 sends nothing",
                At(*ours),
                At(*says)
            ),
            Self::BothSilent { ours: [near, far], seconds } => write!(
                f,
                "no packet came from either end in {seconds} s: neither to {} nor to {}",
                At(*near),
                At(*far)
            ),
            Self::Stopped { from, seconds, received, hop_limit, both } => {
                let too = if *both { ", nor from the other end" } else { ", while the other end goes on" };
                write!(
                    f,
                    "no packet has come from {from} for {seconds} s or more{too}: {received} came before"
                )?;
                hop_limit.map_or(Ok(()), |average| write!(f, ", with TTL {average}"))?;
                let why = "a NAT or firewall on the way forgot or closed its path, its line broke, or it stays silent by itself";
                write!(f, "; {why}")
            }
            Self::Dropped { from, count, of, why } => dropped(f, *from, *count, *of, why),
            Self::HopLimitLow { to, sent, away, told } => {
                write!(f, "packets leave for {to} with TTL {sent}")?;
                away.map_or(Ok(()), |away| write!(f, ", and it is about {away} routers away"))?;
                match told {
                    0 => {}
                    1 => f.write_str(", and a router on the way answered that it ran out there")?,
                    _ => write!(f, ", and routers on the way answered {told} times that it ran out there")?,
                }
                f.write_str(": they don't arrive; set media.ttl = 64")
            }
            Self::Unreachable { to, receiver, says, told } => write!(
                f,
                "packets for {to} go to {}, from where ICMP answered {told} times that nobody takes them; its description names {}",
                At(*receiver),
                At(*says)
            ),
            Self::Refused { author, why } => refused(f, *author, why),
            Self::Lossy { from, lost, of, percent } => write!(
                f,
                "{lost} of {of} packets from {from} ({percent} %) never came here: they are lost on the way between"
            ),
            Self::Unheard { by, percent, receiver, says } => write!(
                f,
                "{by} reports that {percent} % of what is sent to it at {} is lost on the way; its description names {}",
                At(*receiver),
                At(*says)
            ),
            Self::Profiles { phone, other } => write!(
                f,
                "the phone agreed to {} and the other end to {}: neither can decode what comes",
                profile(*phone),
                profile(*other)
            ),
        }
    }
}

fn dropped(f: &mut fmt::Formatter<'_>, from: Party, count: u64, of: u64, why: &Why) -> fmt::Result {
    match why {
        Why::HopLimit { minimum, average } => write!(
            f,
            "{count} of {of} packets from {from} came with their TTL used up (minimum {minimum}, average {average}) and \
             were dropped, as media.ttl = \"keep\" forwards what is left of it: set media.ttl = 64, or have the phones \
             send 128"
        ),
        Why::Source { came, allowed } => {
            let hint = match from {
                Party::Switch => "let the switch send from the address it names",
                _ => "if its media leaves by another address than its signalling, set media.source = \"any\"",
            };
            write!(
                f,
                "{count} of {of} packets that came for {from} are from an address that may not send, the last from {}; \
                 allowed is {}: {hint}",
                At(*came),
                Addresses(allowed)
            )
        }
        Why::Locked { came, holder } => write!(
            f,
            "{count} of {of} packets for {from} came from {}, but the stream is locked to its first sender {}: see \
             media.sender_limit",
            At(*came),
            At(*holder)
        ),
        Why::Senders { came, most } => write!(
            f,
            "{count} of {of} packets for {from} came from one sender too many, the last from {}: media.max_senders is {most}",
            At(*came)
        ),
        Why::Payload { came, agreed } => {
            write!(f, "{from} sends a payload type that was not agreed")?;
            if let Some(came) = came {
                write!(f, " ({came})")?;
            }
            write!(f, ": {count} of {of} packets were dropped; agreed is {agreed}")
        }
        Why::Rate { most } => write!(
            f,
            "{count} of {of} packets from {from} were dropped, because it sends more than {most} in a second"
        ),
        Why::Malformed => {
            write!(f, "{count} of {of} packets from {from} are not RTP: another service sends to this port")
        }
        Why::StunDtls => write!(
            f,
            "{from} sends only STUN or DTLS, {count} of {of} packets: it waits for ICE or keys from DTLS, which were not \
             agreed"
        ),
        Why::Loop => write!(
            f,
            "{count} of {of} packets from {from} came from our own ports: its media goes in a circle"
        ),
        Why::NoReceiver => write!(
            f,
            "{count} of {of} packets from {from} have nowhere to go: the other end named no address that may be sent to"
        ),
        Why::Send { to } => write!(
            f,
            "{count} of {of} packets from {from} could not be sent on to {}: look at routes and the firewall of this host",
            At(*to)
        ),
    }
}

fn refused(f: &mut fmt::Formatter<'_>, author: Party, why: &Refusal) -> fmt::Result {
    match why {
        Refusal::NotAcceptable(NotAcceptable::Port(port)) => write!(
            f,
            "the description of {author} names port {port}, which no end may name: it was refused; see sdp.allowed_ports"
        ),
        Refusal::Unavailable { .. } => write!(
            f,
            "the description of {author} was refused, because there is {why}: see media.port_range and the limit of \
             descriptors"
        ),
        other => write!(f, "the description of {author} was refused: {other}"),
    }
}

fn profile(transport: Transport) -> &'static str {
    match transport {
        Transport::Rtp => "RTP",
        Transport::Srtp => "SRTP",
        Transport::DtlsSrtp => "SRTP with keys from DTLS",
        Transport::Udptl => "T.38",
        Transport::UdptlDtls => "T.38 in DTLS",
    }
}

/// An address that may be unknown.
struct At(Option<SocketAddr>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("an unknown address"),
        }
    }
}

struct Strays(u64);

impl fmt::Display for Strays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " ({} came from others)", self.0) }
    }
}

struct Addresses<'a>(&'a [IpAddr]);

impl fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
