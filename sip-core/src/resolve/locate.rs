//! RFC 3263 without a socket: from a name to the addresses to try, in order.
//!
//! A [`Locator`] keeps what name servers said for as long as they say, and works a search out from that. What it does not
//! know yet it asks ([`Locator::poll_question`]); every answer goes to [`Locator::handle_answer`], and whatever search was
//! waiting is worked out anew. So a search can't hang or go round: it has a deadline, a number of rounds, and each question
//! stands once however many searches wait for it.
//!
//! When no name server answers, what was known before goes on being used (RFC 8767): a company's name servers may be
//! down, but its telephones ring.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::is_under;
use super::records::{Answer, Kind, Naptr, Question, Records, Srv, ordered, plain, service_name};
use crate::flow::Transport;
use crate::token::Random;

/// Records of one answer that are kept.
const RECORDS: usize = 128;
/// SRV targets of one service whose addresses are asked for.
const TARGETS: usize = 8;
/// Answers that are remembered.
const ANSWERS: usize = 1_024;
/// How often a search is worked out anew: NAPTR, SRV, addresses, and some to spare for what was forgotten meanwhile.
const ROUNDS: u32 = 8;
/// The shortest time an answer is believed: a TTL of 0 would have us ask for every request.
const FLOOR: Duration = Duration::from_secs(5);
/// The longest time an answer is believed.
const CEILING: Duration = Duration::from_secs(3600);
/// How long the optional question for NAPTR may keep the others waiting: some name servers are silent on it.
const NAPTR_WAIT: Duration = Duration::from_secs(2);
/// The longest time a denial is believed (RFC 2308 §5 allows hours; a switch that was just entered shall be found).
const DENIAL: Duration = Duration::from_secs(30);
/// How long what was once known is used while no name server answers.
const STALE: Duration = Duration::from_secs(30 * 86_400);
/// How long a search that has old answers to fall back on waits for new ones (RFC 8767 §5).
const STALE_WAIT: Duration = Duration::from_secs(1);

/// What shall be found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sought {
    /// A host name; never an address.
    pub name: String,
    /// The port of the URI. With one, neither NAPTR nor SRV are asked (RFC 3263 §4.2).
    pub port: Option<u16>,
    /// How it may be reached.
    pub over: Over,
}

/// The transports of a search.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Over {
    /// The one that the URI names: no NAPTR (RFC 3263 §4.1).
    Named(Transport),
    /// Whatever the domain offers of these; in this order when it does not say.
    Any(Vec<Transport>),
}

/// One place to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its address.
    pub address: IpAddr,
    /// Its port; `None` for the default.
    pub port: Option<u16>,
    /// How it is reached.
    pub transport: Transport,
}

/// How a search stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Done: these, in this order. None when there is nothing to be found.
    Found(Vec<Place>),
    /// [`Locator::poll_found`] will tell, under this number.
    Waiting(u64),
}

/// Looks for servers, and remembers what it found.
pub struct Locator {
    /// How long a search may take.
    patience: Duration,
    answers: HashMap<Question, Known>,
    /// The same, by when they are worth nothing any more.
    ends: BTreeSet<(Instant, Question)>,
    searches: HashMap<u64, Search>,
    /// Questions on their way, by number, with the time they may take.
    asked: HashMap<u64, (Question, Instant)>,
    /// Their numbers, and who waits for them.
    waiting: HashMap<Question, (u64, Vec<u64>)>,
    deadlines: BTreeSet<(Instant, Due)>,
    questions: VecDeque<(u64, Question)>,
    found: VecDeque<(u64, Vec<Place>)>,
    last: u64,
}

/// An answer, remembered.
struct Known {
    records: Records,
    /// Until when it is believed.
    until: Instant,
    /// Until when it may stand in for an answer that does not come; where it stands in `ends`.
    end: Instant,
}

struct Search {
    sought: Sought,
    /// What was believed then is believed until its end.
    started: Instant,
    deadline: Instant,
    rounds: u32,
    /// What it draws SRV records by: the same each time it is worked out.
    seed: [u8; 32],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Question(u64),
    Search(u64),
}

/// What a search still lacks.
struct Missing(Vec<Question>);

impl Locator {
    /// A locator that knows nothing. A search is over after `patience`, with whatever is known by then.
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            answers: HashMap::new(),
            ends: BTreeSet::new(),
            searches: HashMap::new(),
            asked: HashMap::new(),
            waiting: HashMap::new(),
            deadlines: BTreeSet::new(),
            questions: VecDeque::new(),
            found: VecDeque::new(),
            last: 0,
        }
    }

    /// How many searches wait.
    pub fn len(&self) -> usize {
        self.searches.len()
    }

    /// Whether no search waits.
    pub fn is_empty(&self) -> bool {
        self.searches.is_empty()
    }

    /// The configuration changed: everything is asked anew, and what is known stands in until it is answered.
    pub fn doubt(&mut self, now: Instant, patience: Duration) {
        self.patience = patience;
        for known in self.answers.values_mut() {
            known.until = known.until.min(now);
        }
    }

    /// Starts a search. Names that NAPTR and SRV lead to are followed only under `domains` and under `sought.name`
    /// itself: an answer must not make us ask strangers.
    pub fn locate(
        &mut self,
        now: Instant,
        sought: Sought,
        domains: &[String],
        random: &mut Random,
    ) -> Progress {
        let mut seed = [0; 32];
        for eight in seed.chunks_exact_mut(8) {
            eight.copy_from_slice(&random.number().to_be_bytes());
        }
        let search = Search { sought, started: now, deadline: now + self.patience, rounds: 0, seed };
        let missing = match self.work_out(&search, domains, false) {
            Ok(places) => return Progress::Found(places),
            Err(missing) => missing,
        };
        self.last += 1;
        let number = self.last;
        self.searches.insert(number, search);
        self.deadlines.insert((now + self.patience, Due::Search(number)));
        self.wait_for(now, number, missing);
        Progress::Waiting(number)
    }

    /// The answer to a question.
    pub fn handle_answer(&mut self, now: Instant, number: u64, answer: Answer, domains: &[String]) {
        let Some((question, deadline)) = self.asked.remove(&number) else { return };
        self.deadlines.remove(&(deadline, Due::Question(number)));
        self.remember(now, question.clone(), answer);
        let Some((_, searches)) = self.waiting.remove(&question) else { return };
        for search in searches {
            self.go_on(now, search, domains);
        }
    }

    /// Questions and searches that took too long.
    pub fn handle_timeout(&mut self, now: Instant, domains: &[String]) {
        while let Some(&(at, due)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.remove(&(at, due));
            match due {
                Due::Question(number) => self.handle_answer(now, number, Answer::FAILED, domains),
                Due::Search(number) => self.conclude(number, domains),
            }
        }
    }

    /// When [`Locator::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next question for the name servers, with a number for its answer.
    pub fn poll_question(&mut self) -> Option<(u64, Question)> {
        self.questions.pop_front()
    }

    /// The next search that is done.
    pub fn poll_found(&mut self) -> Option<(u64, Vec<Place>)> {
        self.found.pop_front()
    }

    /// A search that one of its questions was answered for.
    fn go_on(&mut self, now: Instant, number: u64, domains: &[String]) {
        let Some(mut search) = self.searches.remove(&number) else { return };
        let result = self.work_out(&search, domains, false);
        if let Err(Missing(questions)) = &result
            && questions.iter().any(|question| !self.waiting.contains_key(question))
        {
            search.rounds += 1;
        }
        match result {
            Err(missing) if search.rounds < ROUNDS => {
                self.searches.insert(number, search);
                self.wait_for(now, number, missing);
            }
            result => {
                self.deadlines.remove(&(search.deadline, Due::Search(number)));
                self.found.push_back((number, result.unwrap_or_default()));
            }
        }
    }

    /// Ends a search with what is known, old or new.
    fn conclude(&mut self, number: u64, domains: &[String]) {
        let Some(search) = self.searches.remove(&number) else { return };
        let places = self.work_out(&search, domains, true).unwrap_or_default();
        self.found.push_back((number, places));
    }

    fn wait_for(&mut self, now: Instant, search: u64, missing: Missing) {
        let mut stands_in = false;
        for question in missing.0 {
            stands_in |= self.answers.get(&question).is_some_and(|known| now < known.end);
            if let Some((_, searches)) = self.waiting.get_mut(&question) {
                if !searches.contains(&search) {
                    searches.push(search);
                }
                continue;
            }
            self.last += 1;
            let number = self.last;
            self.questions.push_back((number, question.clone()));
            let patience = match question.kind {
                Kind::Naptr => self.patience.min(NAPTR_WAIT),
                Kind::Srv | Kind::Addresses => self.patience,
            };
            self.asked.insert(number, (question.clone(), now + patience));
            self.deadlines.insert((now + patience, Due::Question(number)));
            self.waiting.insert(question, (number, vec![search]));
        }
        // Old answers are better than a caller who waits.
        if let Some(held) = self.searches.get_mut(&search).filter(|_| stands_in) {
            let deadline = held.deadline.min(now + STALE_WAIT);
            self.deadlines.remove(&(held.deadline, Due::Search(search)));
            self.deadlines.insert((deadline, Due::Search(search)));
            held.deadline = deadline;
        }
    }

    fn remember(&mut self, now: Instant, question: Question, mut answer: Answer) {
        let old = self.answers.remove(&question);
        if let Some(old) = &old {
            self.ends.remove(&(old.end, question.clone()));
        }
        answer.records.truncate(RECORDS);
        let (until, end) = match answer.records {
            Records::Failed => {
                // Not asked again for a moment; what was known before is used meanwhile.
                if let Some(mut old) = old.filter(|old| now < old.end) {
                    old.until = now + FLOOR;
                    self.ends.insert((old.end, question.clone()));
                    self.answers.insert(question, old);
                    return;
                }
                let until = now + if question.kind == Kind::Naptr { DENIAL } else { FLOOR };
                (until, until)
            }
            Records::Missing => {
                let until = now + answer.ttl.clamp(FLOOR, DENIAL);
                (until, until)
            }
            _ => (now + answer.ttl.clamp(FLOOR, CEILING), now + STALE),
        };
        while self.answers.len() >= ANSWERS
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.answers.remove(&first);
        }
        self.ends.insert((end, question.clone()));
        self.answers.insert(question, Known { records: answer.records, until, end });
    }

    /// What is known of a question, to this search.
    fn known(&self, search: &Search, stale: bool, question: &Question) -> Option<&Records> {
        let known = self.answers.get(question)?;
        let limit = if stale { known.end } else { known.until };
        (search.started < limit).then_some(&known.records)
    }

    /// RFC 3263 §4 from what is known. `stale`: also from what is out of date; what is not known then is not there.
    fn work_out(&self, search: &Search, domains: &[String], stale: bool) -> Result<Vec<Place>, Missing> {
        let Sought { name, port, over } = &search.sought;
        let name = plain(name);
        let first = match over {
            Over::Named(transport) => Some(*transport),
            Over::Any(transports) => transports.first().copied(),
        };
        let Some(first) = first else { return Ok(Vec::new()) };
        let lookup = Lookup { locator: self, search, stale };
        let mut denied = false;
        if port.is_none() {
            let follows = |to: &str| is_under(to, &name) || domains.iter().any(|domain| is_under(to, domain));
            for (transport, service) in lookup.services(&name, over, &follows)? {
                let Some(mut targets) = lookup.targets(service)? else { continue };
                denied |= targets.is_empty();
                targets.retain(|srv| follows(&srv.target));
                if !targets.is_empty() {
                    let order = ordered(targets, &mut Random::new(search.seed));
                    return lookup.places(order, transport);
                }
            }
        }
        // RFC 2782: a target "." says that there is decidedly no such service.
        if denied {
            return Ok(Vec::new());
        }
        // RFC 3263 §4.2: no SRV, or a port that was given.
        let addresses = lookup.addresses(name)?;
        Ok(addresses.into_iter().map(|address| Place { address, port: *port, transport: first }).collect())
    }
}

/// One working out of a search.
struct Lookup<'l> {
    locator: &'l Locator,
    search: &'l Search,
    stale: bool,
}

impl<'l> Lookup<'l> {
    fn ask(&self, kind: Kind, name: String) -> Result<&'l Records, Missing> {
        let question = Question { kind, name };
        match self.locator.known(self.search, self.stale, &question) {
            Some(records) => Ok(records),
            None if self.stale => Ok(&Records::Missing),
            None => Err(Missing(vec![question])),
        }
    }

    /// The services to look for, in order (RFC 3263 §4.1).
    fn services(
        &self,
        name: &str,
        over: &Over,
        follows: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<(Transport, String)>, Missing> {
        let transports = match over {
            Over::Named(transport) => return Ok(vec![(*transport, service_name(*transport, name))]),
            Over::Any(transports) => transports,
        };
        if let Records::Naptr(records) = self.ask(Kind::Naptr, name.to_owned())? {
            let mut offers: Vec<(&Naptr, Transport)> = records
                .iter()
                .filter_map(|naptr| Some((naptr, naptr.transport()?)))
                .filter(|(_, transport)| transports.contains(transport))
                .filter(|(naptr, _)| follows(&plain(&naptr.replacement)))
                .collect();
            offers.sort_by_key(|(naptr, _)| (naptr.order, naptr.preference));
            if !offers.is_empty() {
                offers.truncate(transports.len());
                return Ok(offers.into_iter().map(|(n, t)| (t, plain(&n.replacement))).collect());
            }
        }
        Ok(transports.iter().map(|transport| (*transport, service_name(*transport, name))).collect())
    }

    /// The servers of one service: `None` when DNS knows nothing of it, none when it says that there are none.
    fn targets(&self, service: String) -> Result<Option<Vec<Srv>>, Missing> {
        let Records::Srv(records) = self.ask(Kind::Srv, service)? else { return Ok(None) };
        let named = records.iter().map(|srv| Srv { target: plain(&srv.target), ..srv.clone() });
        let usable = named.filter(|srv| !srv.target.is_empty() && srv.port > 0);
        Ok(Some(usable.collect()).filter(|_| !records.is_empty()))
    }

    /// The addresses of the first targets, all asked for at once.
    fn places(&self, targets: Vec<Srv>, transport: Transport) -> Result<Vec<Place>, Missing> {
        let (mut places, mut missing) = (Vec::new(), Missing(Vec::new()));
        for srv in targets.into_iter().take(TARGETS) {
            // RFC 2782: a target is a name; an address there is looked up by nobody.
            match self.addresses(srv.target) {
                Ok(addresses) => places.extend(addresses.into_iter().map(|address| Place {
                    address,
                    port: Some(srv.port),
                    transport,
                })),
                Err(Missing(questions)) => missing.0.extend(questions),
            }
        }
        if missing.0.is_empty() { Ok(places) } else { Err(missing) }
    }

    fn addresses(&self, name: String) -> Result<Vec<IpAddr>, Missing> {
        match self.ask(Kind::Addresses, name)? {
            Records::Addresses(addresses) => Ok(addresses.clone()),
            _ => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests;
