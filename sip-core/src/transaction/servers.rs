//! The server half of the layer: requests that came in.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::key::{Key, Scope, reply_target};
use super::layer::{Event, Id, Out, Received, ServerKey};
use super::server::{self, Server};
use super::server_invite::{self, ServerInvite};
use super::timer::{Clocks, Config};
use crate::flow::{Dial, FlowId, Peer, Source, Target};
use crate::header::To;
use crate::message::{Message, Method, Name, ResponseBuilder};
use crate::numbered::Numbered;

#[derive(Debug, Default)]
pub(super) struct Servers {
    table: Numbered<ServerKey, Entry>,
    keys: HashMap<Key, ServerKey>,
    /// Those that have had their final answer and wait for copies of the request only, the oldest first; some have ended.
    finished: VecDeque<ServerKey>,
    /// Who is hurt when a connection or dial fails.
    replies: BTreeSet<(Target, ServerKey)>,
}

#[derive(Debug)]
struct Entry {
    machine: Machine,
    key: Key,
    scope: Scope,
    /// By RFC 2543 rules the ACK to a failure carries the To tag that we gave, so it has a key of its own.
    ack_key: Option<Key>,
    /// What 100 is made from, until something was answered, and by RFC 2543 rules the key of the ACK.
    request: Option<Message>,
    /// For the Via of our 100.
    remote: SocketAddr,
    /// The last response.
    response: Option<Bytes>,
    /// Where responses go; `None` when there is no way left.
    reply: Option<Target>,
    fallback: Option<Target>,
    /// What the table of deadlines holds for this one.
    deadline: Instant,
}

#[derive(Debug)]
enum Machine {
    Invite(ServerInvite),
    Other(Server),
}

/// What may befall either machine.
#[derive(Clone, Copy)]
enum Happening {
    Request,
    Ack,
    Answer(u16),
    Refusal,
    Alarm,
    Unreachable,
}

/// What either machine may want.
#[derive(Clone, Copy)]
enum Wish {
    Absorb,
    Trying,
    Send,
    PassAck,
    End,
}

impl Servers {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.table.len() + self.keys.len() + self.replies.len()
    }

    pub(super) fn deadline(&self, key: ServerKey) -> Option<Instant> {
        self.table.get(&key).map(|entry| entry.deadline)
    }

    #[allow(clippy::too_many_arguments, reason = "the layer's own half, called once")]
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        source: Source,
        peer: &Peer,
        message: Message,
        full: bool,
        shedding: bool,
        config: &Config,
        out: &mut Out,
    ) -> Received {
        let scope = Scope::of(&source, peer);
        let Some(method) = message.method() else { return Received::Stray(message) };
        let (is_ack, is_cancel) = (method == Method::Ack, method == Method::Cancel);
        let Some(key) = Key::of_request(&message, &scope) else { return Received::Stray(message) };
        let known = self.keys.get(&key).copied();
        if is_ack {
            return match known.map(|id| self.happen(now, id, Happening::Ack, config, out)) {
                None | Some(Wish::PassAck) => Received::Ack { message },
                Some(_) => Received::Absorbed,
            };
        }
        if let Some(id) = known {
            self.happen(now, id, Happening::Request, config, out);
            return Received::Absorbed;
        }
        let invite = if is_cancel {
            Key::of_cancelled(&message, &scope).and_then(|key| self.keys.get(&key).copied())
        } else {
            None
        };
        let reply = reply_target(source, peer, &message);
        let shed = shedding && begins(&message);
        if shed || (full && invite.is_none() && !self.make_room(out)) {
            let phrase = if shed { "Overload" } else { "Too Many Transactions" };
            let tag = format!("shed{:x}", hash(&message));
            let refusal = ResponseBuilder::new(&message, 503, phrase).to_tag(&tag).source(peer.remote);
            // Spread, so that they do not all return at once.
            let wait = (10 + hash(&message) % 51).to_string();
            out.send(reply, refusal.header(Name::RetryAfter, wait.as_bytes()).build());
            return Received::Refused { message };
        }
        let id = self.insert(now, key, scope, reply, peer.remote, &message, config, out);
        if is_cancel {
            Received::Cancel { key: id, invite, message }
        } else {
            Received::Request { key: id, message }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the tail of handle_request")]
    fn insert(
        &mut self,
        now: Instant,
        key: Key,
        scope: Scope,
        reply: Target,
        remote: SocketAddr,
        message: &Message,
        config: &Config,
        out: &mut Out,
    ) -> ServerKey {
        let id = ServerKey(out.new_key());
        let (machine, request) = if message.method() == Some(Method::Invite) {
            let machine = ServerInvite::new(now, reply.is_reliable(), config);
            (Machine::Invite(machine), Some(message.clone()))
        } else {
            (Machine::Other(Server::new(now, reply.is_reliable(), config)), None)
        };
        let deadline = machine.clocks().next();
        out.deadlines.push(deadline, Id::Server(id));
        self.keys.insert(key.clone(), id);
        self.replies.insert((reply, id));
        let entry = Entry {
            machine,
            key,
            scope,
            ack_key: None,
            request,
            remote,
            response: None,
            reply: Some(reply),
            fallback: None,
            deadline,
        };
        self.table.insert(id, entry);
        id
    }

    #[allow(clippy::too_many_arguments, reason = "the layer's own half, called twice")]
    pub(super) fn respond(
        &mut self,
        now: Instant,
        id: ServerKey,
        status: u16,
        once: bool,
        bytes: Bytes,
        config: &Config,
        out: &mut Out,
    ) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        let previous = entry.response.replace(bytes);
        let what = if once && status >= 300 { Happening::Refusal } else { Happening::Answer(status) };
        let wish = self.happen(now, id, what, config, out);
        let Some(entry) = self.table.get_mut(&id) else { return };
        if !matches!(wish, Wish::Send) {
            entry.response = previous;
            return;
        }
        if status >= 200 && entry.reply.is_none() {
            // Nobody is there to get it, to ask for it again or to acknowledge it.
            self.end(id, out);
            return;
        }
        if status < 200 && entry.key.is_2543() {
            return;
        }
        let request = entry.request.take();
        if status >= 200
            && let Some((request, response)) = request.zip(entry.response.as_ref())
            && let Some(key) = Key::of_ack_2543(&request, response, &entry.scope)
        {
            entry.ack_key = Some(key.clone());
            self.keys.insert(key, id);
        }
        if status >= 200 {
            self.finish(id);
        }
    }

    /// Ends the oldest transaction that has been answered: a copy of its request would be taken for a new one, which is
    /// better than to refuse what is new. `false` when all are still being worked on.
    fn make_room(&mut self, out: &mut Out) -> bool {
        while let Some(oldest) = self.finished.pop_front() {
            if self.table.contains_key(&oldest) {
                self.end(oldest, out);
                return true;
            }
        }
        false
    }

    /// Notes that a transaction has had its final answer.
    fn finish(&mut self, id: ServerKey) {
        while self.finished.front().is_some_and(|oldest| !self.table.contains_key(oldest)) {
            self.finished.pop_front();
        }
        // Behind one that lasts, others may have ended: as many as live, at most, are kept.
        if self.finished.len() > 64 + 2 * self.table.len() {
            let table = &self.table;
            self.finished.retain(|id| table.contains_key(id));
        }
        self.finished.push_back(id);
    }

    pub(super) fn set_fallback(&mut self, id: ServerKey, target: Target) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        if entry.reply.is_none() {
            entry.reply = Some(target);
            self.replies.insert((target, id));
        } else {
            entry.fallback = Some(target);
        }
    }

    pub(super) fn handle_alarm(&mut self, now: Instant, id: ServerKey, config: &Config, out: &mut Out) {
        if self.table.get(&id).is_some_and(|entry| entry.deadline <= now) {
            self.happen(now, id, Happening::Alarm, config, out);
        }
    }

    pub(super) fn handle_flow_closed(&mut self, now: Instant, flow: FlowId, config: &Config, out: &mut Out) {
        for id in self.replying_to(Target::Flow(flow)) {
            self.lose(now, id, config, out);
        }
    }

    pub(super) fn handle_dial_failed(&mut self, now: Instant, dial: Dial, config: &Config, out: &mut Out) {
        for id in self.replying_to(Target::Dial(dial)) {
            self.lose(now, id, config, out);
        }
    }

    fn replying_to(&self, target: Target) -> Vec<ServerKey> {
        let all = (target, ServerKey(0))..=(target, ServerKey(u64::MAX));
        self.replies.range(all).map(|(_, id)| *id).collect()
    }

    /// The way back is gone: take the other, if there is one.
    fn lose(&mut self, now: Instant, id: ServerKey, config: &Config, out: &mut Out) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        if let Some(old) = entry.reply.take() {
            self.replies.remove(&(old, id));
        }
        match entry.fallback.take() {
            Some(target) => {
                entry.reply = Some(target);
                self.replies.insert((target, id));
                // A failure without its ACK may have been lost with the connection; whoever has it absorbs the second.
                if entry.machine.awaits_ack()
                    && let Some(response) = &entry.response
                {
                    out.send(target, response.clone());
                }
            }
            None => {
                self.happen(now, id, Happening::Unreachable, config, out);
            }
        }
    }

    /// Steps one machine and does what it wants, but for handing up an ACK.
    fn happen(
        &mut self,
        now: Instant,
        id: ServerKey,
        what: Happening,
        config: &Config,
        out: &mut Out,
    ) -> Wish {
        let Some(entry) = self.table.get_mut(&id) else { return Wish::Absorb };
        let wish = entry.machine.handle(now, what, config);
        match wish {
            Wish::Absorb | Wish::PassAck => {}
            Wish::Trying | Wish::Send => {
                if matches!(wish, Wish::Trying)
                    && let Some(request) = &entry.request
                {
                    let trying = ResponseBuilder::new(request, 100, "Trying").source(entry.remote);
                    entry.response = Some(trying.build());
                }
                if let Some((target, response)) = entry.reply.zip(entry.response.clone()) {
                    out.send(target, response);
                }
            }
            Wish::End => {
                self.end(id, out);
                return wish;
            }
        }
        let deadline = entry.machine.clocks().next();
        // An entry that came up early is gone from the table of deadlines, so an alarm always renews its own.
        if deadline != entry.deadline || matches!(what, Happening::Alarm) {
            entry.deadline = deadline;
            out.deadlines.push(deadline, Id::Server(id));
        }
        wish
    }

    fn end(&mut self, id: ServerKey, out: &mut Out) {
        let Some(entry) = self.table.remove(&id) else { return };
        self.keys.remove(&entry.key);
        if let Some(key) = entry.ack_key {
            self.keys.remove(&key);
        }
        if let Some(target) = entry.reply {
            self.replies.remove(&(target, id));
        }
        out.tell(Event::ServerEnded(id));
    }
}

/// Whether a request begins something: a call, or a registration.
fn begins(message: &Message) -> bool {
    matches!(message.method(), Some(Method::Invite | Method::Register)) && !in_dialog(message)
}

/// Whether a request looks as if it were part of a dialog.
pub(super) fn in_dialog(message: &Message) -> bool {
    matches!(message.header::<To>(), Some(Ok(to)) if to.tag().is_some())
}

/// The same for every copy of a request.
fn hash(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(message.raw(Name::Via).unwrap_or_default());
    hasher.finish()
}

impl Machine {
    fn clocks(&self) -> &Clocks {
        match self {
            Self::Invite(machine) => &machine.clocks,
            Self::Other(machine) => &machine.clocks,
        }
    }

    fn awaits_ack(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.awaits_ack(),
            Self::Other(_) => false,
        }
    }

    fn handle(&mut self, now: Instant, what: Happening, config: &Config) -> Wish {
        match self {
            Self::Invite(machine) => {
                use server_invite::{Action, Input};
                let input = match what {
                    Happening::Request => Input::Request,
                    Happening::Ack => Input::Ack,
                    Happening::Answer(..=199) => Input::Provisional,
                    Happening::Answer(200..=299) => Input::Success,
                    Happening::Answer(_) => Input::Failure,
                    Happening::Refusal => Input::Refusal,
                    Happening::Alarm => match machine.clocks.due(now) {
                        Some(alarm) => Input::Alarm(alarm),
                        None => return Wish::Absorb,
                    },
                    Happening::Unreachable => Input::Unreachable,
                };
                match machine.handle(now, input, config) {
                    Action::Absorb => Wish::Absorb,
                    Action::Trying => Wish::Trying,
                    Action::Send => Wish::Send,
                    Action::PassAck => Wish::PassAck,
                    Action::Ended => Wish::End,
                }
            }
            Self::Other(machine) => {
                use server::{Action, Input};
                let input = match what {
                    Happening::Request => Input::Request,
                    Happening::Ack => return Wish::Absorb,
                    Happening::Answer(..=199) => Input::Provisional,
                    Happening::Answer(_) | Happening::Refusal => Input::Final,
                    Happening::Alarm => match machine.clocks.due(now) {
                        Some(alarm) => Input::Alarm(alarm),
                        None => return Wish::Absorb,
                    },
                    Happening::Unreachable => Input::Unreachable,
                };
                match machine.handle(now, input, config) {
                    Action::Absorb => Wish::Absorb,
                    Action::Send => Wish::Send,
                    Action::Ended => Wish::End,
                }
            }
        }
    }
}
