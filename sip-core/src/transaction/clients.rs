//! The client half of the layer: requests that we sent.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use bytes::Bytes;

use super::client::{self, Client};
use super::client_invite::{self, ClientInvite};
use super::key::Key;
use super::layer::{ClientKey, Event, Id, Out, Received};
use super::timer::{Clocks, Config};
use crate::flow::{Dial, Peer, Side, Source, Target};
use crate::message::{Limits, Message, Method, RequestBuilder};
use crate::numbered::Numbered;

#[derive(Debug, Default)]
pub(super) struct Clients {
    table: Numbered<ClientKey, Entry>,
    keys: HashMap<Key, ClientKey>,
    /// Who is hurt when a connection or dial fails.
    targets: BTreeSet<(Target, ClientKey)>,
}

#[derive(Debug)]
struct Entry {
    machine: Machine,
    key: Key,
    target: Target,
    request: Bytes,
    /// The ACK to a failure, once made.
    ack: Option<Bytes>,
    /// Type and body that it gets.
    ack_body: Option<Box<(String, Bytes)>>,
    /// What the table of deadlines holds for this one.
    deadline: Instant,
}

#[derive(Debug)]
enum Machine {
    Invite(ClientInvite),
    Other(Client),
}

/// What may befall either machine.
#[derive(Clone, Copy)]
enum Happening {
    Status(u16),
    Alarm,
    Unreachable,
    Disconnected,
    Cancelled,
}

/// What either machine may want.
#[derive(Clone, Copy)]
enum Wish {
    Absorb,
    Send,
    Pass,
    PassAndAck,
    Ack,
    End(fn(ClientKey) -> Event),
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.table.len() + self.keys.len() + self.targets.len()
    }

    pub(super) fn deadline(&self, key: ClientKey) -> Option<Instant> {
        self.table.get(&key).map(|entry| entry.deadline)
    }

    #[allow(clippy::too_many_arguments, reason = "the layer's own half, called once")]
    pub(super) fn request(
        &mut self,
        now: Instant,
        target: Target,
        branch: &str,
        method: Method<'_>,
        bytes: Bytes,
        full: bool,
        config: &Config,
        out: &mut Out,
    ) -> ClientKey {
        let id = ClientKey(out.new_key());
        if method == Method::Ack {
            out.send(target, bytes);
            return id;
        }
        let key = Key::client(branch.as_bytes(), method.as_bytes());
        if (full && method != Method::Cancel) || self.keys.contains_key(&key) {
            out.tell(Event::ClientFailed(id));
            return id;
        }
        if method == Method::Cancel {
            let invite = Key::client(branch.as_bytes(), Method::Invite.as_bytes());
            if let Some(invite) = self.keys.get(&invite).copied() {
                self.happen(now, invite, Happening::Cancelled, config, out);
            }
        }
        let machine = if method == Method::Invite {
            Machine::Invite(ClientInvite::new(now, target.is_reliable(), config))
        } else {
            Machine::Other(Client::new(now, target.is_reliable(), config))
        };
        let deadline = machine.clocks().next();
        out.deadlines.push(deadline, Id::Client(id));
        out.send(target, bytes.clone());
        self.keys.insert(key.clone(), id);
        self.targets.insert((target, id));
        self.table
            .insert(id, Entry { machine, key, target, request: bytes, ack: None, ack_body: None, deadline });
        id
    }

    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        source: Source,
        peer: &Peer,
        message: Message,
        config: &Config,
        out: &mut Out,
    ) -> Received {
        // RFC 3261 §18.1.2 let a proxy forward a response that matches no transaction; RFC 6026 took that back, since it
        // makes a reflector.
        let Some((status, key)) = message.status().zip(Key::of_response(&message)) else {
            return Received::Stray(message);
        };
        let Some(id) = self.keys.get(&key).copied() else { return Received::Stray(message) };
        let Some(entry) = self.table.get_mut(&id) else { return Received::Stray(message) };
        if !may_answer(&entry.target, &source, peer) {
            return Received::Stray(message);
        }
        match self.happen(now, id, Happening::Status(status), config, out) {
            Wish::Pass => {
                // Only an INVITE may need it once more, for its ACK.
                if status >= 200
                    && let Some(Entry { machine: Machine::Other(_), request, .. }) = self.table.get_mut(&id)
                {
                    *request = Bytes::new();
                }
                Received::Response { key: id, message }
            }
            Wish::PassAndAck => {
                self.acknowledge(id, &message, out);
                Received::Response { key: id, message }
            }
            Wish::Absorb | Wish::Send | Wish::Ack | Wish::End(_) => Received::Absorbed,
        }
    }

    pub(super) fn handle_alarm(&mut self, now: Instant, id: ClientKey, config: &Config, out: &mut Out) {
        if self.table.get(&id).is_some_and(|entry| entry.deadline <= now) {
            self.happen(now, id, Happening::Alarm, config, out);
        }
    }

    pub(super) fn handle_unreachable(
        &mut self,
        now: Instant,
        target: Target,
        config: &Config,
        out: &mut Out,
    ) {
        for id in self.waiting_for(target) {
            self.happen(now, id, Happening::Unreachable, config, out);
        }
    }

    pub(super) fn handle_disconnected(&mut self, now: Instant, dial: Dial, config: &Config, out: &mut Out) {
        for id in self.waiting_for(Target::Dial(dial)) {
            self.happen(now, id, Happening::Disconnected, config, out);
        }
    }

    fn waiting_for(&self, target: Target) -> Vec<ClientKey> {
        let all = (target, ClientKey(0))..=(target, ClientKey(u64::MAX));
        self.targets.range(all).map(|(_, id)| *id).collect()
    }

    /// Steps one machine and does what it wants, but for handing up a response.
    fn happen(
        &mut self,
        now: Instant,
        id: ClientKey,
        what: Happening,
        config: &Config,
        out: &mut Out,
    ) -> Wish {
        let Some(entry) = self.table.get_mut(&id) else { return Wish::Absorb };
        let wish = entry.machine.handle(now, what, config);
        match wish {
            Wish::Absorb | Wish::Pass | Wish::PassAndAck => {}
            Wish::Send => out.send(entry.target, entry.request.clone()),
            Wish::Ack => {
                if let Some(ack) = &entry.ack {
                    out.send(entry.target, ack.clone());
                }
            }
            Wish::End(event) => {
                out.tell(event(id));
                self.remove(id);
                return wish;
            }
        }
        let deadline = entry.machine.clocks().next();
        // An entry that came up early is gone from the table of deadlines, so an alarm always renews its own.
        if deadline != entry.deadline || matches!(what, Happening::Alarm) {
            entry.deadline = deadline;
            out.deadlines.push(deadline, Id::Client(id));
        }
        wish
    }

    /// Makes the ACK to a failure (RFC 3261 §17.1.1.3) and sends it; the request is not needed any more.
    fn acknowledge(&mut self, id: ClientKey, response: &Message, out: &mut Out) {
        let Some(entry) = self.table.get_mut(&id) else { return };
        let request = std::mem::take(&mut entry.request);
        // Limits were for the peer; what we sent ourselves is read as it is.
        let limits = Limits { message: usize::MAX, rows: usize::MAX, ..Limits::default() };
        let Ok(invite) = Message::parse(request, &limits) else { return };
        if let Some(mut ack) = RequestBuilder::ack(&invite, response) {
            if let Some((kind, body)) = entry.ack_body.take().as_deref() {
                ack = ack.body(kind, body);
            }
            let ack = ack.build();
            out.send(entry.target, ack.clone());
            entry.ack = Some(ack);
        }
    }

    /// What the ACK to a failure shall carry, unless it has left.
    pub(super) fn set_ack_body(&mut self, id: ClientKey, kind: String, body: Bytes) {
        if let Some(entry) = self.table.get_mut(&id) {
            entry.ack_body = Some(Box::new((kind, body)));
        }
    }

    fn remove(&mut self, id: ClientKey) {
        if let Some(entry) = self.table.remove(&id) {
            self.keys.remove(&entry.key);
            self.targets.remove(&(entry.target, id));
        }
    }
}

/// Whether an answer may come from there. From the outside only on the connection, or from the address, that was asked.
/// Inside peers may open a connection of their own for it (RFC 3261 §18.2.2).
fn may_answer(asked: &Target, source: &Source, peer: &Peer) -> bool {
    match (asked, peer.side) {
        (Target::Flow(asked), Side::Outside) => source.flow() == Some(*asked),
        (Target::Datagram { remote, .. }, Side::Outside) => remote.ip() == peer.remote.ip(),
        (Target::Dial(dial), Side::Outside) => {
            dial.side == Side::Outside && dial.remote.ip() == peer.remote.ip()
        }
        (_, Side::Inside) => true,
    }
}

impl Machine {
    fn clocks(&self) -> &Clocks {
        match self {
            Self::Invite(machine) => &machine.clocks,
            Self::Other(machine) => &machine.clocks,
        }
    }

    fn handle(&mut self, now: Instant, what: Happening, config: &Config) -> Wish {
        match self {
            Self::Invite(machine) => {
                use client_invite::{Action, Input};
                let input = match what {
                    Happening::Status(..=199) => Input::Provisional,
                    Happening::Status(200..=299) => Input::Success,
                    Happening::Status(_) => Input::Failure,
                    Happening::Alarm => match machine.clocks.due(now) {
                        Some(alarm) => Input::Alarm(alarm),
                        None => return Wish::Absorb,
                    },
                    Happening::Unreachable => Input::Unreachable,
                    Happening::Disconnected => Input::Disconnected,
                    Happening::Cancelled => Input::Cancelled,
                };
                match machine.handle(now, input, config) {
                    Action::Absorb => Wish::Absorb,
                    Action::Send => Wish::Send,
                    Action::Pass => Wish::Pass,
                    Action::PassAndAck => Wish::PassAndAck,
                    Action::Ack => Wish::Ack,
                    Action::TimedOut => Wish::End(Event::ClientTimedOut),
                    Action::Failed => Wish::End(Event::ClientFailed),
                    Action::Ended => Wish::End(Event::ClientEnded),
                }
            }
            Self::Other(machine) => {
                use client::{Action, Input};
                let input = match what {
                    Happening::Status(..=199) => Input::Provisional,
                    Happening::Status(_) => Input::Final,
                    Happening::Alarm => match machine.clocks.due(now) {
                        Some(alarm) => Input::Alarm(alarm),
                        None => return Wish::Absorb,
                    },
                    Happening::Unreachable => Input::Unreachable,
                    Happening::Disconnected => Input::Disconnected,
                    Happening::Cancelled => return Wish::Absorb,
                };
                match machine.handle(now, input, config) {
                    Action::Absorb => Wish::Absorb,
                    Action::Send => Wish::Send,
                    Action::Pass => Wish::Pass,
                    Action::TimedOut => Wish::End(Event::ClientTimedOut),
                    Action::Failed => Wish::End(Event::ClientFailed),
                    Action::Ended => Wish::End(Event::ClientEnded),
                }
            }
        }
    }
}
