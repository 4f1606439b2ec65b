//! `time_resolve`: how long it takes to find a phone by the token in its address, among 100,000. Prints the median of a
//! million look-ups one by one, in no order, the reading of the clock (some 25 ns) included, and fails above a microsecond.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sip_core::edge::bindings::{Bindings, Change, Record};
use sip_core::token::{InstanceId, Key, Keyring};

const PHONES: usize = 100_000;
const LOOKUPS: usize = 1_000_000;
const BAR: Duration = Duration::from_micros(1);

#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
fn main() -> ExitCode {
    let now = Instant::now();
    let keys = Keyring::new(Key::new(1, [7; 32]), Vec::new());
    let mut bindings = Bindings::default();
    let tokens: Vec<String> = (0..PHONES)
        .map(|n| {
            let record = phone(&keys, n);
            let token = record.contact_token.clone().unwrap_or_default();
            bindings.apply(now, Change::Put(Box::new(record)));
            token
        })
        .collect();
    let mut at = 1_usize;
    let mut times: Vec<Duration> = (0..LOOKUPS)
        .map(|_| {
            // Prime, so that every phone has its turn.
            at = (at + 61_819) % PHONES;
            let start = Instant::now();
            let found = black_box(bindings.by_contact_token(tokens[at].as_bytes()));
            let time = start.elapsed();
            assert!(found.is_some(), "phone {at} is not found");
            time
        })
        .collect();
    times.sort_unstable();
    let (median, late) = (times[LOOKUPS / 2], times[LOOKUPS / 100 * 99]);
    println!(
        "resolve by tag, {PHONES} phones: median {median:?} (at most {BAR:?}), 99 of 100 within {late:?}"
    );
    if median <= BAR { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn phone(keys: &Keyring, n: usize) -> Record {
    let tag = format!("0004135{n:05x}");
    let id = InstanceId::new("anonymous", &tag);
    Record {
        id: id.0,
        contact: format!("sip:anonymous@192.168.1.7:5061;tag={tag}"),
        user: format!("u{n}"),
        domain: "example.com".to_owned(),
        users: Vec::new(),
        expires_in: 3600,
        certificate: [(n % 251) as u8; 32],
        contact_token: Some(keys.contact_token("anonymous", &tag)),
        flow_tokens: [String::new(), String::new()],
        switch: None,
        outbound: false,
        address: None,
        tag: Some(tag),
    }
}
