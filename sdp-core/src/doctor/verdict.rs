//! What the doctor says: a value with the facts it rests on, and one sentence for who has to act.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::anchor::{NotAcceptable, Refusal};
use crate::policy::Transport;

/// Who is at an end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Party {
    /// The phone whose call it is.
    Phone,
    /// The phone at the other end, where two streams are joined.
    OtherPhone,
    /// The PBX, or whoever is behind it.
    Switch,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Phone => "the phone",
            Self::OtherPhone => "the other phone",
            Self::Switch => "the switch",
        })
    }
}

/// How a party asked for silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// `a=sendonly`.
    SendOnly,
    /// `a=recvonly`.
    ReceiveOnly,
    /// `a=inactive`.
    Inactive,
    /// `c=0.0.0.0` (RFC 2543).
    Nowhere,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SendOnly => "a=sendonly",
            Self::ReceiveOnly => "a=recvonly",
            Self::Inactive => "a=inactive",
            Self::Nowhere => "c=0.0.0.0",
        })
    }
}

/// What is the matter with a stream. [`fmt::Display`] gives one sentence without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Packets go both ways.
    Healthy,
    /// Too few packets, or too short a time, to say anything.
    NotEnough {
        /// Packets that came, of both ends.
        packets: u64,
        /// Seconds since the answer, where it and counters since then are there.
        seconds: Option<u64>,
    },
    /// The answer has not come yet.
    Unanswered,
    /// The call is not answered yet: what is heard now is early media, often one way.
    Early,
    /// One way, or none, as agreed.
    Held {
        /// Who asked for it.
        by: Party,
        /// How.
        how: Hold,
    },
    /// The phones send to each other, past the relay.
    Direct,
    /// The relay was started anew and could not have the stream's ports again.
    PortsTaken {
        /// Where our descriptions ask its ends to send.
        ours: [Option<SocketAddr>; 2],
    },
    /// Nothing came from one end.
    Silent {
        /// From whom.
        from: Party,
        /// Where our description asks it to send.
        ours: Option<SocketAddr>,
        /// Where its own description wants packets.
        says: Option<SocketAddr>,
        /// RTP packets that the other end sent.
        other: u64,
        /// Packets that came from others.
        strays: u64,
        /// In how many seconds.
        seconds: u64,
    },
    /// One end sends, and nobody knows where the other one is: it is behind NAT and has not sent a packet.
    Unlatched {
        /// Who is silent.
        silent: Party,
        /// Where our description asks it to send.
        ours: Option<SocketAddr>,
        /// Where its own description wants packets.
        says: Option<SocketAddr>,
        /// Who sends.
        sender: Party,
        /// Packets that could not go on.
        waiting: u64,
    },
    /// Nothing came from either end.
    BothSilent {
        /// Where our descriptions ask them to send.
        ours: [Option<SocketAddr>; 2],
        /// In how many seconds.
        seconds: u64,
    },
    /// It did come and has stopped.
    Stopped {
        /// From whom.
        from: Party,
        /// For how many seconds at least.
        seconds: u64,
        /// RTP packets that came before.
        received: u64,
        /// Average TTL they came with.
        hop_limit: Option<u8>,
        /// Whether the other end has stopped too.
        both: bool,
    },
    /// Packets come and are dropped.
    Dropped {
        /// From whom.
        from: Party,
        /// How many.
        count: u64,
        /// Of so many that came.
        of: u64,
        /// Why.
        why: Why,
    },
    /// Packets leave with a TTL that does not reach.
    HopLimitLow {
        /// Towards whom.
        to: Party,
        /// Average TTL that they leave with.
        sent: u8,
        /// How many routers away it is, by the TTL that its own packets come with, where that says enough.
        away: Option<u8>,
        /// How often routers on the way said so.
        told: u64,
    },
    /// Who should get packets answers that it does not take them.
    Unreachable {
        /// Who.
        to: Party,
        /// Where we send to.
        receiver: Option<SocketAddr>,
        /// Where its own description wants packets.
        says: Option<SocketAddr>,
        /// How often it was said.
        told: u64,
    },
    /// It comes, with many packets missing.
    Lossy {
        /// From whom.
        from: Party,
        /// How many did not come.
        lost: u64,
        /// Of so many that its sequence numbers count.
        of: u64,
        /// The same in per cent.
        percent: u8,
    },
    /// An end reports that it does not get what we send.
    Unheard {
        /// Who.
        by: Party,
        /// How much of it is lost, by its last report, in per cent.
        percent: u8,
        /// Where we send to.
        receiver: Option<SocketAddr>,
        /// Where its own description wants packets.
        says: Option<SocketAddr>,
    },
    /// A description was not carried on.
    Refused {
        /// Whose.
        author: Party,
        /// Why.
        why: Refusal,
    },
    /// One end was agreed as RTP, the other as SRTP, or with keys from elsewhere.
    Profiles {
        /// The phone's.
        phone: Transport,
        /// The other end's.
        other: Transport,
    },
}

/// Why the packets of one end are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Their TTL is used up.
    HopLimit {
        /// The smallest.
        minimum: u8,
        /// The average.
        average: u8,
    },
    /// They come from an address that may not send.
    Source {
        /// From where the last one came.
        came: Option<SocketAddr>,
        /// Who may.
        allowed: Vec<IpAddr>,
    },
    /// The port is locked to the first sender (`media.sender_limit`).
    Locked {
        /// From where the last one came.
        came: Option<SocketAddr>,
        /// To whom it is locked.
        holder: Option<SocketAddr>,
    },
    /// There are as many senders as allowed (`media.max_senders`).
    Senders {
        /// From where the last one came.
        came: Option<SocketAddr>,
        /// How many may send.
        most: u8,
    },
    /// A payload type that nobody named.
    Payload {
        /// Which.
        came: Option<u8>,
        /// What was agreed, by name.
        agreed: String,
    },
    /// Over the packet rate of one sender.
    Rate {
        /// Packets a second.
        most: u32,
    },
    /// Not RTP.
    Malformed,
    /// STUN or DTLS where none was agreed.
    StunDtls,
    /// From one of our own ports: a loop.
    Loop,
    /// The other end has no address yet, or takes nothing.
    NoReceiver,
    /// The kernel refused to send them on.
    Send {
        /// To where.
        to: Option<SocketAddr>,
    },
}

impl Verdict {
    /// Whether somebody should act.
    pub fn is_trouble(&self) -> bool {
        !matches!(
            self,
            Self::Healthy
                | Self::NotEnough { .. }
                | Self::Unanswered
                | Self::Early
                | Self::Held { .. }
                | Self::Direct
        )
    }

    /// A name for programs, which stays.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::NotEnough { .. } => "not-enough-data",
            Self::Unanswered => "unanswered",
            Self::Early => "early-media",
            Self::Held { .. } => "held",
            Self::Direct => "direct",
            Self::PortsTaken { .. } => "ports-taken",
            Self::Silent { .. } => "silent",
            Self::Unlatched { .. } => "unlatched",
            Self::BothSilent { .. } => "both-silent",
            Self::Stopped { .. } => "stopped",
            Self::HopLimitLow { .. } => "hop-limit-low",
            Self::Unreachable { .. } => "unreachable",
            Self::Profiles { .. } => "profiles-differ",
            Self::Refused { .. } => "description-refused",
            Self::Lossy { .. } => "loss",
            Self::Unheard { .. } => "not-heard",
            Self::Dropped { why, .. } => match why {
                Why::HopLimit { .. } => "hop-limit-used-up",
                Why::Source { .. } => "wrong-source",
                Why::Locked { .. } => "locked",
                Why::Senders { .. } => "too-many-senders",
                Why::Payload { .. } => "wrong-payload-type",
                Why::Rate { .. } => "too-fast",
                Why::Malformed => "not-rtp",
                Why::StunDtls => "stun-or-dtls",
                Why::Loop => "loop",
                Why::NoReceiver => "no-receiver",
                Why::Send { .. } => "not-sent",
            },
        }
    }
}

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
