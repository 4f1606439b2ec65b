//! Somebody's own stateful proxy on the transaction layer: one next hop, the best answer, CANCEL, Max-Forwards. It records
//! no route, so ACK and BYE go by it. Driven by hand with literal messages; nothing of the gateway is in it.
//!
//! `cargo run -p farend-sip-core --example own_proxy`
#![allow(clippy::disallowed_methods, reason = "the embedder owns the clock")]

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip_core::flow::{Dial, ListenerId, Peer, Side, Source, Target, Transport};
use sip_core::header::MaxForwards;
use sip_core::message::{Limits, Message, Method, RequestBuilder, response};
use sip_core::proxy::context::{Action, Context, Ringing};
use sip_core::token::{LoopHash, Random};
use sip_core::transaction::{ClientKey, Config, Event, Layer, Received, ServerKey};

const OURS: &str = "192.0.2.1:5060";

struct Proxy {
    layer: Layer,
    random: Random,
    next_hop: Target,
    /// By the request that came, and by the one that left for it.
    open: HashMap<ServerKey, Open>,
    sent: HashMap<ClientKey, ServerKey>,
}

/// The request as it left, its branch, and the answer for a next hop that gives none.
struct Open {
    sent: Message,
    branch: String,
    context: Answers,
    silent: Bytes,
}

type Answer = (u16, Bytes);
type Answers = Context<Answer>;
type Actions = Vec<Action<Answer>>;
type Done = Result<(), Box<dyn Error>>;

impl Proxy {
    fn receive(&mut self, now: Instant, peer: &Peer, message: Message) -> Done {
        let source = Source::Datagram { listener: ListenerId(1), remote: peer.remote };
        match self.layer.handle_message(now, source, peer, message) {
            Received::Request { key, message } => self.forward(now, key, message)?,
            Received::Cancel { key, invite, message } => {
                let status = if invite.is_some() { 200 } else { 481 };
                self.layer.respond(
                    now,
                    &key,
                    status,
                    response(&message, status, "CANCEL", Some("proxy"), &[]),
                );
                self.act(now, invite, |context| context.cancel(now));
            }
            Received::Response { key, message } => {
                let (status, mut edit) = (message.status().unwrap_or(500), message.edit());
                edit.pop_via();
                self.answered(now, key, (status, edit.to_bytes()?));
            }
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, now: Instant, client: ClientKey, answer: Answer) {
        let key = self.sent.get(&client).copied();
        self.act(now, key, |context| context.handle_answer(now, 0, answer.0, answer));
    }

    fn forward(&mut self, now: Instant, key: ServerKey, request: Message) -> Done {
        // RFC 3261 §16.3.
        if let Some(finding) = request.validate().first() {
            let refusal = request.refuse(finding).ok_or("nobody to refuse")?.to_tag("proxy").build();
            self.layer.respond(now, &key, finding.status, refusal);
            return Ok(());
        }
        // RFC 3261 §16.6: one hop less, our Via.
        let (branch, mut edit) = (self.random.branch(LoopHash::new([request.request_uri()])), request.edit());
        let hops = request.header::<MaxForwards>().and_then(Result::ok).unwrap_or(70);
        edit.set_max_forwards(hops.saturating_sub(1));
        edit.push_via(format!("SIP/2.0/UDP {OURS};branch={branch}").as_bytes());
        let (bytes, method) = (edit.to_bytes()?, request.method().ok_or("a request has a method")?);
        let client = self.layer.request(now, self.next_hop, &branch, method, bytes.clone());
        let ringing = Ringing { silence: Duration::from_secs(180), maximum: Duration::from_secs(300) };
        let invite = method == Method::Invite;
        let mut context = if invite { Context::invite(now, ringing) } else { Context::other() };
        context.add();
        let silent = response(&request, 408, "Request Timeout", Some("proxy"), &[]);
        let sent = Message::parse(bytes, &Limits::default())?;
        self.sent.insert(client, key);
        self.open.insert(key, Open { sent, silent, branch, context });
        Ok(())
    }

    /// Does what the response context (RFC 3261 §16.7) makes of this.
    fn act(&mut self, now: Instant, key: Option<ServerKey>, of: impl FnOnce(&mut Answers) -> Actions) {
        let Some((key, open)) = key.and_then(|key| Some((key, self.open.get_mut(&key)?))) else { return };
        for action in of(&mut open.context) {
            match action {
                Action::Forward(_, (status, text)) | Action::Conclude(_, (status, text)) => {
                    self.layer.respond(now, &key, status, text);
                }
                Action::Cancel(_) => {
                    let Some(cancel) = RequestBuilder::cancel(&open.sent) else { continue };
                    self.layer.request(now, self.next_hop, &open.branch, Method::Cancel, cancel.build());
                }
            }
        }
    }

    /// After each input, and at [`Layer::poll_timeout`]. Timer C is left to the layer's patience, which ends what rings on.
    fn tick(&mut self, now: Instant) {
        self.layer.handle_timeout(now);
        while let Some(event) = self.layer.poll_event() {
            match event {
                Event::ClientTimedOut(client) | Event::ClientFailed(client) => {
                    let open = self.sent.get(&client).and_then(|key| self.open.get(key));
                    self.answered(
                        now,
                        client,
                        (408, open.map(|open| open.silent.clone()).unwrap_or_default()),
                    );
                    self.sent.remove(&client);
                }
                Event::ClientEnded(client) => drop(self.sent.remove(&client)),
                Event::ServerEnded(key) => drop(self.open.remove(&key)),
                _ => {}
            }
        }
    }
}

/// Gives the proxy a message from there and prints what leaves.
fn say(proxy: &mut Proxy, remote: &str, text: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let (now, remote, local) = (Instant::now(), remote.parse()?, OURS.parse()?);
    let (transport, side, listener) = (Transport::Udp, Side::Inside, Some(ListenerId(1)));
    let peer = Peer { remote, local, transport, side, listener, identity: None, verified: false };
    let message = Message::parse(Bytes::from(text.replace('\n', "\r\n")), &Limits::default())?;
    proxy.receive(now, &peer, message)?;
    proxy.tick(now);
    let left = std::iter::from_fn(|| proxy.layer.poll_transmit());
    let left: Vec<_> = left.map(|sent| String::from_utf8_lossy(&sent.bytes).into_owned()).collect();
    left.iter().for_each(|text| println!("{}", text.lines().take(3).collect::<Vec<_>>().join(" | ")));
    Ok(left)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (caller, callee) = ("192.0.2.7:5060", "192.0.2.9:5060");
    let (layer, random, remote) = (Layer::new(Config::default()), Random::new([7; 32]), callee.parse()?);
    let next_hop = Dial { transport: Transport::Udp, remote, side: Side::Inside, affinity: None }.into();
    let mut proxy = Proxy { layer, random, next_hop, open: HashMap::new(), sent: HashMap::new() };
    let rows = "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa\nFrom: <sip:a@a.example>;tag=1\nCall-ID: c\n";
    let request = format!("INVITE sip:b@b.example SIP/2.0\n{rows}To: <sip:b@b.example>\nCSeq: 1 INVITE\n\n");
    let invite = say(&mut proxy, caller, &request)?;
    let via = invite[0].lines().find(|line| line.starts_with("Via")).ok_or("no Via")?;
    let answer = format!("{via}\n{rows}To: <sip:b@b.example>;tag=2\nCSeq: 1 INVITE\n\n");
    say(&mut proxy, callee, &format!("SIP/2.0 180 Ringing\n{answer}"))?;
    let ok = say(&mut proxy, callee, &format!("SIP/2.0 200 OK\n{answer}"))?;
    let good = ok[0].starts_with("SIP/2.0 200") && ok[0].matches("Via").count() == 1;
    if good { Ok(()) } else { Err("no 200".into()) }
}
