//! SRTP that ends with us (SDP-05): which line of a description is taken, and which keys are ours.
//!
//! Each side has a rule of its own ([`Srtp`]). An author's line can be RTP (`RTP/AVP`), SRTP (`RTP/SAVP` with a key we can
//! follow), or either (`RTP/AVP` with a key). Of lines at one port, which are alternatives (SDP-02), the first is taken that
//! fits the rule best; the others are declined. Where a side is to have SRTP if it can, it is offered `RTP/AVP` with keys
//! (RFC 8643): one line, as the number of lines must not change, and who does not know them passes over them. Who refuses that
//! (488) gets `RTP/SAVP` instead, once ([`Anchor::insist`]); and who has spoken it in this session is offered nothing else.
//!
//! Our keys are a stream's own, one for each suite and side, and stay its own while it lasts: an offer that comes again
//! does not begin anew (RFC 4568 §7.1.4).

use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use serde::{Deserialize, Serialize};

use super::attributes::attributes;
use super::path::Described;
use super::session::{Offer, Session};
use super::{Anchor, NotAcceptable};
use crate::policy::{Srtp, SrtpSides, Transport};
use crate::relay::Side;
use crate::rewrite::{Profile, Secured};
use crate::sdp::{Media, Sdp};
use crate::srtp::{Crypto, Key, Keys, Reached, Suite};

/// What was taken of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settled {
    /// Its profile, as its author has written it.
    profile: Profile,
    /// Its author's key; `None`: it is RTP.
    crypto: Option<Crypto>,
}

/// How far the packets of a stream have come, as the relay has told it last.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) at: Instant,
    pub(super) outside: Option<Reached>,
    pub(super) inside: Option<Reached>,
}

impl Told {
    fn of(&self, side: Side) -> Option<Reached> {
        match side {
            Side::Outside => self.outside,
            Side::Inside => self.inside,
        }
    }
}

/// So old it may be: 2^15 packets on, a sequence number would mean another index. 500 packets a second are a lot.
const FRESH: Duration = Duration::from_secs(60);

/// Our keys of a stream, one a suite in the order of [`Suite::ALL`]; empty while there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Own {
    outside: Vec<Key>,
    inside: Vec<Key>,
}

/// Ends that are offered `RTP/SAVP` where either would do: they have said so last, or refused the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Insists {
    outside: bool,
    inside: bool,
}

impl Insists {
    fn of(self, side: Side) -> bool {
        match side {
            Side::Outside => self.outside,
            Side::Inside => self.inside,
        }
    }

    fn set(&mut self, side: Side, insists: bool) {
        match side {
            Side::Outside => self.outside = insists,
            Side::Inside => self.inside = insists,
        }
    }

    /// An end was described so: the last word counts.
    pub(super) fn hear(&mut self, side: Side, described: &Described) {
        if let Some(settled) = &described.srtp {
            self.set(side, settled.profile.secure);
        }
    }
}

impl Own {
    fn side(&self, side: Side) -> &[Key] {
        match side {
            Side::Outside => &self.outside,
            Side::Inside => &self.inside,
        }
    }

    /// Makes the keys of a side that has none.
    fn make(&mut self, side: Side, random: Option<&mut ChaCha20Rng>) {
        let keys = match side {
            Side::Outside => &mut self.outside,
            Side::Inside => &mut self.inside,
        };
        let Some(random) = random.filter(|_| keys.is_empty()) else { return };
        keys.extend(Suite::ALL.into_iter().filter_map(|suite| {
            let mut octets = zeroize::Zeroizing::new([0; 64]);
            random.fill_bytes(&mut *octets);
            Key::new(suite, octets.get(..suite.key_octets() + suite.salt_octets())?)
        }));
    }

    /// Those of one side, for a stream that has another's ports there.
    pub(super) fn only(&self, side: Side) -> Self {
        let mut own = Self::default();
        match side {
            Side::Outside => own.outside.clone_from(&self.outside),
            Side::Inside => own.inside.clone_from(&self.inside),
        }
        own
    }

    /// Keys that were in use are over: where their packets were in their numbers is known no more.
    pub(super) fn retire(&mut self, side: Side) {
        match side {
            Side::Outside => self.outside.clear(),
            Side::Inside => self.inside.clear(),
        }
    }

    /// What is offered to a side.
    fn offered(&self, side: Side) -> Vec<Crypto> {
        (1..).zip(self.side(side)).map(|(tag, key)| Crypto { tag, key: key.clone() }).collect()
    }

    fn of(&self, side: Side, suite: Suite) -> Option<&Key> {
        self.side(side).iter().find(|key| key.suite() == suite)
    }
}

impl SrtpSides {
    pub(super) fn of(&self, side: Side) -> Srtp {
        match side {
            Side::Outside => self.outside,
            Side::Inside => self.inside,
        }
    }
}

/// Settles the lines of an offer by the rule of its author's side.
pub(super) fn settle(
    rule: Srtp,
    sdp: &Sdp<'_>,
    described: &mut [Option<Described>],
) -> Result<(), NotAcceptable> {
    take(rule, sdp, described, |_| true)
}

/// Settles the lines of an answer: a key counts where it answers one that was offered, which they are in the order of
/// [`Suite::ALL`] (RFC 4568 §5.1.2).
pub(super) fn settle_answer(
    rule: Srtp,
    sdp: &Sdp<'_>,
    described: &mut [Option<Described>],
) -> Result<(), NotAcceptable> {
    let offered = |crypto: &Crypto| {
        (1..).zip(Suite::ALL).any(|(tag, suite)| tag == crypto.tag && suite == crypto.key.suite())
    };
    take(rule, sdp, described, offered)
}

fn take(
    rule: Srtp,
    sdp: &Sdp<'_>,
    described: &mut [Option<Described>],
    usable: impl Fn(&Crypto) -> bool,
) -> Result<(), NotAcceptable> {
    let mut readings = Vec::with_capacity(described.len());
    for (media, line) in sdp.media.iter().zip(described.iter()) {
        let line = line.as_ref().filter(|line| line.transport.is_rtp());
        let place = |line: &Described| line.names_port().then_some(line.rtp);
        readings.push(line.map(|line| (place(line), read(rule, sdp, media, &usable))));
    }
    let mut left = false;
    for (at, line) in described.iter_mut().enumerate() {
        let Some(Some((rtp, reading))) = readings.get(at) else {
            // What is no RTP is none of this.
            left |= line.is_some();
            continue;
        };
        let rank = |reading: &Option<(u8, Settled)>| reading.as_ref().map_or(0, |(rank, _)| *rank);
        let others = readings.iter().enumerate().filter_map(|(other, reading)| {
            let (_, reading) = reading.as_ref().filter(|(place, _)| place.is_some() && place == rtp)?;
            Some((other, rank(reading)))
        });
        // The first of the best.
        let better =
            |(other, their): (usize, u8)| their > rank(reading) || (their == rank(reading) && other < at);
        let settled = reading.as_ref().filter(|_| !others.into_iter().any(better));
        match (settled, line.as_mut()) {
            (Some((_, settled)), Some(described)) => {
                described.srtp = Some(settled.clone());
                // Past us it is in clear.
                described.transport = Transport::Rtp;
                left = true;
            }
            _ => *line = None,
        }
    }
    let asked = readings.iter().any(Option::is_some);
    if asked && !left { Err(NotAcceptable::Srtp) } else { Ok(()) }
}

/// What a line can be under a rule, and how well it fits; `None`: nothing.
fn read(
    rule: Srtp,
    sdp: &Sdp<'_>,
    media: &Media<'_>,
    usable: impl Fn(&Crypto) -> bool,
) -> Option<(u8, Settled)> {
    let profile = Profile::parse(media.transport)?;
    let crypto = || {
        let mut all = attributes(sdp, media.start, media.end).filter_map(Crypto::parse);
        all.find(|crypto| usable(crypto))
    };
    let crypto = if rule == Srtp::Off { None } else { crypto() };
    match (rule, crypto) {
        (Srtp::Required | Srtp::Preferred, Some(crypto)) => {
            Some((2, Settled { profile, crypto: Some(crypto) }))
        }
        (Srtp::Off | Srtp::Preferred, None) if !profile.secure => {
            Some((1, Settled { profile, crypto: None }))
        }
        _ => None,
    }
}

impl Anchor {
    /// `to` has refused the offer it got (SIP: 488). `true`: it was offered RTP that could have been SRTP, and is offered SRTP
    /// alone when the same offer comes again; at most once.
    pub fn insist(&mut self, session: u64, to: Side) -> bool {
        let Some(state) = self.sessions.get_mut(&session) else { return false };
        let offer = state.offer.as_ref().filter(|offer| !offer.answered && offer.from == to.other());
        let either = |offer: &Offer| offer.srtp.is_some_and(|sides| sides.of(to) == Srtp::Preferred);
        let asked = |offer: &Offer| offer.lines.iter().any(|line| line.settled().is_some());
        if state.insists.of(to)
            || self.random.is_none()
            || !offer.is_some_and(|offer| either(offer) && asked(offer))
        {
            return false;
        }
        state.insists.set(to, true);
        self.keep(session);
        true
    }

    /// What the lines of an offer say to `to`, which gets keys of ours.
    pub(super) fn secure_offer(&mut self, id: u64, to: Side) -> Vec<Option<Secured>> {
        let Some(session) = self.sessions.get_mut(&id) else { return Vec::new() };
        let Some(offer) = &session.offer else { return Vec::new() };
        let Some(rule) = offer.srtp.map(|sides| sides.of(to)) else { return Vec::new() };
        let lines: Vec<_> = offer.lines.iter().map(|line| (line.stream, line.settled().cloned())).collect();
        let firm = rule == Srtp::Required || (rule == Srtp::Preferred && session.insists.of(to));
        let secure = |(stream, settled): (Option<u32>, Option<Settled>)| {
            // Declined: as it was, without its author's keys.
            let Some(settled) = settled else { return Some(Secured::default()) };
            let stream = session.stream_mut(stream?)?;
            let mut crypto = Vec::new();
            if rule != Srtp::Off {
                stream.own.make(to, self.random.as_mut());
                crypto = stream.own.offered(to);
            }
            let profile = Profile { secure: firm, ..settled.profile };
            Some(Secured { profile: Some(profile), crypto })
        };
        lines.into_iter().map(secure).collect()
    }

    /// What the lines of an answer say to the author of the offer: its own profile, and our key under its number.
    pub(super) fn secure_answer(&self, id: u64) -> Vec<Option<Secured>> {
        let session = self.sessions.get(&id);
        let Some((session, offer)) = session.and_then(|session| Some((session, session.offer.as_ref()?)))
        else {
            return Vec::new();
        };
        if offer.srtp.is_none() {
            return Vec::new();
        }
        let secure = |line: &super::session::OfferedLine| {
            let Some(settled) = line.settled() else { return Some(Secured::default()) };
            let key = settled.crypto.as_ref().and_then(|theirs| {
                let ours = session.stream(line.stream?)?.own.of(offer.from, theirs.key.suite())?;
                Some(Crypto { tag: theirs.tag, key: ours.clone() })
            });
            Some(Secured { profile: Some(settled.profile), crypto: key.into_iter().collect() })
        };
        offer.lines.iter().map(secure).collect()
    }

    /// The keys of a leg whose end was described so.
    pub(super) fn keys(
        random: Option<&mut ChaCha20Rng>,
        own: &mut Own,
        side: Side,
        described: &Described,
    ) -> Option<Keys> {
        let theirs = described.srtp.as_ref()?.crypto.as_ref()?;
        own.make(side, random);
        let send = own.of(side, theirs.key.suite())?.clone();
        Some(Keys { send, receive: theirs.key.clone(), reached: None })
    }
}

impl super::session::OfferedLine {
    fn settled(&self) -> Option<&Settled> {
        self.described.as_ref()?.srtp.as_ref()
    }
}

impl Session {
    /// A relay begins a stream anew: under keys it goes on behind the numbers that the relay before has told last. Where it has
    /// not told any of late, the stream can't go on, for a number would be used twice: it is silent until the next offer, which
    /// brings other keys of ours.
    pub(super) fn resume_keys(now: Instant, stream: &mut super::session::Stream) {
        let setup = &mut stream.setup;
        if setup.outside.srtp.is_none() && setup.inside.srtp.is_none() {
            return;
        }
        let told = stream.reached.as_ref().filter(|told| now.saturating_duration_since(told.at) < FRESH);
        let resumed = [Side::Outside, Side::Inside].into_iter().all(|side| {
            let Some(keys) = &mut setup.leg_mut(side).srtp else { return true };
            keys.reached = told.and_then(|told| told.of(side));
            keys.reached.is_some()
        });
        if resumed {
            return;
        }
        stream.own = Own::default();
        for side in [Side::Outside, Side::Inside] {
            let leg = setup.leg_mut(side);
            (leg.srtp, leg.live, leg.wanted) = (None, false, false);
        }
    }
}

impl Offer {
    /// The rule of the side that answers.
    pub(super) fn rule_of_answer(&self) -> Option<Srtp> {
        self.srtp.map(|sides| sides.of(self.from.other()))
    }
}
