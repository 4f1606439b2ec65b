//! What is known of each call's media: who it is, what was described and what was counted, so that the doctor can say what
//! is the matter with it while it runs and when it has ended.
//!
//! Signalling adds a few lines of facts to it under a lock held for that; reports come in beside signalling, and only there
//! verdicts are made. Everything in it goes with its session, but for the latest troubled ones.

mod book;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sdp_core::anchor::{self, Anchor};
use sdp_core::doctor::{self, Line, Party, Verdict};
use sdp_core::relay::{Command, Report, Side, Silence, StreamId};
use sdp_core::sdp::Limits;
use sip_core::edge::Event;
use sip_core::edge::event::{Reason, Taken};
use sip_core::media::{Role, SessionId};
use sip_core::token::InstanceId;

use self::book::{Book, Call, Seen};
use crate::status::{self, CALLS, CallStatus, Past, Summary};

/// After the end of a call its last counters come, those of the other phone too.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long what is known of a call is kept for the other phone's.
const MEMORY: Duration = Duration::from_secs(10);

/// All calls. Clones are one.
#[derive(Clone)]
pub(crate) struct Calls {
    book: Arc<Mutex<Book>>,
    anchor: Arc<Mutex<Anchor>>,
}

impl Calls {
    /// No call yet. Nothing here waits for the anchor while it holds its own lock.
    pub(crate) fn new(anchor: Arc<Mutex<Anchor>>) -> Self {
        Self { book: Arc::default(), anchor }
    }

    /// A description of `side` was taken: what [`read`] made of it.
    pub(crate) fn described(
        &self,
        now: Instant,
        id: u64,
        side: Side,
        role: Role,
        who: [IpAddr; 2],
        lines: Vec<Line>,
    ) {
        let mut book = self.book();
        let call = book.calls.entry(id).or_default();
        call.began.get_or_insert(now);
        let [from, to] = who;
        let (phone, switch) = if side == Side::Outside { (from, to) } else { (to, from) };
        (call.phone, call.switch) = (Some(phone), Some(switch));
        let Some(known) = call.lines.get_mut(usize::from(side == Side::Inside)) else { return };
        let changed = *known != lines;
        *known = lines;
        // A refresh that says the same again begins nothing.
        if role == Role::Answer && (changed || call.agreed.is_none()) {
            call.agreed = Some(now);
        }
    }

    /// Sessions of an earlier process were taken over: what is kept of them.
    pub(crate) fn adopt(&self, now: Instant, anchor: &Anchor, sessions: impl Iterator<Item = u64>) {
        let mut book = self.book();
        for id in sessions {
            let Some((phone, said)) = anchor.said(id) else { continue };
            let call = book.calls.entry(id).or_default();
            call.began = Some(now);
            (call.phone, call.switch, call.lines) = (phone, said.switch, said.lines.clone());
            let streams = anchor.streams(id).filter_map(|stream| Some((stream.id.index, stream.joined?)));
            call.joins = streams.collect();
        }
    }

    /// A session is over of which nobody wants to hear.
    pub(crate) fn forget(&self, id: u64) {
        self.book().calls.remove(&id);
    }

    /// The relay could not have the ports of a stream again, and the anchor knows it.
    pub(crate) fn lost(&self, stream: StreamId) {
        self.seen(&[stream]).iter().for_each(|seen| self.book().diagnose(seen, &[]));
    }

    /// A description was refused.
    pub(crate) fn refused(&self, now: Instant, id: u64, side: Side, who: [IpAddr; 2], why: &anchor::Refusal) {
        let [from, to] = who;
        let (party, phone) = if side == Side::Outside { (Party::Phone, from) } else { (Party::Switch, to) };
        let verdict = Verdict::Refused { author: party, why: *why };
        let mut book = self.book();
        let mut unknown = Call { phone: Some(phone), ..Call::default() };
        let call = book.calls.get_mut(&id).unwrap_or(&mut unknown);
        let past = call.past(id, &verdict);
        book.remember(now, past);
    }

    /// What the relay is told.
    pub(crate) fn told(&self, command: &Command) {
        match command {
            Command::Join { a, b } => self.book().join(*a, *b),
            Command::Part { stream } => self.book().part(*stream),
            // Whoever closes a stream parts it too; but then the call is over, and the other phone still was its far end.
            _ => {}
        }
    }

    /// The session ends: to be called before the anchor forgets it.
    pub(crate) fn ending(&self, now: Instant, id: u64) {
        let last: Vec<Seen> = self.anchor().streams(id).map(|state| Seen::new(&state)).collect();
        let mut book = self.book();
        let Some(call) = book.calls.get_mut(&id) else { return };
        if call.last.is_none() {
            call.last = Some(last);
            book.leaving.push_back((now, id));
        }
    }

    /// What the relay says.
    pub(crate) fn heard(&self, now: Instant, report: &Report) {
        match report {
            Report::Statistics { stream, outside, inside, .. } => {
                if let Some(call) = self.book().calls.get_mut(&stream.session) {
                    call.count(now, stream.index, [**outside, **inside]);
                }
            }
            Report::Silent { stream, silence: Silence::OneWay(side), seconds, outside, inside, .. } => {
                if let Some(call) = self.book().calls.get_mut(&stream.session) {
                    call.count(now, stream.index, [**outside, **inside]);
                    call.silent(stream.index, *side, Duration::from_secs((*seconds).into()));
                }
                let seen = self.seen(&[*stream]);
                let peers: Vec<StreamId> = seen.iter().filter_map(|stream| stream.joined).collect();
                let peers = self.seen(&peers);
                seen.iter().for_each(|stream| self.book().diagnose(stream, &peers));
            }
            _ => {}
        }
    }

    /// What signalling says; `tag` knows the phones.
    #[allow(clippy::disallowed_methods, reason = "an event has no time of its own")]
    pub(crate) fn heed<'t>(&self, event: &Event, tag: impl Fn(&InstanceId) -> &'t str) {
        match event {
            Event::CallStarted { call_id, phone, session: Some(session), .. } => {
                self.answered(Instant::now(), *session, call_id, tag(phone));
            }
            Event::TakenOver { calls } => {
                for Taken { session, call_id, phone, .. } in calls {
                    self.answered(Instant::now(), *session, call_id, tag(phone));
                }
            }
            Event::QualityReported { call_id, remote, quality } => {
                self.book().reported(call_id, remote.ip(), *quality);
            }
            Event::Refused { reason: Reason::Media, phone, call_id, remote, .. } => {
                self.book().name_refused(
                    remote.ip(),
                    call_id,
                    phone.as_ref().and_then(|phone| phone.tag.as_deref()),
                );
            }
            _ => {}
        }
    }

    fn answered(&self, now: Instant, SessionId(id): SessionId, call_id: &str, tag: &str) {
        let runs = self.anchor().record(id).is_some();
        let mut book = self.book();
        // Nobody would tell the end of one that was refused with its first description, and is over by now.
        if !runs && !book.calls.contains_key(&id) {
            return;
        }
        let call = book.calls.entry(id).or_default();
        call.began.get_or_insert(now);
        call.answered.get_or_insert(now);
        call.agreed.get_or_insert(now);
        (call.call_id, call.tag) = (Some(call_id.into()), Some(tag.into()));
    }

    /// Time has passed: calls that ended are judged.
    pub(crate) fn tick(&self, now: Instant) {
        let mut book = self.book();
        let due: Vec<u64> = {
            let judged = book.judged;
            let due = book.leaving.iter().skip(judged);
            let over = |left: Instant| now.saturating_duration_since(left) >= FAREWELL;
            due.take_while(|(left, _)| over(*left)).map(|(_, id)| *id).collect()
        };
        book.judged += due.len();
        for id in due {
            // A phone that is still there is known by the anchor, which is not asked under this lock.
            let peers = book.peers(id);
            drop(book);
            let peers = self.seen(&peers);
            book = self.book();
            book.farewell(now, id, &peers);
        }
        while let Some((left, id)) = book.leaving.front().copied()
            && book.judged > 0
            && now.saturating_duration_since(left) >= MEMORY
        {
            book.leaving.pop_front();
            book.judged -= 1;
            book.calls.remove(&id);
        }
    }

    /// The running calls and those that ended in trouble.
    pub(crate) fn status(&self, now: Instant) -> status::Calls {
        let mut calls: Vec<CallStatus> =
            self.running().into_iter().filter_map(|id| self.call(now, id)).collect();
        calls.sort_by_key(|call| (!call.is_troubled(), std::cmp::Reverse(call.seconds), call.session));
        let left_out = calls.len().saturating_sub(CALLS);
        calls.truncate(CALLS);
        let aged = |(at, past): &(Instant, Past)| {
            let ago = now.saturating_duration_since(*at).as_secs();
            Past { ago, ..past.clone() }
        };
        let past = self.book().past.iter().map(aged).collect();
        status::Calls { calls, left_out, past }
    }

    /// The same in numbers.
    pub(crate) fn count(&self, now: Instant, summary: &mut Summary) {
        let ids = self.running();
        summary.calls = ids.len();
        let troubled = |id: &u64| self.call(now, *id).is_some_and(|call| call.is_troubled());
        summary.troubled = ids.iter().filter(|id| troubled(id)).count();
        summary.ended_in_trouble = self.book().in_trouble;
    }

    fn running(&self) -> Vec<u64> {
        self.anchor().session_ids().collect()
    }

    fn call(&self, now: Instant, id: u64) -> Option<CallStatus> {
        let streams: Vec<Seen> = self.anchor().streams(id).map(|state| Seen::new(&state)).collect();
        let peers: Vec<StreamId> = streams.iter().filter_map(|stream| stream.joined).collect();
        let peers = self.seen(&peers);
        let book = self.book();
        let unknown = Call::default();
        let call = book.calls.get(&id).unwrap_or(&unknown);
        let since = call.answered.or(call.began);
        Some(CallStatus {
            session: id,
            call_id: call.call_id.as_deref().map(str::to_owned),
            phone: call.tag.as_deref().map(str::to_owned),
            phone_address: call.phone,
            switch: call.switch,
            answered: call.answered.is_some(),
            seconds: since.map_or(0, |since| now.saturating_duration_since(since).as_secs()),
            reported: call.quality.map(Into::into),
            streams: streams.iter().map(|stream| book.stream(now, call, stream, &peers)).collect(),
        })
    }

    /// These streams as the anchor knows them.
    fn seen(&self, ids: &[StreamId]) -> Vec<Seen> {
        let anchor = self.anchor();
        ids.iter().filter_map(|id| anchor.stream_state_of(*id)).map(|state| Seen::new(&state)).collect()
    }

    // A panic while a lock was held is a fault of ours; what stands there is still the best knowledge there is.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn anchor(&self) -> MutexGuard<'_, Anchor> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a description that was taken says; the original octets.
pub(crate) fn read(sdp: &[u8]) -> Vec<Line> {
    doctor::lines(sdp, &Limits::default()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
