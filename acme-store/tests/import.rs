//! Credentials in the shapes that openssl and people make.

mod pki;

use acme_store::import::{self, ImportError, Imported, Notice};
use acme_store::key::KeyError;
use pki::{Ca, DAY, Dir, cn, has, now};

fn read(files: &[&[u8]]) -> Result<Imported, ImportError> {
    import::credential(files, now())
}

struct Site {
    root: Ca,
    middle: Ca,
    leaf: pki::Issued,
}

fn site() -> Site {
    let root = Ca::root("Test Root");
    let middle = root.below("Test Issuing", Some(0));
    let leaf = middle.issue(&cn("gw.example").dns("gw.example"));
    Site { root, middle, leaf }
}

#[test]
fn any_order_gives_the_same_chain() {
    let Site { root, middle, leaf } = site();
    let blocks = [leaf.key_pem(), leaf.pem(), middle.pem(), root.pem()];
    let mut seen = 0;
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            for c in (0..4).filter(|c| *c != a && *c != b) {
                let d = 6 - a - b - c;
                let text = [a, b, c, d].map(|index| blocks[index].as_str()).concat();
                let imported = read(&[text.as_bytes()]).unwrap();
                assert_eq!(
                    imported.credential.chain(),
                    [leaf.der.clone(), middle.der()],
                    "order {a}{b}{c}{d}"
                );
                assert_eq!(imported.notices, []);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 24);
}

#[test]
fn pasted_text_is_read() {
    let Site { middle, leaf, .. } = site();
    let text = format!("{}{}{}", leaf.pem(), middle.pem(), leaf.key_pem());
    let shapes = [
        text.replace('\n', "\r\n"),
        text.replace('\n', "\r"),
        format!("\u{feff}{text}"),
        format!("{}\u{feff}{}\u{feff}{}", leaf.pem(), middle.pem(), leaf.key_pem()),
        format!("From the Director page:\n\n  Subject: gw.example\n{text}\n-- \nend of mail\n"),
        text.lines().map(|line| format!("   {line}  \r\n")).collect(),
        format!("{text}{text}"),
    ];
    for (index, shape) in shapes.iter().enumerate() {
        let imported = read(&[shape.as_bytes()]).unwrap_or_else(|error| panic!("shape {index}: {error}"));
        assert_eq!(imported.credential.chain(), [leaf.der.clone(), middle.der()], "shape {index}");
    }
}

#[test]
fn several_files_in_pem_and_der_are_one_import() {
    let Site { root, middle, leaf } = site();
    let key = leaf.key.serialize_der();
    let imported = read(&[&key, &middle.der(), leaf.pem().as_bytes(), &root.der()]).unwrap();
    assert_eq!(imported.credential.chain(), [leaf.der.clone(), middle.der()]);
    assert!(!format!("{imported:?}").contains("PRIVATE"));
}

#[test]
fn what_is_left_out_or_missing_is_told() {
    let Site { middle, leaf, .. } = site();
    let stranger = Ca::root("Stranger");
    let text = format!("{}{}{}", leaf.key_pem(), leaf.pem(), stranger.pem());
    let notices = read(&[text.as_bytes()]).unwrap().notices;
    let subject = "CN=Stranger".to_owned();
    assert_eq!(
        notices,
        [Notice::Unused { subject }, Notice::EndsBefore { issuer: "CN=Test Issuing".to_owned() }]
    );

    let early = middle.issue(&pki::Leaf { from: now() + DAY, ..cn("x.example") });
    let imported =
        read(&[early.pem().as_bytes(), early.key_pem().as_bytes(), middle.pem().as_bytes()]).unwrap();
    assert!(matches!(imported.notices[..], [Notice::EndsBefore { .. }, Notice::NotYetValid { .. }]));
}

#[test]
fn the_issued_certificate_wins_over_the_interim_of_the_same_key() {
    let Site { middle, .. } = site();
    let interim = pki::Leaf { until: now() + 900 * DAY, ..cn("gw.example") }.self_signed();
    let key_pem = interim.key_pem();
    let issued = middle.issue_for(&cn("gw.example"), rcgen::KeyPair::from_pem(&key_pem).unwrap());
    let text = format!("{}{}{}", interim.pem(), issued.pem(), key_pem);
    assert_eq!(read(&[text.as_bytes()]).unwrap().credential.chain()[0], issued.der);
}

#[test]
fn refusals_are_precise() {
    let Site { root, middle, leaf } = site();
    let other = middle.issue(&cn("other.example"));
    let old = middle.issue(&pki::Leaf { from: now() - 3 * DAY, until: now() - DAY, ..cn("old.example") });
    let refuse = |text: String| read(&[text.as_bytes()]).unwrap_err();

    assert_eq!(refuse(String::new()), ImportError::Nothing);
    assert_eq!(refuse("no certificate here".into()), ImportError::Nothing);
    assert_eq!(refuse(leaf.pem()), ImportError::NoKey);
    assert_eq!(refuse(leaf.key_pem()), ImportError::NoCertificate);
    assert_eq!(
        refuse(format!("{}{}{}", leaf.key_pem(), other.pem(), root.pem())),
        ImportError::KeyMismatch { subjects: vec!["CN=other.example".into(), "CN=Test Root".into()] }
    );
    let second = leaf.key_pem().lines().count() + 1;
    assert_eq!(
        refuse(format!("{}{}{}", leaf.key_pem(), other.key_pem(), leaf.pem())),
        ImportError::TwoKeys { first: 1, second }
    );
    let expired = refuse(format!("{}{}", old.key_pem(), old.pem()));
    assert!(expired.to_string().starts_with("the certificate of CN=old.example expired on 20"), "{expired}");
    let mut damaged = leaf.der.to_vec();
    damaged.truncate(100);
    assert_eq!(
        refuse(format!("{}{}", leaf.key_pem(), acme_store::pem::encode("CERTIFICATE", &damaged))),
        ImportError::BadCertificate { line: second }
    );
    assert_eq!(
        refuse(acme_store::pem::encode("PRIVATE KEY", b"\x30\x03\x02\x01\x00")),
        ImportError::BadKey { line: 1, reason: KeyError::Unsupported }
    );
    assert!(matches!(refuse("-----BEGIN CERTIFICATE-----\nAAAA\n".into()), ImportError::Pem(_)));
    assert!(matches!(
        refuse(acme_store::pem::encode("PKCS7", &[1])),
        ImportError::UnknownBlock { line: 1, .. }
    ));
    assert_eq!(read(&[b"\xff\xfe-\0-\0"]).unwrap_err(), ImportError::Utf16);
    assert_eq!(read(&[&vec![b' '; import::MAX_INPUT + 1]]).unwrap_err(), ImportError::TooLarge);
}

#[test]
fn keys_and_files_of_openssl() {
    if !has("openssl") {
        return;
    }
    let dir = Dir::new();
    dir.openssl("genrsa -traditional -out rsa1.key 2048");
    dir.openssl("pkcs8 -topk8 -nocrypt -in rsa1.key -out rsa8.key");
    dir.openssl("ecparam -name prime256v1 -genkey -out sec1.key");
    dir.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out ec384.key");
    dir.openssl("genpkey -algorithm ED25519 -out ed.key");
    for key in ["rsa1.key", "rsa8.key", "sec1.key", "ec384.key", "ed.key"] {
        dir.openssl(&format!("req -x509 -new -key {key} -subj /CN=gw.example -days 30 -addext basicConstraints=CA:FALSE -out {key}.crt"));
        dir.openssl(&format!("x509 -in {key}.crt -text -out {key}.text.crt"));
        dir.openssl(&format!("x509 -in {key}.crt -outform DER -out {key}.der.crt"));
        dir.openssl(&format!("pkey -in {key} -outform DER -out {key}.der"));
        for (key, certificate) in [
            (key.to_owned(), format!("{key}.crt")),
            (key.to_owned(), format!("{key}.text.crt")),
            (format!("{key}.der"), format!("{key}.der.crt")),
        ] {
            let imported = read(&[&dir.read(&key), &dir.read(&certificate)]);
            let imported = imported.unwrap_or_else(|error| panic!("{key} {certificate}: {error}"));
            assert_eq!(imported.credential.details().common_names, ["gw.example"], "{key}");
        }
    }
    dir.openssl("rsa -in rsa1.key -traditional -outform DER -out rsa1.pkcs1.der");
    read(&[&dir.read("rsa1.pkcs1.der"), &dir.read("rsa1.key.crt")]).unwrap();
    dir.openssl("ec -in sec1.key -outform DER -out sec1.sec1.der");
    read(&[&dir.read("sec1.sec1.der"), &dir.read("sec1.key.crt")]).unwrap();

    dir.openssl("pkcs12 -export -inkey rsa8.key -in rsa8.key.crt -passout pass:x -out all.p12");
    dir.openssl("pkcs12 -in all.p12 -passin pass:x -nodes -out bags.pem");
    assert!(String::from_utf8(dir.read("bags.pem")).unwrap().contains("Bag Attributes"));
    read(&[&dir.read("bags.pem")]).unwrap();
    let refusal = read(&[&dir.read("all.p12")]).unwrap_err();
    assert_eq!(refusal, ImportError::Pkcs12);
    assert!(refusal.to_string().contains("not built yet"));
}

#[test]
fn openssl_keys_that_are_refused() {
    if !has("openssl") {
        return;
    }
    let dir = Dir::new();
    dir.openssl("genrsa -traditional -out short1.key 1024");
    dir.openssl("pkcs8 -topk8 -nocrypt -in short1.key -out short8.key");
    dir.openssl("req -x509 -new -key short1.key -subj /CN=gw -days 30 -out short.crt");
    for key in ["short1.key", "short8.key"] {
        let refusal = read(&[&dir.read(key), &dir.read("short.crt")]).unwrap_err();
        assert_eq!(refusal, ImportError::BadKey { line: 1, reason: KeyError::TooShort { bits: 1024 } });
    }
    dir.openssl("genrsa -out plain.key 2048");
    dir.openssl("pkcs8 -topk8 -in plain.key -passout pass:secret -out encrypted8.key");
    dir.openssl("pkcs8 -topk8 -in plain.key -passout pass:secret -outform DER -out encrypted8.der");
    dir.openssl("rsa -in plain.key -traditional -aes128 -passout pass:secret -out encrypted1.key");
    for key in ["encrypted8.key", "encrypted8.der", "encrypted1.key"] {
        assert_eq!(read(&[&dir.read(key)]).unwrap_err(), ImportError::EncryptedKey { line: 1 }, "{key}");
    }
}
