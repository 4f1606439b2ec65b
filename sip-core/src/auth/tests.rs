#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

use std::time::{Duration, Instant};

use super::digest::{Protection, Terms};
use super::*;
use crate::header::{AuthValue, Authorization, Header};
use crate::token::Random;

fn value(text: &str) -> AuthValue<'_> {
    Authorization::parse(text.as_bytes()).unwrap()
}

fn response(
    algorithm: Algorithm,
    account: (&str, &str, &str),
    nonce: &str,
    cnonce: &str,
    method: &str,
    uri: &str,
) -> String {
    let (user, realm, password) = account;
    let protection = (!cnonce.is_empty()).then_some(Protection {
        qop: Qop::Auth,
        count: b"00000001",
        cnonce: cnonce.as_bytes(),
    });
    let terms = Terms {
        algorithm,
        nonce: nonce.as_bytes(),
        protection,
        method: method.as_bytes(),
        uri: uri.as_bytes(),
        body: b"",
    };
    terms.response(&Account::of_password(password).a1(algorithm, user.as_bytes(), realm.as_bytes()).unwrap())
}

/// RFC 7616 §3.9.1; RFC 2617 §3.5; RFC 2069 §2.4 with its erratum 749. SHA-512-256 was computed with OpenSSL: the example
/// of RFC 7616 §3.9.2 is wrong (erratum 4897).
#[test]
fn the_examples_of_the_rfcs() {
    let mufasa = ("Mufasa", "http-auth@example.org", "Circle of Life");
    let (nonce, cnonce) =
        ("7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
    let of = |algorithm| response(algorithm, mufasa, nonce, cnonce, "GET", "/dir/index.html");
    assert_eq!(of(Algorithm::Md5), "8ca523f5e9506fed4657c9700eebdbec");
    assert_eq!(of(Algorithm::Sha256), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
    let (nonce, cnonce) =
        ("5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm");
    let doe = ("Jäsøn Doe", "api@example.org", "Secret, or not?");
    assert_eq!(
        response(Algorithm::Sha512_256, doe, nonce, cnonce, "GET", "/doe.json"),
        "7a4e1192babbba02e91182d2895bfdbf7adafc6e48d4e517ca301974843d840c"
    );
    let (nonce, cnonce) = ("dcd98b7102dd2f0e8b11d0f600bfb0c093", "0a4f113b");
    let mufasa = ("Mufasa", "testrealm@host.com", "Circle Of Life");
    assert_eq!(
        response(Algorithm::Md5, mufasa, nonce, cnonce, "GET", "/dir/index.html"),
        "6629fae49393a05397450978507c4ef1"
    );
    let mufasa = ("Mufasa", "testrealm@host.com", "CircleOfLife");
    assert_eq!(
        response(Algorithm::Md5, mufasa, nonce, "", "GET", "/dir/index.html"),
        "1949323746fe6a43ef61f9606e7febea"
    );
}

#[test]
fn a_response_may_cover_the_body() {
    let protection = Some(Protection { qop: Qop::AuthInt, count: b"00000001", cnonce: b"0a4f113b" });
    let account = Account::of_password("zanzibar");
    let terms = Terms {
        algorithm: Algorithm::Sha256,
        nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
        protection,
        method: b"INVITE",
        uri: b"sip:bob@biloxi.com",
        body: b"v=0",
    };
    // Computed with Python's hashlib.
    let expected = "ea394ecd6c5b3112d1637154051cdb33619b9186ff0d15379d2ae2ff984d237e";
    assert_eq!(terms.response(&account.a1(Algorithm::Sha256, b"bob", b"biloxi.com").unwrap()), expected);
}

/// A verifier, a caller who knows the password, and virtual time.
struct Pair {
    now: Instant,
    verifier: Verifier,
    caller: Responder,
    random: Random,
}

const URI: &str = "sip:200@10.0.1.50";

fn accounts(user: &str) -> Option<Account> {
    (user == "117").then(|| Account::of_password("secret"))
}

impl Pair {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let now = Instant::now();
        let mut settings = Settings::new("farend");
        change(&mut settings);
        Self {
            now,
            verifier: Verifier::new(now, settings, [5; 32]),
            caller: Responder::new("117", "secret"),
            random: Random::new([6; 32]),
        }
    }

    fn challenges(&mut self) -> Vec<String> {
        self.verifier.challenges(self.now, false)
    }

    fn answer(&mut self, challenges: &[String]) -> String {
        let values = challenges.iter().map(|text| value(text));
        self.caller.answer(&mut self.random, values, false, "INVITE", URI, b"v=0").unwrap()
    }

    fn judge(&mut self, rows: &[&str]) -> Verdict {
        let question = Question { method: b"INVITE", uri: URI.as_bytes(), body: b"v=0", user: Some("117") };
        self.verifier.verify(self.now, &question, rows.iter().map(|row| value(row)), accounts)
    }

    /// The answer to a fresh challenge, altered.
    fn altered(&mut self, from: &str, to: &str) -> Verdict {
        let challenges = self.challenges();
        let answer = self.answer(&challenges);
        assert!(answer.contains(from), "{answer}");
        self.judge(&[&answer.replacen(from, to, 1)])
    }
}

fn granted() -> Verdict {
    Verdict::Granted("117".to_owned())
}

const AGAIN: Verdict = Verdict::Challenge { stale: false };
const STALE: Verdict = Verdict::Challenge { stale: true };

#[test]
fn every_algorithm_is_offered_the_best_first_and_each_is_accepted() {
    let mut pair = Pair::new(|_| {});
    let challenges = pair.challenges();
    assert_eq!(challenges.len(), 3);
    assert!(challenges[0].contains("algorithm=SHA-512-256") && challenges[2].contains("algorithm=MD5"));
    for challenge in &challenges {
        let answer = pair.answer(std::slice::from_ref(challenge));
        assert_eq!(pair.judge(&[&answer]), granted(), "{answer}");
    }
    let int = challenges[1].replace("auth,auth-int", "auth-int");
    let answer = pair.answer(&[int]);
    assert!(answer.contains("qop=auth-int"));
    assert_eq!(pair.judge(&[&answer]), granted());
    let question = Question { method: b"INVITE", uri: URI.as_bytes(), body: b"v=1", user: None };
    let judged = pair.verifier.verify(pair.now, &question, [value(&answer)], accounts);
    assert_eq!(judged, AGAIN, "another body");
}

#[test]
fn a_replay_is_stale_and_counts_may_overtake_each_other() {
    let mut pair = Pair::new(|_| {});
    let challenges = pair.challenges();
    let answers: Vec<String> = (0..80).map(|_| pair.answer(&challenges)).collect();
    assert!(answers[79].contains("nc=00000050"));
    for at in [0, 2, 1, 70, 69, 10] {
        assert_eq!(pair.judge(&[&answers[at]]), granted(), "{at}");
    }
    for at in [0, 1, 2, 69, 70, 10] {
        assert_eq!(pair.judge(&[&answers[at]]), STALE, "{at}");
    }
    // Older than 64 before the latest: nobody can tell any more.
    assert_eq!(pair.judge(&[&answers[3]]), STALE);
    assert_eq!(pair.altered("nc=00000001", "nc=00000000"), AGAIN);
}

#[test]
fn a_nonce_grows_stale_and_a_foreign_one_is_stale_only_with_the_right_password() {
    let mut pair = Pair::new(|_| {});
    let challenges = pair.challenges();
    let answer = pair.answer(&challenges);
    pair.now += Duration::from_secs(299);
    assert_eq!(pair.judge(&[&answer]), granted());
    let answer = pair.answer(&challenges);
    pair.now += Duration::from_secs(1);
    assert_eq!(pair.judge(&[&answer]), STALE);
    let foreign = "Digest realm=\"farend\", nonce=\"abc\", qop=\"auth\"".to_owned();
    let answer = pair.answer(std::slice::from_ref(&foreign));
    assert_eq!(pair.judge(&[&answer]), STALE);
    pair.caller = Responder::new("117", "wrong");
    let answer = pair.answer(&[foreign]);
    assert_eq!(pair.judge(&[&answer]), AGAIN);
    assert!(pair.verifier.challenges(pair.now, true)[0].ends_with(", stale=TRUE"));
}

#[test]
fn what_is_wrong_is_refused_by_its_name() {
    let mut pair = Pair::new(|_| {});
    for (from, to, verdict) in [
        ("algorithm=SHA-512-256", "algorithm=MD4", AGAIN),
        ("qop=auth", "qop=auth-conf", Verdict::Malformed("qop")),
        ("nc=00000001, ", "", Verdict::Malformed("nc")),
        ("nc=00000001", "nc=1", Verdict::Malformed("nc")),
        ("nc=00000001", "nc=0000000g", Verdict::Malformed("nc")),
        ("cnonce=\"", "cnonce=\"\", x=\"", Verdict::Malformed("cnonce")),
        ("uri=\"sip:200", "uri=\"sip:201", Verdict::Malformed("uri")),
        ("username=\"117\", ", "", Verdict::Malformed("username")),
        ("response=\"", "response=\"0", AGAIN),
        ("response=\"", "response=\"\", y=\"", AGAIN),
        ("qop=auth", "qop=auth, realm=\"farend\"", Verdict::Malformed("a parameter twice")),
        ("realm=\"farend\"", "realm=\"other\"", AGAIN),
        ("username=\"117\"", "username=\"118\"", Verdict::Forbidden),
        ("Digest", "Basic", AGAIN),
    ] {
        assert_eq!(pair.altered(from, to), verdict, "{from} -> {to}");
    }
    let challenges = pair.challenges();
    let answer = pair.answer(&challenges);
    assert_eq!(pair.judge(&[&answer, &answer]), Verdict::Malformed("two credentials for one realm"));
    assert_eq!(pair.judge(&[]), AGAIN);
    let other = answer.replace("\"farend\"", "\"elsewhere\"");
    assert_eq!(
        pair.judge(&[&other, &answer]),
        granted(),
        "credentials for another realm are not ours to judge"
    );
}

#[test]
fn a_username_may_carry_a_domain_only_where_that_is_allowed() {
    for (loose, username, good) in [
        (false, "117@site", false),
        (true, "117@site", true),
        (true, "117", true),
        (true, "117@a@b", false),
        (true, "@site", false),
        (true, "117@", false),
        (true, "", false),
        (true, "11\\\"7", false),
        (true, "118@site", false),
    ] {
        let mut pair = Pair::new(|settings| settings.loose_username = loose);
        pair.caller = Responder::new(username.replace('\\', ""), "secret");
        let challenges = pair.challenges();
        let answer = pair.answer(&challenges);
        let verdict = pair.judge(&[&answer]);
        assert_eq!(verdict, if good { granted() } else { Verdict::Forbidden }, "{loose} {username}");
    }
}

#[test]
fn an_old_digest_is_accepted_only_where_that_is_allowed_and_by_md5() {
    let old = |algorithm: &str| format!("Digest realm=\"farend\", nonce=\"NONCE\"{algorithm}");
    for (allowed, algorithm, verdict) in
        [(false, "", AGAIN), (true, "", granted()), (true, ", algorithm=SHA-256", AGAIN)]
    {
        let mut pair = Pair::new(|settings| settings.rfc2069 = allowed);
        let challenge = pair.challenges().remove(0);
        let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let answer = pair.answer(&[old(algorithm).replace("NONCE", &nonce)]);
        assert!(!answer.contains("qop"), "{answer}");
        assert_eq!(pair.judge(&[&answer]), verdict, "{allowed} {algorithm}");
    }
}

#[test]
fn counts_are_bounded_and_what_was_forgotten_cannot_be_replayed() {
    let mut pair = Pair::new(|_| {});
    let first = pair.challenges().remove(2);
    let first = pair.answer(&[first]);
    assert_eq!(pair.judge(&[&first]), granted());
    for _ in 0..verify::NONCES {
        pair.now += Duration::from_millis(2);
        let challenge = pair.challenges().remove(2);
        let answer = pair.answer(&[challenge]);
        assert_eq!(pair.judge(&[&answer]), granted());
    }
    assert!(pair.verifier.nonces() <= verify::NONCES);
    assert_eq!(pair.judge(&[&first]), STALE);
    pair.now += Duration::from_secs(301);
    let challenge = pair.challenges().remove(2);
    let answer = pair.answer(&[challenge]);
    assert_eq!(pair.judge(&[&answer]), granted());
    assert_eq!(pair.verifier.nonces(), 1);
}

#[test]
fn a_caller_tries_a_password_once_and_answers_what_it_knows() {
    let mut pair = Pair::new(|_| {});
    let mut caller = Responder::new("117", "wrong");
    let challenges = pair.challenges();
    let values = || challenges.iter().map(|text| value(text));
    let mut ask = |caller: &mut Responder, texts: &[&str], sent| {
        caller.answer(&mut pair.random, texts.iter().map(|text| value(text)), sent, "INVITE", URI, b"")
    };
    let all: Vec<&str> = challenges.iter().map(String::as_str).collect();
    assert!(ask(&mut caller, &all, false).unwrap().contains("SHA-512-256"));
    assert_eq!(
        ask(&mut caller, &["Digest realm=\"farend\", nonce=\"new\", qop=\"auth\""], true),
        Err(Unanswerable::Refused)
    );
    let stale = "Digest realm=\"farend\", nonce=\"new\", qop=\"auth\", stale=true, opaque=\"o\"";
    assert!(ask(&mut caller, &[stale], true).unwrap().ends_with("opaque=\"o\""));
    for unknown in [
        "Basic realm=\"x\"",
        "Digest realm=\"x\", nonce=\"n\", algorithm=MD4",
        "Digest realm=\"x\", nonce=\"n\", qop=\"conf\"",
        "Digest realm=\"x\"",
    ] {
        assert_eq!(ask(&mut caller, &[unknown], false), Err(Unanswerable::Unknown), "{unknown}");
    }
    // The first that can be answered, whatever stands before it (RFC 8760 §2.5).
    assert!(
        ask(&mut caller, &["Digest realm=\"x\", nonce=\"n\", algorithm=MD4", all[1]], false)
            .unwrap()
            .contains("SHA-256")
    );
    assert_eq!(values().count(), 3);
    assert!(!format!("{caller:?}").contains("wrong"));
    assert_eq!(format!("{:?}", accounts("117")), "Some(Account(password))");
}

#[test]
fn an_account_may_be_a_hash_made_elsewhere() {
    let mut pair = Pair::new(|settings| settings.algorithms = vec![Algorithm::Md5]);
    let challenges = pair.challenges();
    let answer = pair.answer(&challenges);
    // MD5 of 117:farend:secret, as md5sum gives it.
    let known = Account::of_password("secret");
    let hash = known.a1(Algorithm::Md5, b"117", b"farend").unwrap().to_uppercase();
    assert_eq!(hash, "B53B97E35B6CEBBE22C51526AE493F1B");
    let account = Account::of_hash(Algorithm::Md5, &hash).unwrap();
    assert_eq!(account.a1(Algorithm::Sha256, b"117", b"farend"), None);
    let question = Question { method: b"INVITE", uri: URI.as_bytes(), body: b"", user: None };
    assert_eq!(
        pair.verifier.verify(pair.now, &question, [value(&answer)], |_| Some(account.clone())),
        granted()
    );
    assert!(Account::of_hash(Algorithm::Sha256, &hash).is_err());
    assert!(
        Account::of_hash(Algorithm::Md5, &hash.replacen(|c: char| c.is_ascii_hexdigit(), "x", 1)).is_err()
    );
}
