//! The user agent as a machine of its own.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::agent::Agent;
use super::answer::Answer;
use super::config::{Config, Credentials};
use super::event::{DialogKey, Event, Label, Refused};
use super::request::Request;
use crate::machine::{Input, Machine, Output};
use crate::message::Name;
use crate::transaction::{Layer, ServerKey};

/// An [`Agent`] with a layer of its own, for [`net::Driver`](crate::machine) or any other loop.
#[derive(Debug)]
pub struct UserAgent {
    layer: Layer,
    agent: Agent,
    events: VecDeque<Event>,
}

/// An order to a [`UserAgent`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// [`Agent::request`].
    Request {
        /// Comes back with the answer.
        label: Label,
        /// The request.
        request: Box<Request>,
    },
    /// [`Agent::draft_within`] and [`Agent::send_within`]. Where that is refused, [`Event::Unanswered`] tells: 481 without
    /// a dialog, 491 while an offer is under way.
    Within {
        /// Comes back with the answer.
        label: Label,
        /// The dialog.
        dialog: DialogKey,
        /// The method.
        method: String,
        /// More rows.
        rows: Vec<(Name, Vec<u8>)>,
        /// Content-Type and body.
        body: Option<(String, Bytes)>,
    },
    /// [`Agent::answer`].
    Answer {
        /// What to answer.
        key: ServerKey,
        /// The answer.
        answer: Answer,
    },
    /// [`Agent::acknowledge`].
    Acknowledge {
        /// The dialog.
        dialog: DialogKey,
        /// Content-Type and body.
        body: (String, Bytes),
    },
    /// [`Agent::acknowledge_early`].
    AcknowledgeEarly {
        /// Comes back with the answer.
        label: Label,
        /// The dialog.
        dialog: DialogKey,
        /// Content-Type and body.
        body: (String, Bytes),
    },
    /// [`Agent::cancel`].
    Cancel {
        /// The label of the INVITE.
        label: Label,
    },
    /// [`Agent::bye`].
    Bye {
        /// The dialog.
        dialog: DialogKey,
    },
}

impl UserAgent {
    /// A user agent without calls. `seed` must come from the operating system in production.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let layer = Layer::new(config.timers.clone());
        Self { layer, agent: Agent::new(config, seed), events: VecDeque::new() }
    }

    /// [`Agent::set_credentials`].
    #[must_use]
    pub fn with_credentials(mut self, credentials: Box<dyn Credentials + Send>) -> Self {
        self.agent.set_credentials(credentials);
        self
    }

    /// The agent, for what can be asked of it.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The agent and its layer, for an owner on the same thread who wants to act upon an event at once.
    pub fn parts(&mut self) -> (&mut Agent, &mut Layer) {
        (&mut self.agent, &mut self.layer)
    }

    /// Whether nothing is under way, not even a transaction that waits for stragglers.
    pub fn is_idle(&self) -> bool {
        self.agent.is_idle() && self.layer.is_empty()
    }

    fn within(&mut self, now: Instant, command: Command) {
        let Command::Within { label, dialog, method, rows, body } = command else { return };
        let sent = self.agent.draft_within(dialog, &method).and_then(|mut request| {
            for (name, value) in rows {
                request = request.header(name, value);
            }
            request.body = body;
            self.agent.send_within(now, &mut self.layer, label, dialog, request)
        });
        if let Err(refused) = sent {
            self.refused(label, refused);
        }
    }

    fn refused(&mut self, label: Label, refused: Refused) {
        let status = match refused {
            Refused::NoDialog => 481,
            Refused::Pending => 491,
        };
        self.events.push_back(Event::Unanswered { label, status });
    }

    fn layer_events(&mut self, now: Instant) {
        while let Some(event) = self.layer.poll_event() {
            self.agent.handle_event(now, &mut self.layer, event);
        }
    }
}

impl Machine for UserAgent {
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, now: Instant, input: Input) {
        let Self { layer, agent, .. } = self;
        match input {
            Input::FlowOpened { flow, dial: Some(dial), .. } => layer.handle_flow_opened(flow, &dial),
            Input::Message { source, peer, message } => {
                let received = layer.handle_message(now, source, &peer, message);
                // What comes back is nobody's: dropped in silence.
                agent.handle_received(now, layer, source, &peer, received);
            }
            Input::FlowClosed { flow } => {
                agent.handle_flow_closed(flow);
                layer.handle_flow_closed(now, flow);
            }
            Input::DialFailed { dial, .. } => layer.handle_dial_failed(now, &dial),
            Input::Drain => agent.drain(),
            Input::Overload(overloaded) => layer.shed(overloaded),
            // Nothing is asked of other shards or of name servers, and what is unframeable has been answered.
            _ => {}
        }
        self.layer_events(now);
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        let Self { layer, agent, .. } = self;
        match command {
            Command::Request { label, request } => agent.request(now, layer, label, *request),
            within @ Command::Within { .. } => self.within(now, within),
            Command::Answer { key, answer } => {
                agent.answer(now, layer, key, answer);
            }
            Command::Acknowledge { dialog, body: (content_type, body) } => {
                agent.acknowledge(now, layer, dialog, &content_type, body);
            }
            Command::AcknowledgeEarly { label, dialog, body: (content_type, body) } => {
                if let Err(refused) = agent.acknowledge_early(now, layer, label, dialog, &content_type, body)
                {
                    self.refused(label, refused);
                }
            }
            Command::Cancel { label } => agent.cancel(now, layer, label),
            Command::Bye { dialog } => agent.bye(now, layer, dialog),
        }
        self.layer_events(now);
    }

    fn poll_output(&mut self, now: Instant) -> Output<Event> {
        self.layer.handle_timeout(now);
        self.agent.handle_timeout(now, &mut self.layer);
        self.layer_events(now);
        if let Some(transmit) = self.layer.poll_transmit() {
            return Output::Transmit(transmit);
        }
        if let Some(event) = self.events.pop_front().or_else(|| self.agent.poll_event()) {
            return Output::Event(event);
        }
        let deadlines = [self.layer.poll_timeout(), self.agent.poll_timeout()];
        Output::Timeout(deadlines.into_iter().flatten().min())
    }
}
