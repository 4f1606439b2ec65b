//! Seeded disorder: phones and PBX do anything in any order, lose connections and answers; at the end nothing is left.

use std::collections::HashMap;
use std::time::Duration;

use sip_core::edge::Event;

use crate::register::register;
use crate::script::{from_pbx, from_phone, sdp};
use crate::world::{End, World, between, reply, row, rows, unguarded};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

struct Phone {
    mac: String,
    end: Option<End>,
    registrations: u32,
}

/// A call as one end sees it: what it needs to end it.
struct Leg {
    /// The phone's number; `None` for the PBX.
    phone: Option<usize>,
    bye: String,
}

struct Site {
    world: World,
    dice: Dice,
    phones: Vec<Phone>,
    switch: End,
    tokens: Vec<String>,
    /// INVITEs that ring: who was asked, and the text.
    ringing: Vec<(Option<usize>, End, String)>,
    /// INVITEs that were sent.
    asked: Vec<(Option<usize>, End, String)>,
    legs: Vec<Leg>,
    /// Requests that were sent, and how many final answers came: by end, Call-ID and CSeq.
    sent: HashMap<(End, String), usize>,
    calls: u32,
}

impl Site {
    fn new(seed: u64) -> Self {
        let mut config = unguarded();
        config.timers.dialog_idle = Duration::from_secs(900);
        let mut world = World::with(config);
        let switch = world.switch("10.0.1.50:33000");
        let phone = |n: usize| Phone { mac: format!("08000FD4CB{n:02}"), end: None, registrations: 0 };
        Self {
            world,
            dice: Dice(seed),
            phones: (0..5).map(phone).collect(),
            switch,
            tokens: Vec::new(),
            ringing: Vec::new(),
            asked: Vec::new(),
            legs: Vec::new(),
            sent: HashMap::new(),
            calls: 0,
        }
    }

    fn ask(&mut self, end: End, text: &str) {
        if !text.starts_with("ACK") {
            self.sent.insert((end, id(text)), 0);
        }
        self.world.say(end, text);
    }

    fn act(&mut self) {
        let n = self.dice.roll(self.phones.len() as u64) as usize;
        match self.dice.roll(14) {
            0 | 1 => self.connect(n),
            2 => self.lose(n),
            3 | 4 => self.register(n),
            5 | 6 => self.call_in(),
            7 | 8 => self.call_out(n),
            9 | 10 => self.answer(),
            11 => self.give_up(),
            12 => self.hang_up(),
            _ => self.world.wait(Duration::from_millis([0, 300, 5_000, 40_000][self.dice.roll(4) as usize])),
        }
        self.listen();
    }

    fn connect(&mut self, n: usize) {
        if self.phones[n].end.is_none() {
            let port = 40_000 + self.dice.roll(3) * 100 + n as u64;
            let mac = self.phones[n].mac.clone();
            self.phones[n].end = Some(self.world.phone(&mac, &format!("198.51.100.7:{port}")));
        }
    }

    fn lose(&mut self, n: usize) {
        if let Some(end) = self.phones[n].end.take() {
            self.world.hang(end);
        }
    }

    fn register(&mut self, n: usize) {
        let Some(end) = self.phones[n].end else { return };
        self.phones[n].registrations += 1;
        let mut text = register(&self.phones[n].mac, "192.168.1.7", self.phones[n].registrations, "");
        if self.dice.roll(8) == 0 {
            text = text.replace("expires=3600", "expires=0");
        }
        self.ask(end, &text);
    }

    fn call_in(&mut self) {
        self.calls += 1;
        let (call, of) = (format!("i{}", self.calls), self.tokens.len() as u64);
        let uri = match self.dice.roll(4) {
            0 => "sips:anonymous@10.0.1.2".to_owned(),
            1 => "sips:117@10.0.1.2".to_owned(),
            _ if of == 0 => return,
            _ => crate::script::target(&self.tokens[self.dice.roll(of) as usize]),
        };
        let text = from_pbx("INVITE", &uri, &call, 1, "", &sdp(""));
        self.asked.push((None, self.switch, text.clone()));
        self.ask(self.switch, &text);
    }

    fn call_out(&mut self, n: usize) {
        let Some(end) = self.phones[n].end else { return };
        self.calls += 1;
        let uri =
            ["sips:200@10.0.1.50", "sips:200@192.0.2.1", "sips:200@203.0.113.9"][self.dice.roll(3) as usize];
        let text = from_phone("INVITE", uri, &format!("o{}", self.calls), 1, "", &sdp(""));
        self.asked.push((Some(n), end, text.clone()));
        self.ask(end, &text);
    }

    fn pick<T>(dice: &mut Dice, list: &mut Vec<T>) -> Option<T> {
        let len = list.len() as u64;
        if len == 0 { None } else { Some(list.swap_remove(dice.roll(len) as usize)) }
    }

    /// Whether this end's connection still stands.
    fn stands(&self, phone: Option<usize>, end: End) -> bool {
        self.world.stands(end) && phone.is_none_or(|n| self.phones[n].end == Some(end))
    }

    fn answer(&mut self) {
        let Some((phone, end, invite)) = Self::pick(&mut self.dice, &mut self.ringing) else { return };
        if !self.stands(phone, end) {
            return;
        }
        let contact = if phone.is_some() {
            "Contact: <sips:117@192.168.1.7>\n"
        } else {
            "Contact: <sips:200@10.0.1.50:5061;transport=tls>\n"
        };
        match self.dice.roll(5) {
            0 => self.world.say(end, &reply(&invite, "486 Busy Here", "z", "X: 1")),
            1 => {
                self.world.say(end, &reply(&invite, "180 Ringing", "z", contact));
                self.ringing.push((phone, end, invite));
            }
            _ => {
                let refused = if self.dice.roll(10) == 0 { "\na=refuse" } else { "" };
                self.world.say(end, &reply(&invite, "200 OK", "z", &format!("{}{refused}", sdp(contact))));
                self.legs.push(Leg { phone, bye: bye_of_callee(&invite) });
            }
        }
    }

    fn give_up(&mut self) {
        let Some((phone, end, invite)) = Self::pick(&mut self.dice, &mut self.asked) else { return };
        if self.stands(phone, end) {
            let head = invite.split("Content-Type").next().unwrap_or_default();
            self.world.say(
                end,
                head.replace("INVITE sips", "CANCEL sips").replace("1 INVITE", "1 CANCEL").trim_end(),
            );
        }
    }

    fn hang_up(&mut self) {
        let Some(leg) = Self::pick(&mut self.dice, &mut self.legs) else { return };
        let end = match leg.phone {
            Some(n) => self.phones[n].end,
            None => Some(self.switch),
        };
        if let Some(end) = end {
            self.ask(end, &leg.bye);
        }
    }

    /// Everybody reads what came, and does what is due at once.
    fn listen(&mut self) {
        for phone in &mut self.phones {
            phone.end = phone.end.filter(|end| self.world.stands(*end));
        }
        for _ in 0..100 {
            let mut quiet = true;
            for n in 0..self.phones.len() {
                while let Some(text) = self.phones[n].end.and_then(|end| self.world.next(end)) {
                    quiet = false;
                    let Some(end) = self.phones[n].end else { break };
                    self.hear(Some(n), end, &text);
                }
            }
            let mut ends: Vec<End> =
                self.world.dials.iter().map(|(_, flow)| End(sip_core::flow::Source::Flow(*flow))).collect();
            ends.push(self.switch);
            for end in ends {
                while let Some(text) = self.world.next(end) {
                    quiet = false;
                    self.hear(None, end, &text);
                }
            }
            if quiet {
                return;
            }
        }
        panic!("they never stop\n{}", self.world.story());
    }

    fn hear(&mut self, phone: Option<usize>, end: End, text: &str) {
        // What came last before a connection was closed is read, and can't be answered.
        if !self.world.stands(end) {
            return;
        }
        match text.split(' ').next().unwrap_or_default() {
            "SIP/2.0" => self.hear_answer(phone, end, text),
            "INVITE" => {
                if self.dice.roll(4) > 0 {
                    self.world.say(end, &reply(text, "180 Ringing", "z", "X: 1"));
                }
                self.ringing.push((phone, end, text.to_owned()));
            }
            "CANCEL" => {
                self.world.say(end, &reply(text, "200 OK", "z", "X: 1"));
                let via = rows(text, "Via")[0];
                if let Some(at) =
                    self.ringing.iter().position(|(_, e, i)| *e == end && rows(i, "Via")[0] == via)
                {
                    let (_, _, invite) = self.ringing.swap_remove(at);
                    self.world.say(end, &reply(&invite, "487 Request Terminated", "z", "X: 1"));
                }
            }
            "ACK" => {}
            "REGISTER" => {
                let contact = row(text, "Contact").to_owned();
                if self.dice.roll(6) == 0 {
                    self.world.say(end, &reply(text, "503 Service Unavailable", "z", "X: 1"));
                } else {
                    let token = between(&contact, "crt=", ">").to_owned();
                    if !self.tokens.contains(&token) {
                        self.tokens.push(token);
                    }
                    self.world.say(end, &reply(text, "200 OK", "z", &format!("Contact: {contact}")));
                }
            }
            _ => {
                // A phone that says nothing now and then.
                if self.dice.roll(5) > 0 {
                    self.world.say(end, &reply(text, "200 OK", "z", "X: 1"));
                }
            }
        }
    }

    fn hear_answer(&mut self, phone: Option<usize>, end: End, text: &str) {
        let status: u16 = text[8..11].parse().unwrap();
        if status < 200 || row(text, "CSeq").ends_with("CANCEL") {
            return;
        }
        let finals = self.sent.get_mut(&(end, id(text)));
        let finals = finals.unwrap_or_else(|| panic!("an answer to nothing\n{text}"));
        *finals += 1;
        let accepts = status < 300 && row(text, "CSeq").ends_with("INVITE");
        assert!(*finals == 1 || accepts, "answered twice\n{text}");
        if accepts {
            let ack = ack_of(text);
            self.world.say(end, &ack);
            let bye =
                ack.replacen("ACK ", "BYE ", 1).replace("z9hG4bKack", "z9hG4bKbye").replace("1 ACK", "2 BYE");
            self.legs.push(Leg { phone, bye });
        }
    }
}

/// What an answer answers.
fn id(text: &str) -> String {
    let wanted = |name: &str| {
        let line = text.lines().map(str::trim).find(|l| l.starts_with(name)).unwrap_or_default();
        line.split_once(": ").map_or("", |(_, value)| value).to_owned()
    };
    format!("{} {} {}", wanted("Call-ID"), wanted("CSeq"), wanted("From"))
}

/// The ACK of a 2xx, by whoever asked.
fn ack_of(ok: &str) -> String {
    let target = between(row(ok, "Contact"), "<", ">");
    let mut text = format!(
        "ACK {target} SIP/2.0\nVia: SIP/2.0/TLS 10.9.9.9:5061;branch=z9hG4bKack{}\n",
        row(ok, "Call-ID")
    );
    for route in rows(ok, "Record-Route").iter().rev() {
        text.push_str(&format!("Route: {route}\n"));
    }
    for name in ["From", "To", "Call-ID"] {
        text.push_str(&format!("{name}: {}\n", row(ok, name)));
    }
    text + "CSeq: 1 ACK"
}

/// The BYE of whoever was asked.
fn bye_of_callee(invite: &str) -> String {
    let target = between(row(invite, "Contact"), "<", ">");
    let mut text = format!(
        "BYE {target} SIP/2.0\nVia: SIP/2.0/TLS 10.9.9.8:5061;branch=z9hG4bKcb{}\n",
        row(invite, "Call-ID")
    );
    for route in rows(invite, "Record-Route") {
        text.push_str(&format!("Route: {route}\n"));
    }
    text.push_str(&format!("From: {};tag=z\nTo: {}\n", row(invite, "To"), row(invite, "From")));
    text + &format!("Call-ID: {}\nCSeq: 8 BYE", row(invite, "Call-ID"))
}

/// Plays one seed; tells how many calls were answered, how many ended by BYE, and how many sessions there were.
fn run(seed: u64) -> [usize; 3] {
    let mut site = Site::new(seed);
    for _ in 0..250 {
        site.act();
    }
    // Nobody does anything new; time goes on until every timer has fired.
    for _ in 0..7 {
        site.world.wait(Duration::from_secs(60));
        site.listen();
    }
    // All that rang is over: only calls that were answered and not ended are left.
    let answered = site.world.saw(|e| matches!(e, Event::CallStarted { .. }));
    let ended = site.world.saw(|e| matches!(e, Event::CallEnded { .. }));
    let left = site.world.edge.snapshot(site.world.now);
    assert_eq!((left.contexts, left.dialogs), (0, answered - ended), "seed {seed}\n{}", site.world.story());
    for _ in 0..60 {
        site.world.wait(Duration::from_secs(120));
        site.listen();
    }
    let left = site.world.edge.snapshot(site.world.now);
    assert_eq!(
        (left.contexts, left.dialogs, left.phones.len()),
        (0, 0, 0),
        "seed {seed}\n{}",
        site.world.story()
    );
    let mut open: HashMap<String, bool> = HashMap::new();
    for line in site.world.media.lock().unwrap().iter() {
        let mut words = line.split(' ');
        let (what, session) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
        let before = open.insert(session.clone(), what != "End");
        assert!(before != Some(false), "seed {seed}: session {session} after its end: {line}");
    }
    assert!(open.values().all(|open| !open), "seed {seed}: sessions left open: {open:?}");
    // Whoever is still connected has had an answer to each request.
    let ends: Vec<End> = site.phones.iter().filter_map(|p| p.end).chain([site.switch]).collect();
    for ((end, id), finals) in &site.sent {
        assert!(*finals > 0 || !ends.contains(end), "seed {seed}: no answer to {id}\n{}", site.world.story());
    }
    let started = site.world.saw(|e| matches!(e, Event::CallStarted { .. }));
    let ended = site.world.saw(|e| matches!(e, Event::CallEnded { by: Some(_), .. }));
    [started, ended, open.len()]
}

#[test]
fn whatever_happens_nothing_is_left() {
    let mut all = [0; 3];
    for seed in 0..40 {
        for (sum, n) in all.iter_mut().zip(run(seed)) {
            *sum += n;
        }
    }
    // It did happen.
    assert!(all[0] > 200 && all[1] > 100 && all[2] > 400, "{all:?}");
}

#[test]
fn mutilated_messages_harm_nobody() {
    let mut dice = Dice(7);
    let mut site = Site::new(7);
    // What can not be read is passed on as it is.
    site.world.shows_inside = true;
    let (phone, own, token) = crate::register::registered(
        &mut site.world,
        crate::register::MAC_A,
        "198.51.100.9:40000",
        "192.168.1.7",
    );
    let call = crate::script::Call::again(&mut site.world, "c", phone, own, site.switch, &token);
    let parts = [
        "crt=",
        "pc=",
        "ft=",
        "rs=",
        "\"",
        "<",
        ">",
        ";",
        ",",
        "%",
        "@",
        ":",
        "sips:",
        "*",
        "\r\n ",
        "=",
        "[::1]",
        "4294967296",
        "\u{e9}",
    ];
    let mut taken = 0;
    for n in 0..6_000 {
        let (end, text) = match dice.roll(6) {
            0 => (phone, register(crate::register::MAC_A, "192.168.1.7", n, "")),
            1 => (phone, from_phone("INVITE", "sips:200@10.0.1.50", &format!("m{n}"), 1, "", &sdp(""))),
            2 => (phone, call.of_phone("INFO", n, "Refer-To: <sips:x@192.0.2.1;pc=a?Replaces=b>")),
            3 => (
                site.switch,
                from_pbx("INVITE", &crate::script::target(&token), &format!("p{n}"), 1, "", &sdp("")),
            ),
            4 => (site.switch, call.of_pbx("UPDATE", n, &sdp(""))),
            _ => {
                let heard = site.world.next(phone).or_else(|| site.world.next(own));
                let Some(heard) = heard.filter(|text| !text.starts_with("SIP") && !text.starts_with("ACK"))
                else {
                    continue;
                };
                let end = if heard.contains("192.0.2.1") { phone } else { own };
                (end, reply(&heard, "200 OK", "m", &sdp("Contact: <sips:117@192.168.1.7>\n")))
            }
        };
        let mut bytes = crate::world::wire(&text).to_vec();
        for _ in 0..dice.roll(4) {
            let at = dice.roll(bytes.len() as u64) as usize;
            let part = parts[dice.roll(parts.len() as u64) as usize].as_bytes();
            match dice.roll(3) {
                0 => bytes[at] = dice.roll(256) as u8,
                1 => drop(bytes.splice(at..at, part.iter().copied())),
                _ => drop(bytes.drain(at..(at + dice.roll(12) as usize).min(bytes.len()))),
            }
        }
        taken += usize::from(site.world.throw(end, bytes));
    }
    assert!(taken > 2_000, "{taken}");
    for _ in 0..20 {
        site.world.wait(Duration::from_secs(120));
    }
    assert_eq!(site.world.edge.snapshot(site.world.now).contexts, 0);
}
