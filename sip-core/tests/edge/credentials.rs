//! `sip.preloaded_routes = "authenticate"` (SEC-06, SIP-21, SIP-62): the digests here were computed with md5sum's arithmetic by
//! the caller's own few lines, not with ours.

use std::collections::HashMap;
use std::sync::Arc;

use md5::{Digest, Md5};
use sip_core::auth::Account;
use sip_core::edge::config::PreloadedRoutes;
use sip_core::edge::event::Reason;
use sip_core::edge::{Config, Event};

use crate::register::{MAC_A, registered};
use crate::script::from_phone;
use crate::world::{World, between, config, rows};

const URI: &str = "sips:200@10.0.1.50";
const ROUTE: &str = "Route: <sips:10.0.1.51;lr>";

fn authenticating() -> Config {
    let mut config = config();
    config.preloaded_routes = PreloadedRoutes::Authenticate;
    config.users = Arc::new(HashMap::from([("117".to_owned(), Account::of_password("secret"))]));
    config
}

fn md5(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A phone's credentials for an MD5 challenge; `count` of 0 leaves qop out.
fn credentials(challenge: &str, user: &str, password: &str, count: u32) -> String {
    let nonce = between(challenge, "nonce=\"", "\"");
    let (a1, a2) = (md5(&format!("{user}:farend:{password}")), md5(&format!("INVITE:{URI}")));
    let (response, more) = match count {
        0 => (md5(&format!("{a1}:{nonce}:{a2}")), String::new()),
        _ => (
            md5(&format!("{a1}:{nonce}:{count:08x}:c:auth:{a2}")),
            format!(", qop=auth, nc={count:08x}, cnonce=\"c\""),
        ),
    };
    format!(
        "{ROUTE}\nProxy-Authorization: Digest username=\"{user}\", realm=\"farend\", nonce=\"{nonce}\", uri=\"{URI}\", response=\"{response}\", algorithm=MD5{more}"
    )
}

/// Asks with these rows, in a call of its own.
fn ask(world: &mut World, phone: crate::world::End, call: &str, more: &str) -> Option<String> {
    world.say(phone, &from_phone("INVITE", URI, call, 1, "", more));
    world.next(phone)
}

fn challenge(world: &mut World, phone: crate::world::End, call: &str) -> String {
    let answer = ask(world, phone, call, ROUTE).expect("an answer");
    assert!(answer.starts_with("SIP/2.0 407 "), "{answer}");
    let offered = rows(&answer, "Proxy-Authenticate");
    assert_eq!(offered.len(), 3, "a row for each algorithm (RFC 8760 §2.4)");
    let md5 = offered.iter().find(|row| row.contains("algorithm=MD5")).expect("MD5 is offered");
    (*md5).to_owned()
}

#[test]
fn routes_are_followed_for_who_knows_the_password_and_a_replay_is_stale() {
    let mut world = World::with(authenticating());
    let (phone, own, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let offered = challenge(&mut world, phone, "a");
    let good = credentials(&offered, "117", "secret", 1);
    assert_eq!(ask(&mut world, phone, "b", &good), None);
    let other = world.dialled("10.0.1.51:5061");
    let invite = world.hear_start(other, "INVITE ");
    // Our realm's credentials stay here; those for the PBX go on (RFC 3261 §22.3).
    assert!(rows(&invite, "Proxy-Authorization").is_empty(), "{invite}");
    world.silent(own);
    let stale = ask(&mut world, phone, "c", &good).expect("an answer");
    assert!(stale.starts_with("SIP/2.0 407 ") && stale.contains("stale=TRUE"), "{stale}");
    let pbx = "Proxy-Authorization: Digest username=\"117\", realm=\"pbx\", nonce=\"n\", uri=\"x\", response=\"00\"";
    let both = format!("{}\n{pbx}", credentials(&offered, "117", "secret", 2));
    assert_eq!(ask(&mut world, phone, "d", &both), None);
    let invite = world.hear_start(other, "INVITE ");
    let kept = rows(&invite, "Proxy-Authorization");
    assert!(kept.len() == 1 && kept[0].contains("realm=\"pbx\""), "{invite}");
    // Without Routes nobody is asked.
    assert_eq!(ask(&mut world, phone, "e", "X: 1"), None);
    world.hear_start(own, "INVITE ");
    assert_eq!(world.saw(|e| matches!(e, Event::Refused { reason: Reason::Credentials { .. }, .. })), 2);
}

#[test]
fn a_wordlist_is_blocked_as_elsewhere_and_what_is_malformed_is_400() {
    let mut world = World::with(authenticating());
    let (phone, _, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
    let offered = challenge(&mut world, phone, "a");
    let good = credentials(&offered, "117", "secret", 1);
    for (n, (from, to)) in
        [("nc=00000001", "nc=1"), ("uri=\"sips:200", "uri=\"sips:201"), ("qop=auth", "qop=x")]
            .into_iter()
            .enumerate()
    {
        let answer = ask(&mut world, phone, &format!("m{n}"), &good.replace(from, to)).expect("an answer");
        assert!(answer.starts_with("SIP/2.0 400 "), "{from}: {answer}");
    }
    let twice = format!("{good}\n{}", good.split_once('\n').unwrap().1);
    assert!(ask(&mut world, phone, "t", &twice).expect("an answer").starts_with("SIP/2.0 400 "));
    for n in 1..=10 {
        assert!(world.stands(phone), "{n}");
        let word = credentials(&offered, "117", &format!("word{n}"), n);
        assert!(
            ask(&mut world, phone, &format!("w{n}"), &word).expect("an answer").starts_with("SIP/2.0 407 ")
        );
    }
    assert!(!world.stands(phone));
}

#[test]
fn a_username_with_a_domain_and_an_old_digest_are_for_those_who_allow_them() {
    for (loose, old, user, count, wanted) in [
        (false, false, "117@site", 1, "SIP/2.0 403 "),
        (true, false, "117@site", 1, ""),
        (true, false, "118", 1, "SIP/2.0 403 "),
        (false, false, "117", 0, "SIP/2.0 407 "),
        (false, true, "117", 0, ""),
    ] {
        let mut config = authenticating();
        config.interop.contacts.loose_username = loose;
        config.interop.headers.rfc2069 = old;
        let mut world = World::with(config);
        let (phone, _, _) = registered(&mut world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
        let offered = challenge(&mut world, phone, "a");
        let answer =
            ask(&mut world, phone, "b", &credentials(&offered, user, "secret", count)).unwrap_or_default();
        assert!(
            answer.starts_with(wanted) && answer.is_empty() == wanted.is_empty(),
            "{user} {count}: {answer}"
        );
    }
}
