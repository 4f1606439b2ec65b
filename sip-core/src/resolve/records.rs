//! What a name server is asked and what it says, as far as finding a SIP server needs it (RFC 3263, RFC 2782, RFC 3403).

use std::net::IpAddr;
use std::time::Duration;

use crate::flow::Transport;
use crate::token::Random;

/// What a name server shall be asked.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Question {
    /// Which records.
    pub kind: Kind,
    /// Of which name: lower case, without a final dot.
    pub name: String,
}

/// The kinds of records that finding a server takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// NAPTR: which transports a domain speaks.
    Naptr,
    /// SRV: the servers of one transport, with priorities and weights.
    Srv,
    /// A and AAAA, in the order to try them.
    Addresses,
}

/// What came of a [`Question`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What was found.
    pub records: Records,
    /// How long it may be believed: the smallest TTL on the way (CNAMEs included), or that of the denial (RFC 2308).
    pub ttl: Duration,
}

impl Answer {
    /// Nobody answered, or what came was of no use.
    pub const FAILED: Self = Self { records: Records::Failed, ttl: Duration::ZERO };
}

/// Records of the kind that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Records {
    /// To [`Kind::Naptr`].
    Naptr(Vec<Naptr>),
    /// To [`Kind::Srv`].
    Srv(Vec<Srv>),
    /// To [`Kind::Addresses`].
    Addresses(Vec<IpAddr>),
    /// There is no such name, or nothing of that kind at it.
    Missing,
    /// Nobody answered, or what came was of no use.
    Failed,
}

impl Records {
    /// No more than so many of them.
    pub(super) fn truncate(&mut self, most: usize) {
        match self {
            Self::Naptr(records) => records.truncate(most),
            Self::Srv(records) => records.truncate(most),
            Self::Addresses(records) => records.truncate(most),
            Self::Missing | Self::Failed => {}
        }
    }
}

/// One NAPTR record (RFC 3403 §4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Naptr {
    /// Smaller first, always.
    pub order: u16,
    /// Smaller first among equal orders.
    pub preference: u16,
    /// `s` says that the replacement is a name for SRV.
    pub flags: String,
    /// Such as `SIPS+D2T`.
    pub services: String,
    /// SIP uses none; a record that has one is passed over (RFC 3263 §4.1).
    pub regexp: String,
    /// The next name.
    pub replacement: String,
}

impl Naptr {
    /// The transport that this record offers; `None` when it is of no use to SIP (RFC 3263 §4.1).
    pub fn transport(&self) -> Option<Transport> {
        let usable = self.flags.eq_ignore_ascii_case("s")
            && self.regexp.is_empty()
            && !plain(&self.replacement).is_empty();
        [("SIPS+D2T", Transport::Tls), ("SIP+D2T", Transport::Tcp), ("SIP+D2U", Transport::Udp)]
            .into_iter()
            .find(|(service, _)| usable && self.services.eq_ignore_ascii_case(service))
            .map(|(_, transport)| transport)
    }
}

/// One SRV record (RFC 2782).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Srv {
    /// Smaller first, always.
    pub priority: u16,
    /// The share among equal priorities.
    pub weight: u16,
    /// The server's port.
    pub port: u16,
    /// The server's name; empty or `.` says that there is no such service.
    pub target: String,
}

/// The name that SRV is asked for (RFC 3263 §4.1).
pub fn service_name(transport: Transport, domain: &str) -> String {
    let prefix = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
    };
    format!("{prefix}.{domain}")
}

/// A name as questions spell it.
pub(super) fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The order to try SRV records in: by priority, and among equals drawn by weight (RFC 2782).
pub fn ordered(mut records: Vec<Srv>, random: &mut Random) -> Vec<Srv> {
    // Those of weight 0 stand in front, so that they are drawn rarely but not never.
    records.sort_by_key(|srv| (srv.priority, srv.weight));
    let mut order = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let same = records.iter().take_while(|srv| srv.priority == first.priority).count();
        let drawn = if same == 1 { 0 } else { draw(records.get(..same).unwrap_or_default(), random) };
        order.push(records.remove(drawn));
    }
    order
}

/// The place of the record whose running sum of weights is the first to reach a number from 0 to the sum of all.
fn draw(records: &[Srv], random: &mut Random) -> usize {
    let sum: u64 = records.iter().map(|srv| u64::from(srv.weight)).sum();
    let number = random.number() % (sum + 1);
    let mut running = 0;
    let reaches = |srv: &Srv| {
        running += u64::from(srv.weight);
        running >= number
    };
    records.iter().position(reaches).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 5061, target: target.to_owned() }
    }

    #[test]
    fn srv_records_are_drawn_by_weight_and_never_out_of_priority() {
        let records = vec![srv(20, 100, "last"), srv(10, 30, "b"), srv(10, 10, "a"), srv(10, 0, "rare")];
        let mut firsts: HashMap<String, u32> = HashMap::new();
        for seed in 0..4_000_u32 {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&seed.to_be_bytes());
            let order = ordered(records.clone(), &mut Random::new(bytes));
            assert_eq!(order.len(), 4);
            assert_eq!(order[3].target, "last");
            *firsts.entry(order[0].target.clone()).or_default() += 1;
        }
        let share = |name: &str| f64::from(firsts[name]) / 4_000.0;
        assert!((share("b") - 30.0 / 41.0).abs() < 0.03, "{firsts:?}");
        assert!((share("a") - 10.0 / 41.0).abs() < 0.03, "{firsts:?}");
        assert!(share("rare") > 0.005 && share("rare") < 0.05, "{firsts:?}");
    }

    #[test]
    fn equal_records_without_weight_all_have_their_turn() {
        let mut random = Random::new([1; 32]);
        let order = ordered(vec![srv(1, 0, "a"), srv(1, 0, "b")], &mut random);
        assert_eq!(order.len(), 2);
        assert!(ordered(Vec::new(), &mut random).is_empty());
    }

    #[test]
    fn only_sip_services_without_regexp_are_offers() {
        let naptr = |flags: &str, services: &str, regexp: &str, replacement: &str| Naptr {
            order: 1,
            preference: 1,
            flags: flags.to_owned(),
            services: services.to_owned(),
            regexp: regexp.to_owned(),
            replacement: replacement.to_owned(),
        };
        let name = "_sips._tcp.example.internal.";
        assert_eq!(naptr("s", "SIPS+D2T", "", name).transport(), Some(Transport::Tls));
        assert_eq!(naptr("S", "sip+d2u", "", name).transport(), Some(Transport::Udp));
        assert_eq!(naptr("s", "SIP+D2T", "", name).transport(), Some(Transport::Tcp));
        for bad in [
            naptr("u", "SIPS+D2T", "", name),
            naptr("s", "SIPS+D2T", "!^.*$!sip:evil.test!", name),
            naptr("s", "SIP+D2W", "", name),
            naptr("s", "SIPS+D2T", "", "."),
        ] {
            assert_eq!(bad.transport(), None, "{bad:?}");
        }
    }
}
