//! The verification matrix: which certificate is good for which purpose and name.
#![allow(clippy::disallowed_methods)]

mod pki;

use std::slice::from_ref;
use std::time::{Duration, Instant};

use acme_store::certificate::Details;
use acme_store::verify::{self, NameRule, Purpose, Refusal};
use pki::{Ca, DAY, Leaf, cn, now};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::{BasicConstraints, IsCa};
use rustls::pki_types::{CertificateDer, UnixTime};

fn client(trust: &acme_store::trust::Trust, chain: &[CertificateDer<'_>]) -> Result<(), Refusal> {
    verify::chain(trust, chain, Purpose::Client, UnixTime::now())
}

#[test]
fn chains_of_clients() {
    let root = Ca::root("Phones");
    let middle = root.below("Issuing", Some(0));
    let wrong = Ca::root("Phones");
    let trust = root.trust();
    let one = |leaf: &Leaf| client(&trust, &[root.issue(leaf).der]);

    assert_eq!(one(&cn("08000F000001")), Ok(()), "no EKU, as phones are");
    assert_eq!(one(&cn("p").eku(ClientAuth)), Ok(()));
    assert_eq!(one(&cn("p").eku(ServerAuth).eku(ClientAuth)), Ok(()));
    assert_eq!(one(&cn("p").eku(ServerAuth)), Err(Refusal::WrongPurpose));
    assert_eq!(one(&Leaf { until: now() - DAY, from: now() - 2 * DAY, ..cn("p") }), Err(Refusal::Expired));
    assert_eq!(one(&Leaf { from: now() + DAY, ..cn("p") }), Err(Refusal::NotYetValid));
    let ca_leaf = Leaf { ca: IsCa::Ca(BasicConstraints::Unconstrained), ..cn("p") };
    assert!(matches!(one(&ca_leaf), Err(Refusal::Constraint(_))), "an authority is no peer");

    assert_eq!(client(&trust, &[cn("p").self_signed().der]), Err(Refusal::UnknownIssuer));
    assert_eq!(client(&trust, &[Ca::root("Other").issue(&cn("p")).der]), Err(Refusal::UnknownIssuer));
    assert_eq!(
        client(&trust, &[wrong.issue(&cn("p")).der]),
        Err(Refusal::BadSignature),
        "same name, another key"
    );
    assert_eq!(client(&trust, &[]), Err(Refusal::Missing));

    let below = middle.issue(&cn("p"));
    assert_eq!(client(&trust, &[below.der.clone(), middle.der()]), Ok(()));
    assert_eq!(
        client(&trust, from_ref(&below.der)),
        Err(Refusal::UnknownIssuer),
        "the intermediate was not sent"
    );
    assert_eq!(client(&pki::trust(&[&root, &middle]), &[below.der]), Ok(()), "but it may be in the bundle");

    let too_deep = middle.below("Too deep", None);
    let chain = [too_deep.issue(&cn("p")).der, too_deep.der(), middle.der()];
    assert!(matches!(client(&trust, &chain), Err(Refusal::Constraint(_))), "path length 0");
    let phone = root.issue(&cn("phone"));
    let forged = Ca { issuer: rcgen::CertifiedIssuer::self_signed(Default::default(), phone.key).unwrap() };
    let by_phone = forged.issue(&cn("p"));
    assert!(client(&trust, &[by_phone.der, phone.der]).is_err(), "a phone is no authority");
}

#[test]
fn servers_need_the_server_purpose() {
    let root = Ca::root("HQ");
    let server =
        |leaf: &Leaf| verify::chain(&root.trust(), &[root.issue(leaf).der], Purpose::Server, UnixTime::now());
    assert_eq!(server(&cn("s")), Ok(()));
    assert_eq!(server(&cn("s").eku(ServerAuth)), Ok(()));
    assert_eq!(server(&cn("s").eku(ClientAuth)), Err(Refusal::WrongPurpose));
}

/// (what, certificate, name wanted, accepted with the common name rule, accepted with the SAN only)
fn matrix() -> Vec<(&'static str, Leaf, &'static str, bool, bool)> {
    vec![
        ("SAN only", Leaf::default().dns("hq.example"), "hq.example", true, true),
        ("SAN in other case", Leaf::default().dns("HQ.Example"), "hq.example", true, true),
        ("CN only", cn("hq.example"), "hq.example", true, false),
        ("CN only, other case", cn("HQ.EXAMPLE"), "hq.example", true, false),
        ("both, SAN is wanted", cn("a.example").dns("b.example"), "b.example", true, true),
        ("both, CN is wanted", cn("a.example").dns("b.example"), "a.example", false, false),
        ("neither", cn("a.example").dns("b.example"), "c.example", false, false),
        ("CN beside an address SAN", cn("hq.example").ip("192.0.2.1"), "hq.example", true, false),
        ("address SAN", Leaf::default().ip("192.0.2.1"), "192.0.2.1", true, true),
        ("IPv6 SAN", Leaf::default().ip("2001:db8::1"), "2001:db8:0::1", true, true),
        ("address in CN", cn("192.0.2.1"), "192.0.2.1", true, false),
        ("address in CN, other address SAN", cn("192.0.2.1").ip("192.0.2.2"), "192.0.2.1", false, false),
        ("address in a DNS SAN", Leaf::default().dns("192.0.2.1"), "192.0.2.1", false, false),
        ("wildcard SAN", Leaf::default().dns("*.example.com"), "hq.example.com", true, true),
        ("wildcard SAN, two labels", Leaf::default().dns("*.example.com"), "a.b.example.com", false, false),
        ("wildcard SAN, no label", Leaf::default().dns("*.example.com"), "example.com", false, false),
        ("wildcard over everything", Leaf::default().dns("*.com"), "example.com", false, false),
        ("partial wildcard", Leaf::default().dns("h*.example.com"), "hq.example.com", false, false),
        ("wildcard in CN", cn("*.example.com"), "hq.example.com", false, false),
        ("NUL in CN", cn("hq.example\0.evil.example"), "hq.example", false, false),
        ("NUL at the end of CN", cn("hq.example\0"), "hq.example", false, false),
        ("NUL in SAN", Leaf::default().dns("hq.example\0.evil.example"), "hq.example", false, false),
        ("no name at all", Leaf::default(), "hq.example", false, false),
        ("CN is a part", cn("hq.example.com"), "hq.example", false, false),
    ]
}

#[test]
fn names_of_servers() {
    let root = Ca::root("HQ");
    for (what, leaf, wanted, common_name, strict) in matrix() {
        let der = root.issue(&leaf).der;
        let by = |rule| verify::server_name(&der, wanted, rule).is_ok();
        assert_eq!(by(NameRule::NameOrCommonName), common_name, "{what}");
        assert_eq!(by(NameRule::AlternativeNameOnly), strict, "{what}, SAN only");
        assert!(by(NameRule::ChainOnly), "{what}, chain only");
    }
}

#[test]
fn a_mismatch_names_both_strings() {
    let root = Ca::root("HQ");
    let der = root.issue(&cn("a.example").dns("b.example").ip("192.0.2.1")).der;
    let error = verify::server_name(&der, "c.example", NameRule::NameOrCommonName).unwrap_err().to_string();
    assert_eq!(
        error,
        "the certificate is for \"b.example\", \"192.0.2.1\", CN \"a.example\", configured is c.example"
    );
    let nul = root.issue(&cn("a\0b")).der;
    let error = verify::server_name(&nul, "a", NameRule::NameOrCommonName).unwrap_err().to_string();
    assert!(error.contains("\"a\\0b\""), "{error}");
}

#[test]
fn two_common_names_match_nobody() {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "a.example");
    params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]), "b.example");
    let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone();
    assert_eq!(Details::parse(&der).unwrap().common_names.len(), 2);
    for name in ["a.example", "b.example"] {
        assert!(verify::server_name(&der, name, NameRule::NameOrCommonName).is_err());
    }
}

#[test]
fn the_identity_has_all_names_and_no_nul() {
    let root = Ca::root("Phones");
    let issued = root.issue(&cn("08000F000001").dns("phone.example").ip("192.0.2.7"));
    let identity = verify::identity(from_ref(&issued.der)).unwrap();
    assert_eq!(identity.subject, "CN=08000F000001");
    assert_eq!(identity.names, ["08000F000001", "phone.example", "192.0.2.7"]);
    assert_eq!(identity.key_hash, {
        use sha2::Digest;
        <[u8; 32]>::from(sha2::Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&issued.key)))
    });
    let sly = root.issue(&cn("08000F000001\0x").dns("good.example"));
    let identity = verify::identity(&[sly.der]).unwrap();
    assert_eq!(identity.names, ["good.example"]);
    assert!(!identity.subject.contains('\0'));
}

#[test]
fn long_and_costly_chains_are_refused_quickly() {
    let root = Ca::root("Root");
    let mut chain = Vec::new();
    let mut last = root.below("0", None);
    for depth in 1..=8 {
        chain.insert(0, last.der());
        last = last.below(&depth.to_string(), None);
    }
    chain.insert(0, last.der());
    chain.insert(0, last.issue(&cn("p")).der);
    assert_eq!(client(&root.trust(), &chain), Err(Refusal::TooLong));

    // Seven authorities of one name and different keys, none of which leads anywhere: path building must not explode.
    let twins: Vec<Ca> = (0..7).map(|_| Ca::root("Loop").below("Loop", None)).collect();
    let mut chain = vec![twins[0].issue(&cn("p")).der];
    chain.extend(twins.iter().map(|twin| twin.der()));
    let started = Instant::now();
    assert!(client(&root.trust(), &chain).is_err());
    assert!(started.elapsed() < Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 50 }));
}
