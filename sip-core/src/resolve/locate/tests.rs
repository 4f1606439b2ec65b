#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

use super::*;

const DOMAINS: &[&str] = &["example.internal"];

/// Name servers that know these records.
struct Rig {
    locator: Locator,
    random: Random,
    now: Instant,
    domains: Vec<String>,
    records: HashMap<(Kind, String), (Records, u64)>,
    /// Whether any name server answers.
    up: bool,
    asked: Vec<(Kind, String)>,
}

impl Rig {
    fn new() -> Self {
        Self::seeded(0)
    }

    fn seeded(seed: u8) -> Self {
        Self {
            locator: Locator::new(Duration::from_secs(5)),
            random: Random::new([seed; 32]),
            now: Instant::now(),
            domains: DOMAINS.iter().map(|domain| (*domain).to_owned()).collect(),
            records: HashMap::new(),
            up: true,
            asked: Vec::new(),
        }
    }

    fn srv(&mut self, name: &str, ttl: u64, records: &[(u16, u16, u16, &str)]) {
        let srv = |&(priority, weight, port, target): &(u16, u16, u16, &str)| Srv {
            priority,
            weight,
            port,
            target: target.to_owned(),
        };
        let records = Records::Srv(records.iter().map(srv).collect());
        self.records.insert((Kind::Srv, name.to_owned()), (records, ttl));
    }

    fn naptr(&mut self, name: &str, records: &[(u16, u16, &str, &str)]) {
        let naptr = |&(order, preference, services, replacement): &(u16, u16, &str, &str)| Naptr {
            order,
            preference,
            flags: "s".to_owned(),
            services: services.to_owned(),
            regexp: String::new(),
            replacement: replacement.to_owned(),
        };
        let records = Records::Naptr(records.iter().map(naptr).collect());
        self.records.insert((Kind::Naptr, name.to_owned()), (records, 300));
    }

    fn a(&mut self, name: &str, ttl: u64, addresses: &[&str]) {
        let records = Records::Addresses(addresses.iter().map(|a| a.parse().unwrap()).collect());
        self.records.insert((Kind::Addresses, name.to_owned()), (records, ttl));
    }

    /// Looks until the search is done, and says what it found and how many seconds that took.
    fn find(&mut self, name: &str, port: Option<u16>, over: Over) -> (Vec<String>, u64) {
        let start = self.now;
        let sought = Sought { name: name.to_owned(), port, over };
        let number = match self.locator.locate(self.now, sought, &self.domains, &mut self.random) {
            Progress::Found(places) => return (spelled(&places), 0),
            Progress::Waiting(number) => number,
        };
        loop {
            while let Some((number, question)) = self.locator.poll_question() {
                self.asked.push((question.kind, question.name.clone()));
                if !self.up {
                    continue;
                }
                let known = self.records.get(&(question.kind, question.name));
                let (records, ttl) = known.cloned().unwrap_or((Records::Missing, 60));
                let answer = Answer { records, ttl: Duration::from_secs(ttl) };
                self.locator.handle_answer(self.now, number, answer, &self.domains);
            }
            if let Some((found, places)) = self.locator.poll_found() {
                assert_eq!(found, number);
                assert!(self.locator.is_empty());
                return (spelled(&places), (self.now - start).as_secs());
            }
            self.now = self.now.max(self.locator.deadline().expect("the search hangs"));
            self.locator.handle_timeout(self.now, &self.domains);
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.locator.handle_timeout(self.now, &self.domains);
    }
}

fn spelled(places: &[Place]) -> Vec<String> {
    let port = |place: &Place| place.port.map_or_else(|| "-".to_owned(), |port| port.to_string());
    places
        .iter()
        .map(|place| format!("{} {} {}", place.address, port(place), place.transport.via_token()))
        .collect()
}

fn tls() -> Over {
    Over::Any(vec![Transport::Tls])
}

#[test]
fn naptr_then_srv_then_addresses() {
    let mut rig = Rig::new();
    rig.naptr(
        "example.internal",
        &[
            (20, 1, "SIP+D2U", "_sip._udp.example.internal"),
            (10, 2, "SIP+D2T", "_sip._tcp.example.internal"),
            (10, 1, "SIPS+D2T", "_sips._tcp.HQ.example.internal."),
        ],
    );
    rig.srv(
        "_sips._tcp.hq.example.internal",
        60,
        &[(20, 0, 5062, "b.example.internal"), (10, 0, 5063, "a.example.internal.")],
    );
    rig.a("a.example.internal", 60, &["10.0.1.51", "2001:db8::51"]);
    rig.a("b.example.internal", 60, &["10.0.1.50"]);
    let all = Over::Any(vec![Transport::Udp, Transport::Tcp, Transport::Tls]);
    let (found, _) = rig.find("Example.Internal.", None, all);
    assert_eq!(found, ["10.0.1.51 5063 TLS", "2001:db8::51 5063 TLS", "10.0.1.50 5062 TLS"]);
    assert_eq!(rig.asked.len(), 4, "{:?}", rig.asked);
}

#[test]
fn sips_takes_tls_only_whatever_naptr_offers() {
    let mut rig = Rig::new();
    rig.naptr("example.internal", &[(1, 1, "SIP+D2U", "_sip._udp.example.internal")]);
    rig.srv("_sip._udp.example.internal", 60, &[(1, 0, 5060, "a.example.internal")]);
    rig.a("a.example.internal", 60, &["10.0.1.51"]);
    rig.a("example.internal", 60, &["10.0.1.50"]);
    assert_eq!(rig.find("example.internal", None, tls()).0, ["10.0.1.50 - TLS"]);
    assert!(rig.asked.contains(&(Kind::Srv, "_sips._tcp.example.internal".to_owned())));
    assert!(!rig.asked.contains(&(Kind::Srv, "_sip._udp.example.internal".to_owned())));
}

#[test]
fn a_port_skips_srv_and_a_transport_skips_naptr() {
    let mut rig = Rig::new();
    rig.a("pbx.example.internal", 60, &["10.0.1.50"]);
    assert_eq!(rig.find("pbx.example.internal", Some(5071), tls()).0, ["10.0.1.50 5071 TLS"]);
    assert_eq!(rig.asked, [(Kind::Addresses, "pbx.example.internal".to_owned())]);
    rig.asked.clear();
    rig.srv("_sip._tcp.pbx.example.internal", 60, &[(1, 0, 5060, "pbx.example.internal")]);
    let found = rig.find("pbx.example.internal", None, Over::Named(Transport::Tcp)).0;
    assert_eq!(found, ["10.0.1.50 5060 TCP"]);
    assert_eq!(rig.asked, [(Kind::Srv, "_sip._tcp.pbx.example.internal".to_owned())], "the rest was known");
}

#[test]
fn a_service_that_is_denied_is_not_sought_by_address() {
    let mut rig = Rig::new();
    rig.srv("_sips._tcp.example.internal", 60, &[(0, 0, 0, ".")]);
    rig.a("example.internal", 60, &["10.0.1.50"]);
    assert!(rig.find("example.internal", None, tls()).0.is_empty());
}

#[test]
fn a_target_elsewhere_is_not_asked_for() {
    let mut rig = Rig::new();
    rig.naptr("example.internal", &[(1, 1, "SIPS+D2T", "_sips._tcp.evil.test")]);
    let stranger = (1, 0, 5061, "evil.test");
    rig.srv("_sips._tcp.example.internal", 60, &[stranger, (2, 0, 5061, "a.example.internal")]);
    rig.a("a.example.internal", 60, &["10.0.1.51"]);
    assert_eq!(rig.find("example.internal", None, tls()).0, ["10.0.1.51 5061 TLS"]);
    assert!(rig.asked.iter().all(|(_, name)| !name.contains("evil")), "{:?}", rig.asked);
}

#[test]
fn a_hundred_records_are_bounded_and_keep_their_order() {
    let mut rig = Rig::new();
    let names: Vec<String> = (0..300).map(|at| format!("n{at}.example.internal")).collect();
    let records: Vec<_> = names.iter().map(|name| (1, 1, 5061, name.as_str())).collect();
    rig.srv("_sips._tcp.example.internal", 60, &records);
    let many: Vec<String> = (0..=255).map(|at| format!("10.1.1.{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for name in &names {
        rig.a(name, 60, &many);
    }
    let (found, _) = rig.find("example.internal", None, tls());
    assert_eq!(found.len(), TARGETS * RECORDS);
    assert_eq!(rig.asked.len(), 2 + TARGETS, "each target is asked for once");
}

#[test]
fn a_ttl_of_0_is_believed_for_a_moment_and_a_long_one_not_for_ever() {
    let mut rig = Rig::new();
    rig.a("pbx.example.internal", 0, &["10.0.1.50"]);
    let sought = |rig: &mut Rig| rig.find("pbx.example.internal", Some(5061), tls()).0;
    sought(&mut rig);
    sought(&mut rig);
    assert_eq!(rig.asked.len(), 1);
    rig.wait(5);
    rig.a("pbx.example.internal", 1_000_000, &["10.0.1.51"]);
    assert_eq!(sought(&mut rig), ["10.0.1.51 5061 TLS"]);
    rig.wait(3_599);
    sought(&mut rig);
    assert_eq!(rig.asked.len(), 2);
    rig.wait(1);
    sought(&mut rig);
    assert_eq!(rig.asked.len(), 3);
}

#[test]
fn a_denial_is_remembered_and_not_for_long() {
    let mut rig = Rig::new();
    assert!(rig.find("new.example.internal", Some(5061), tls()).0.is_empty());
    rig.a("new.example.internal", 60, &["10.0.1.50"]);
    assert!(rig.find("new.example.internal", Some(5061), tls()).0.is_empty());
    assert_eq!(rig.asked.len(), 1);
    rig.wait(30);
    assert_eq!(rig.find("new.example.internal", Some(5061), tls()).0.len(), 1);
}

#[test]
fn while_no_name_server_answers_what_was_known_is_used() {
    let mut rig = Rig::new();
    rig.a("pbx.example.internal", 60, &["10.0.1.50"]);
    rig.find("pbx.example.internal", Some(5061), tls());
    rig.up = false;
    rig.wait(29 * 86_400);
    let (found, seconds) = rig.find("pbx.example.internal", Some(5061), tls());
    assert_eq!((found.len(), seconds), (1, 1), "a second is waited for something newer");
    rig.wait(4);
    let (found, seconds) = rig.find("pbx.example.internal", Some(5061), tls());
    assert_eq!((found.len(), seconds), (1, 0), "and the next caller doesn't wait at all");
    rig.up = true;
    rig.a("pbx.example.internal", 60, &["10.0.1.51"]);
    rig.wait(10);
    assert_eq!(rig.find("pbx.example.internal", Some(5061), tls()).0, ["10.0.1.51 5061 TLS"]);
}

#[test]
fn without_any_answer_a_search_ends_in_time() {
    let mut rig = Rig::new();
    rig.up = false;
    let (found, seconds) = rig.find("example.internal", None, tls());
    assert_eq!((found.len(), seconds), (0, 5));
    assert!(rig.locator.is_empty() && rig.locator.searches.is_empty());
    rig.wait(10);
    assert!(
        rig.locator.asked.is_empty() && rig.locator.waiting.is_empty() && rig.locator.deadlines.is_empty()
    );
}

#[test]
fn one_question_serves_all_who_wait() {
    let mut rig = Rig::new();
    let sought = Sought { name: "pbx.example.internal".to_owned(), port: Some(5061), over: tls() };
    for _ in 0..50 {
        let progress = rig.locator.locate(rig.now, sought.clone(), &rig.domains, &mut rig.random);
        assert!(matches!(progress, Progress::Waiting(_)));
    }
    let (number, question) = rig.locator.poll_question().unwrap();
    assert_eq!(question.kind, Kind::Addresses);
    assert!(rig.locator.poll_question().is_none());
    let records = Records::Addresses(vec!["10.0.1.50".parse().unwrap()]);
    let answer = Answer { records, ttl: Duration::from_secs(60) };
    rig.locator.handle_answer(rig.now, number, answer, &rig.domains);
    assert_eq!(std::iter::from_fn(|| rig.locator.poll_found()).count(), 50);
}

#[test]
fn memory_is_bounded_however_many_names_are_sought() {
    let mut rig = Rig::new();
    for at in 0..3_000 {
        rig.find(&format!("n{at}.example.internal"), Some(5061), tls());
    }
    assert!(rig.locator.answers.len() <= ANSWERS && rig.locator.ends.len() <= ANSWERS);
}

#[test]
fn answers_of_the_wrong_kind_are_as_good_as_none() {
    let mut rig = Rig::new();
    let wrong = Records::Addresses(vec!["10.0.1.50".parse().unwrap()]);
    for kind in [Kind::Naptr, Kind::Srv] {
        let name = if kind == Kind::Srv { "_sips._tcp.example.internal" } else { "example.internal" };
        rig.records.insert((kind, name.to_owned()), (wrong.clone(), 60));
    }
    rig.srv("example.internal", 60, &[]);
    rig.records.insert((Kind::Addresses, "example.internal".to_owned()), (Records::Srv(Vec::new()), 60));
    assert!(rig.find("example.internal", None, tls()).0.is_empty());
}
