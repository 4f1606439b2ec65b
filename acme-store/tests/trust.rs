//! Bundles and revocation lists.

mod pki;

use acme_store::trust::{Trust, TrustError};
use acme_store::verify::{self, Purpose, Refusal};
use pki::{Ca, DAY, Dir, Leaf, cn, has, now};
use rustls::pki_types::UnixTime;

fn unix() -> UnixTime {
    UnixTime::now()
}

#[test]
fn a_merged_bundle_counts_and_lists() {
    let roots: Vec<Ca> =
        ["HQ", "Factory A", "Factory B", "Products"].iter().map(|name| Ca::root(name)).collect();
    let texts: Vec<String> =
        roots.iter().map(|root| format!("# {}\nSubject: x\n{}\n", "comment", root.pem())).collect();
    let bundle = format!("{}{}", texts.concat().replace('\n', "\r\n"), roots[1].pem());
    let (trust, report) = Trust::import(&[bundle.as_bytes()], now()).unwrap();
    assert_eq!(report.to_string(), "imported 5, distinct 4, 0 rejected");
    let names: Vec<&str> =
        trust.authorities().iter().map(|authority| authority.details.subject.as_str()).collect();
    assert_eq!(names, ["CN=HQ", "CN=Factory A", "CN=Factory B", "CN=Products"]);
    for root in &roots {
        let leaf = root.issue(&cn("phone"));
        assert_eq!(verify::chain(&trust, &[leaf.der], Purpose::Client, unix()), Ok(()));
    }
    let two = Trust::import(&[bundle.as_bytes(), &roots[0].der()], now()).unwrap().1;
    assert_eq!((two.imported, two.distinct), (6, 4));
}

#[test]
fn one_trust_is_told_from_another() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let again = Trust::import(&[a.pem().as_bytes()], now()).unwrap().0;
    assert_eq!(a.trust(), again);
    assert_eq!(format!("{:?}", a.trust()), format!("{again:?}"));
    assert_ne!(a.trust(), b.trust());
    assert_ne!(format!("{:?}", a.trust()), format!("{:?}", b.trust()), "as many authorities, but others");
    let (revoking, _) = a.trust().with_revocations(&[&a.revoke(&[])], now()).unwrap();
    let (revoking_more, _) = a.trust().with_revocations(&[&a.revoke(&[&a.issue(&cn("p"))])], now()).unwrap();
    assert_ne!(revoking, a.trust());
    assert_ne!(revoking, revoking_more);
    assert_eq!(revoking.with_revocations(&[], now()).unwrap().0, a.trust());
}

#[test]
fn what_is_no_authority_is_rejected_by_name_and_the_rest_stays() {
    let root = Ca::root("Good");
    let leaf = root.issue(&cn("leaf.example"));
    let lonely = cn("self.example").self_signed();
    let text = format!(
        "{}{}{}{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        leaf.pem(),
        root.pem(),
        lonely.pem(),
        leaf.key_pem()
    );
    let (trust, report) = Trust::import(&[text.as_bytes()], now()).unwrap();
    assert_eq!((report.imported, report.distinct, trust.authorities().len()), (5, 1, 1));
    let rejected: Vec<String> = report.rejected.iter().map(ToString::to_string).collect();
    assert!(rejected[0].contains("line 1 (CN=leaf.example): not an authority"), "{rejected:?}");
    assert!(rejected[1].contains("CN=self.example"), "{rejected:?}");
    assert!(rejected[2].contains("PRIVATE KEY"), "{rejected:?}");
    assert!(rejected[3].contains("not a readable certificate"), "{rejected:?}");
}

#[test]
fn no_authority_at_all_is_an_error() {
    for empty in ["", "   \n", "# only a comment\n"] {
        assert!(
            matches!(Trust::import(&[empty.as_bytes()], now()), Err(TrustError::Empty { .. })),
            "{empty:?}"
        );
    }
    assert!(matches!(Trust::import(&[], now()), Err(TrustError::Empty { .. })));
    let leaf = cn("x").self_signed();
    let error = Trust::import(&[leaf.pem().as_bytes()], now()).unwrap_err();
    assert!(error.to_string().contains("not an authority"), "{error}");
}

#[test]
fn old_roots_are_accepted_and_weak_intermediates_are_not() {
    if !has("openssl") {
        return;
    }
    let dir = Dir::new();
    dir.write("ca.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n");
    dir.openssl("genrsa -out v1.key 2048");
    dir.openssl("req -new -key v1.key -subj /CN=V1Root -out v1.csr");
    dir.openssl("x509 -req -in v1.csr -signkey v1.key -days 3000 -out v1.pem");
    dir.openssl("genrsa -out short.key 1024");
    dir.openssl("req -x509 -new -key short.key -subj /CN=ShortSha1Root -days 3000 -sha1 -out short.pem");
    dir.openssl("req -new -key short.key -subj /CN=ShortIssuing -out shorti.csr");
    dir.openssl("x509 -req -in shorti.csr -CA v1.pem -CAkey v1.key -CAcreateserial -days 300 -extfile ca.ext -out shorti.pem");
    dir.openssl("genrsa -out sha1i.key 2048");
    dir.openssl("req -new -key sha1i.key -subj /CN=Sha1Issuing -out sha1i.csr");
    dir.openssl("x509 -req -in sha1i.csr -sha1 -CA v1.pem -CAkey v1.key -CAcreateserial -days 300 -extfile ca.ext -out sha1i.pem");
    let mut expired = Ca::root("Expired");
    expired.issuer = {
        let leaf = Leaf {
            from: now() - 20 * DAY,
            until: now() - 10 * DAY,
            ca: rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
            ..cn("Expired")
        };
        let made = leaf.self_signed();
        dir.write("expired.pem", made.pem());
        expired.issuer
    };
    let files: Vec<Vec<u8>> = ["v1.pem", "short.pem", "shorti.pem", "sha1i.pem", "expired.pem"]
        .iter()
        .map(|name| dir.read(name))
        .collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let (trust, report) = Trust::import(&files, now()).unwrap();
    let names: Vec<&str> =
        trust.authorities().iter().map(|authority| authority.details.subject.as_str()).collect();
    assert_eq!(names, ["CN=V1Root", "CN=ShortSha1Root", "CN=Expired"]);
    assert!(
        report.notices.iter().any(|notice| notice.contains("CN=V1Root is a version 1 root")),
        "{report:?}"
    );
    assert!(report.notices.iter().any(|notice| notice.contains("CN=Expired expired on")), "{report:?}");
    assert!(report.rejected[0].reason.contains("below 2048"), "{report:?}");
    assert!(report.rejected[1].reason.contains("SHA-1"), "{report:?}");

    // A version 1 root works as what it is there for.
    dir.write("leaf.ext", "basicConstraints=CA:FALSE\n");
    dir.openssl("req -new -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN=phone -out leaf.csr");
    dir.openssl("x509 -req -in leaf.csr -CA v1.pem -CAkey v1.key -CAcreateserial -days 30 -extfile leaf.ext -out leaf.pem");
    let leaf = acme_store::import::chain(&dir.read("leaf.pem")).unwrap();
    assert_eq!(verify::chain(&trust, &leaf, Purpose::Client, unix()), Ok(()));
}

#[test]
fn a_revoked_certificate_is_refused_and_no_other() {
    let (root, other) = (Ca::root("A"), Ca::root("B"));
    let (bad, good, foreign) = (root.issue(&cn("bad")), root.issue(&cn("good")), other.issue(&cn("foreign")));
    let trust = pki::trust(&[&root, &other]);
    let check = |trust: &Trust, der| verify::chain(trust, &[der], Purpose::Client, unix());
    assert_eq!(check(&trust, bad.der.clone()), Ok(()));
    let list = root.revoke(&[&bad]);
    let pem = acme_store::pem::encode("X509 CRL", &list);
    for form in [&list[..], pem.as_bytes()] {
        let (trust, notices) = trust.with_revocations(&[form], now()).unwrap();
        assert_eq!((trust.revocation_lists(), notices.len()), (1, 0));
        assert_eq!(check(&trust, bad.der.clone()), Err(Refusal::Revoked));
        assert_eq!(check(&trust, good.der.clone()), Ok(()));
        assert_eq!(check(&trust, foreign.der.clone()), Ok(()), "no list covers it");
    }
    let (late, notices) = trust.with_revocations(&[&list], now() + 3 * DAY).unwrap();
    assert!(notices[0].contains("CN=A is out of date since"), "{notices:?}");
    assert_eq!(check(&late, bad.der.clone()), Err(Refusal::Revoked));
    assert_eq!(check(&late, good.der.clone()), Ok(()));
}

#[test]
fn a_revocation_list_that_proves_nothing_is_refused() {
    let (root, stranger, namesake) = (Ca::root("A"), Ca::root("Stranger"), Ca::root("A"));
    let trust = root.trust();
    for (list, reason) in [
        (stranger.revoke(&[]), "CN=Stranger is not in the bundle"),
        (namesake.revoke(&[]), "not signed by the key of CN=A"),
        (b"garbage".to_vec(), "not a readable"),
        (root.pem().into_bytes(), "no revocation list"),
    ] {
        let error = trust.with_revocations(&[&list], now()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
