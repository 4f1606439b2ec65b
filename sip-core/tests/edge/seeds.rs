//! Seeded towns: a dozen phones on three switches, storms, crossings, lost connections, re-homing by 301, failover, restarts.
//!
//! Every request from inside says whom it is for; the phone that hears another's name ends the test. A run plays
//! [`SMALL`] seeds; `FAREND_SEEDS=10000` plays more, `FAREND_SEED=n` one.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sip_core::edge::Config;
use sip_core::resolve::Server;

use crate::register::register_to;
use crate::script::{from_phone, sdp};
use crate::world::{End, World, between, reply, row, rows, unguarded};

/// What CI plays.
const SMALL: u64 = 60;
const PHONES: usize = 12;
const SWITCHES: [&str; 3] = ["10.0.1.50", "10.0.1.51", "10.0.1.52"];
/// A name that stands for the first two switches, in this order.
const NAME: &str = "sip.example.internal";

struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

struct Phone {
    mac: String,
    host: String,
    end: Option<End>,
    cseq: u32,
    /// Where it registers: one of [`SWITCHES`] or [`NAME`].
    home: String,
    /// Whether the last answer to its REGISTER was a 200, on this connection.
    registered: bool,
}

#[derive(Default)]
struct Switch {
    down: bool,
    /// Where it sends whoever registers.
    moved: Option<usize>,
    /// MAC → Contact URI, connection of the REGISTER.
    bindings: BTreeMap<String, (String, End)>,
}

/// What was asked of a phone, and how it ended.
struct Asked {
    mac: String,
    status: Option<u16>,
}

struct Town {
    seed: u64,
    world: World,
    dice: Dice,
    phones: Vec<Phone>,
    switches: [Switch; 3],
    /// Contact URIs ever stored, by switch and MAC: a phone never gets a second one.
    contacts: HashMap<(usize, String), String>,
    asked: HashMap<String, Asked>,
    /// INVITEs that wait for a person: phone, connection, text.
    ringing: Vec<(usize, End, String)>,
    requests: u32,
    delivered: usize,
}

fn town() -> Config {
    let mut config = unguarded();
    let server = Server {
        name: "main".to_owned(),
        lookup: None,
        matches: vec![NAME.to_owned()],
        addresses: SWITCHES[..2].iter().map(|a| (a.parse().unwrap(), None)).collect(),
    };
    config.servers = vec![server];
    config.timers.dialog_idle = Duration::from_secs(900);
    config
}

impl Town {
    fn new(seed: u64) -> Self {
        let phone = |n: usize| Phone {
            mac: format!("08000FD4C{n:03}"),
            // Homes share their private addresses.
            host: format!("192.168.1.{}", 7 + n % 4),
            end: None,
            cseq: 0,
            home: SWITCHES[n % 3].to_owned(),
            registered: false,
        };
        let mut world = World::with(town());
        // A 301 shows where to go.
        world.shows_inside = true;
        Self {
            seed,
            world,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            phones: (0..PHONES).map(phone).collect(),
            switches: Default::default(),
            contacts: HashMap::new(),
            asked: HashMap::new(),
            ringing: Vec::new(),
            requests: 0,
            delivered: 0,
        }
    }

    #[track_caller]
    fn fault(&self, what: &str) -> ! {
        panic!("FAREND_SEED={}: {what}\n{}", self.seed, self.world.story())
    }

    fn act(&mut self) {
        let n = self.dice.roll(PHONES);
        match self.dice.roll(20) {
            0 => self.everybody_arrives(),
            1 => self.power_cut(),
            2 | 3 => self.arrive(n),
            4 | 5 => self.leave(n),
            6 => self.unregister(n),
            7 => self.switch_dies(),
            8 | 9 => self.switch_comes_back(),
            10 => self.switch_moves_people(),
            11 => {
                self.phones[n].home =
                    [SWITCHES[0], SWITCHES[1], SWITCHES[2], NAME][self.dice.roll(4)].to_owned()
            }
            12..=14 => drop(self.ask(n, "NOTIFY")),
            15 => drop(self.ask(n, "INVITE")),
            16 => self.cross(n),
            17 => self.pick_up(),
            18 if self.dice.roll(6) == 0 => self.restart(),
            _ => self.world.wait(Duration::from_millis([1, 400, 6_000, 45_000][self.dice.roll(4)])),
        }
        self.listen();
    }

    fn connect(&mut self, n: usize) {
        if self.phones[n].end.is_some() {
            return;
        }
        let port = 40_000 + self.dice.roll(4) * 100 + n;
        let remote = format!("198.51.100.{}:{port}", 1 + n % 5);
        let mac = self.phones[n].mac.clone();
        self.phones[n].end = Some(self.world.phone(&mac, &remote));
        self.phones[n].registered = false;
    }

    fn register(&mut self, n: usize, expires: &str) {
        let phone = &mut self.phones[n];
        let Some(end) = phone.end else { return };
        phone.cseq += 1;
        let text = register_to(&phone.home, &phone.mac, &phone.host, phone.cseq, "");
        self.world.say(end, &text.replace("expires=3600", expires));
    }

    fn arrive(&mut self, n: usize) {
        self.connect(n);
        self.register(n, "expires=3600");
    }

    fn everybody_arrives(&mut self) {
        // All are there before any is answered.
        for n in 0..PHONES {
            self.connect(n);
        }
        for n in 0..PHONES {
            self.register(n, "expires=3600");
        }
    }

    fn leave(&mut self, n: usize) {
        if let Some(end) = self.phones[n].end.take() {
            self.world.hang(end);
        }
        self.phones[n].registered = false;
    }

    fn power_cut(&mut self) {
        (0..PHONES).filter(|n| n % 2 == 0).for_each(|n| self.leave(n));
    }

    fn unregister(&mut self, n: usize) {
        self.register(n, "expires=0");
        self.phones[n].registered = false;
    }

    fn switch_dies(&mut self) {
        let k = self.dice.roll(3);
        self.switches[k].down = true;
        let address = format!("{}:5061", SWITCHES[k]).parse().unwrap();
        self.world.down.insert(address);
        let lines: Vec<_> = self.world.dials.iter().filter(|(dial, _)| dial.remote == address).collect();
        let ends: Vec<_> = lines.iter().map(|(_, flow)| End(sip_core::flow::Source::Flow(*flow))).collect();
        for end in ends.into_iter().filter(|end| self.world.stands(*end)).collect::<Vec<_>>() {
            self.world.hang(end);
        }
    }

    fn switch_comes_back(&mut self) {
        for (k, switch) in self.switches.iter_mut().enumerate() {
            switch.down = false;
            self.world.down.remove(&format!("{}:5061", SWITCHES[k]).parse().unwrap());
        }
    }

    fn switch_moves_people(&mut self) {
        let (from, to) = (self.dice.roll(3), self.dice.roll(3));
        for switch in &mut self.switches {
            switch.moved = None;
        }
        if from != to {
            self.switches[from].moved = Some(to);
        }
    }

    fn restart(&mut self) {
        self.world.restart(town());
        for phone in &mut self.phones {
            (phone.end, phone.registered) = (None, false);
        }
        self.ringing.clear();
        // Whoever asked is not answered any more.
        self.asked.retain(|_, asked| asked.status.is_some());
    }

    /// A switch that holds a phone's binding asks for that phone, over a connection of its own or the phone's line.
    fn ask(&mut self, n: usize, method: &str) -> Option<String> {
        let mac = self.phones[n].mac.clone();
        let k = (0..3).find(|k| !self.switches[*k].down && self.switches[*k].bindings.contains_key(&mac))?;
        let (uri, line) = self.switches[k].bindings[&mac].clone();
        let over = if self.dice.roll(2) == 0 && self.world.stands(line) {
            line
        } else {
            self.world.switch(&format!("{}:{}", SWITCHES[k], 33_000 + self.requests))
        };
        self.requests += 1;
        let call = format!("q{}", self.requests);
        let body = if method == "INVITE" { sdp("") } else { String::new() };
        let text = format!(
            "{method} {uri} SIP/2.0
            Via: SIP/2.0/TLS {host}:5061;branch=z9hG4bK{call}
            Max-Forwards: 70
            From: <sips:200@{host}>;tag=p{call}
            To: <{uri}>
            Call-ID: {call}
            CSeq: 1 {method}
            Contact: <sips:200@{host}:5061;transport=tls>
            Event: check-sync
            Subscription-State: active
            X-For: {mac}
            {body}",
            host = SWITCHES[k],
        );
        self.asked.insert(call.clone(), Asked { mac, status: None });
        self.world.say(over, &text);
        Some(call)
    }

    /// Phone and switch call each other at once.
    fn cross(&mut self, n: usize) {
        let Some(end) = self.phones[n].end else { return };
        let home = self.phones[n].home.clone();
        self.ask(n, "INVITE");
        if !self.world.stands(end) {
            return;
        }
        self.requests += 1;
        let text = from_phone(
            "INVITE",
            &format!("sips:200@{home}"),
            &format!("o{}", self.requests),
            1,
            "",
            &sdp(""),
        );
        self.world.say(end, &text);
    }

    fn pick_up(&mut self) {
        if self.ringing.is_empty() {
            return;
        }
        let (n, end, invite) = self.ringing.swap_remove(self.dice.roll(self.ringing.len()));
        if self.phones[n].end == Some(end) && self.world.stands(end) {
            let contact = format!("Contact: <sips:117@{}>\n", self.phones[n].host);
            let answer = ["200 OK", "486 Busy Here", "603 Decline"][self.dice.roll(3)];
            let more = if answer.starts_with("200") { sdp(&contact) } else { "X: 1".to_owned() };
            self.world.say(end, &reply(&invite, answer, "z", &more));
        }
    }

    /// Everybody reads what came.
    fn listen(&mut self) {
        for _ in 0..200 {
            let mut quiet = true;
            for n in 0..PHONES {
                self.phones[n].end = self.phones[n].end.filter(|end| self.world.stands(*end));
                while let Some(end) = self.phones[n].end
                    && let Some(text) = self.world.next(end)
                {
                    quiet = false;
                    self.phone_hears(n, end, &text);
                }
            }
            for end in self.world.inside_ends() {
                while let Some(text) = self.world.next(end) {
                    quiet = false;
                    self.switch_hears(end, &text);
                }
            }
            if quiet {
                return;
            }
        }
        self.fault("they never stop");
    }

    fn phone_hears(&mut self, n: usize, end: End, text: &str) {
        if !self.world.stands(end) {
            return;
        }
        let (mac, own) = (self.phones[n].mac.clone(), format!("<sips:anonymous@{}>", self.phones[n].host));
        match text.split(' ').next().unwrap_or_default() {
            "SIP/2.0" if row(text, "CSeq").ends_with("REGISTER") => self.registered(n, text, &own),
            "SIP/2.0" => {}
            "ACK" | "BYE" | "CANCEL" if !text.contains("X-For") => {
                if !text.starts_with("ACK") {
                    self.world.say(end, &reply(text, "200 OK", "z", "X: 1"));
                }
            }
            "OPTIONS" => self.world.say(end, &reply(text, "200 OK", "z", "X: 1")),
            method => {
                if row(text, "X-For") != mac {
                    self.fault(&format!("{mac} hears what is for {}", row(text, "X-For")));
                }
                self.delivered += 1;
                if method == "INVITE" {
                    self.world.say(end, &reply(text, "180 Ringing", "z", "X: 1"));
                    self.ringing.push((n, end, text.to_owned()));
                } else {
                    self.world.say(end, &reply(text, "200 OK", "z", "X: 1"));
                }
            }
        }
    }

    fn registered(&mut self, n: usize, text: &str, own: &str) {
        let current = row(text, "CSeq") == format!("{} REGISTER", self.phones[n].cseq);
        match &text[8..11] {
            "200" => {
                let contacts = rows(text, "Contact");
                if contacts.iter().any(|contact| !contact.starts_with(own)) {
                    self.fault(&format!("{} sees {contacts:?}", self.phones[n].mac));
                }
                self.phones[n].registered = current && !contacts.is_empty();
            }
            "301" if current => {
                let there = between(row(text, "Contact"), "sips:", ":5061").to_owned();
                self.phones[n].home = there;
                self.register(n, "expires=3600");
            }
            _ => self.phones[n].registered &= !current,
        }
    }

    fn switch_hears(&mut self, end: End, text: &str) {
        if !self.world.stands(end) {
            return;
        }
        match text.split(' ').next().unwrap_or_default() {
            "SIP/2.0" => self.answered(text),
            "REGISTER" => self.switch_registers(end, text),
            "ACK" => {}
            "INVITE" if self.dice.roll(2) == 0 => {
                self.world.say(end, &reply(text, "486 Busy Here", "s", "X: 1"))
            }
            "INVITE" => {
                self.world.say(
                    end,
                    &reply(text, "200 OK", "s", &sdp("Contact: <sips:200@10.0.1.50:5061;transport=tls>\n")),
                );
            }
            _ => self.world.say(end, &reply(text, "200 OK", "s", "X: 1")),
        }
    }

    fn answered(&mut self, text: &str) {
        let status: u16 = text[8..11].parse().unwrap();
        let Some(asked) = self.asked.get_mut(row(text, "Call-ID")).filter(|_| status >= 200) else { return };
        let again = asked.status.replace(status);
        // Nobody acknowledges here: the same answer may come again, over another connection when the first is lost.
        if again.is_some_and(|before| before != status) {
            let what = format!("{} for {} after {again:?}", row(text, "Call-ID"), asked.mac);
            self.fault(&what);
        }
    }

    fn switch_registers(&mut self, end: End, text: &str) {
        let remote = self.world.remote(end);
        let k = SWITCHES.iter().position(|s| remote.starts_with(&format!("{s}:"))).unwrap();
        if let Some(to) = self.switches[k].moved {
            let there = format!("Contact: <sips:{}:5061>", SWITCHES[to]);
            return self.world.say(end, &reply(text, "301 Moved Permanently", "s", &there));
        }
        let contact = row(text, "Contact").to_owned();
        let mac = between(&contact, "8000-", ">").to_owned();
        let uri = between(&contact, "<", ">").to_owned();
        let known = self.contacts.entry((k, mac.clone())).or_insert_with(|| uri.clone()).clone();
        if known != uri {
            self.fault(&format!("{mac} has a second Contact: {uri} after {known}"));
        }
        if contact.contains("expires=0") {
            self.switches[k].bindings.remove(&mac);
        } else {
            self.switches[k].bindings.insert(mac, (uri, end));
        }
        let all: String = self.switches[k]
            .bindings
            .iter()
            .map(|(mac, (uri, _))| {
                format!("Contact: <{uri}>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{mac}>\";expires=3600\n")
            })
            .collect();
        self.world.say(end, &reply(text, "200 OK", "s", &all));
    }

    /// All is well again: every phone gets in, and each is reached.
    fn recovers(&mut self) {
        self.switch_comes_back();
        self.switches.iter_mut().for_each(|switch| switch.moved = None);
        self.world.wait(Duration::from_secs(60));
        self.listen();
        self.everybody_arrives();
        self.listen();
        for n in 0..PHONES {
            if !self.phones[n].registered {
                self.fault(&format!("{} can't register when all is well", self.phones[n].mac));
            }
            let call = self.ask(n, "NOTIFY");
            self.listen();
            let status = call.and_then(|call| self.asked[&call].status);
            if status != Some(200) {
                self.fault(&format!("{} is not reached when all is well: {status:?}", self.phones[n].mac));
            }
        }
    }

    /// Everybody goes; hours later nothing is left.
    fn ends(&mut self) {
        (0..PHONES).for_each(|n| self.leave(n));
        for _ in 0..70 {
            self.world.wait(Duration::from_secs(120));
            self.listen();
        }
        let left = self.world.edge.snapshot(self.world.now);
        if (left.contexts, left.dialogs, left.phones.len()) != (0, 0, 0) {
            self.fault(&format!(
                "left: {} contexts, {} dialogs, {} phones",
                left.contexts,
                left.dialogs,
                left.phones.len()
            ));
        }
    }
}

/// Plays one seed: how many requests reached their phone.
fn play(seed: u64) -> usize {
    let mut town = Town::new(seed);
    for _ in 0..120 {
        town.act();
    }
    town.recovers();
    town.ends();
    town.delivered
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[test]
fn in_every_town_each_request_reaches_its_phone_and_nothing_is_left() {
    if let Some(seed) = from_environment("FAREND_SEED") {
        play(seed);
        return;
    }
    let seeds = from_environment("FAREND_SEEDS").unwrap_or(SMALL);
    let (next, delivered) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    delivered.fetch_add(play(seed) as u64, Ordering::Relaxed);
                }
            });
        }
    });
    // It did happen.
    let delivered = delivered.into_inner();
    assert!(delivered > 20 * seeds, "{delivered} requests in {seeds} towns");
    println!("{seeds} seeds, {delivered} requests, each reached its own phone");
}
