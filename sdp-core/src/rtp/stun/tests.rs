use super::*;

/// RFC 5769 §2.1, the sample request: with SOFTWARE, PRIORITY, ICE-CONTROLLED, USERNAME, MESSAGE-INTEGRITY, FINGERPRINT.
const SAMPLE: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
const UFRAG: &str = "evtj";
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// A check with these attributes, then integrity by `password` and a fingerprint.
fn check(attributes: &[(u16, &[u8])], password: &str) -> Vec<u8> {
    let mut bytes = hex("000100002112a442b7e7a701bc34d686fa87dfae");
    for (kind, value) in attributes {
        bytes.extend(kind.to_be_bytes());
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let mac = integrity(&bytes, bytes.len(), password).unwrap().finalize().into_bytes();
    bytes.extend([0, 8, 0, 20]);
    bytes.extend(mac);
    let length = (bytes.len() + CHECKSUM - HEADER) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    let sum = fingerprint(&bytes);
    bytes.extend([0x80, 0x28, 0, 4]);
    bytes.extend(sum.to_be_bytes());
    bytes
}

/// A check of RFC 5769's user, for tests of what answers checks.
pub(crate) fn sealed(nominated: bool, password: &str) -> Vec<u8> {
    sealed_for(UFRAG, nominated, password)
}

/// A check of somebody to whom this user fragment was named.
pub(crate) fn sealed_for(ufrag: &str, nominated: bool, password: &str) -> Vec<u8> {
    let user = format!("{ufrag}:h6vY");
    let all = [(USERNAME, user.as_bytes()), RANK, CONTROLLING, (USE_CANDIDATE, &b""[..])];
    check(&all[..if nominated { 4 } else { 3 }], password)
}

const USER: (u16, &[u8]) = (USERNAME, b"evtj:h6vY");
const RANK: (u16, &[u8]) = (PRIORITY, &[0x6e, 0, 1, 0xff]);
const CONTROLLING: (u16, &[u8]) = (0x802a, &[1, 2, 3, 4, 5, 6, 7, 8]);

#[test]
fn cookie_and_length() {
    let request = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    assert!(is_stun(&request));
    assert!(!is_stun(&request[..19]));
    for (at, octet) in [(0, 0x80), (3, 4), (4, 0)] {
        let mut broken = request;
        broken[at] = octet;
        assert!(!is_stun(&broken), "{at}");
    }
}

#[test]
fn the_sample_request_of_rfc_5769() {
    let sample = hex(SAMPLE);
    let at = sample.len() - CHECKSUM - INTEGRITY;
    let mac = integrity(&sample, at, PASSWORD).unwrap().finalize().into_bytes();
    assert_eq!(mac[..], sample[at + 4..at + INTEGRITY]);
    assert_eq!(fingerprint(&sample[..at + INTEGRITY]).to_be_bytes(), sample[at + INTEGRITY + 4..]);
    // It says that its sender is controlled: so are we, always. As a check it is refused for that alone.
    assert_eq!(Check::read(&sample, UFRAG, PASSWORD), None);
    let same = check(&[(0x8022, b"STUN test client"), RANK, CONTROLLING, USER], PASSWORD);
    assert!(Check::read(&same, UFRAG, PASSWORD).is_some_and(|check| !check.nominated));
}

/// RFC 5769 §2.2 and §2.3 have a SOFTWARE attribute, so that their integrity differs: mapped addresses are theirs.
#[test]
fn answers_map_addresses_as_rfc_5769_does() {
    let request = check(&[USER, RANK, CONTROLLING], PASSWORD);
    let read = Check::read(&request, UFRAG, PASSWORD).unwrap();
    for (source, length, mapped) in [
        ("192.0.2.1:32853", 64, "002000080001a147e112a643"),
        (
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
            76,
            "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
        ),
        ("[::ffff:192.0.2.1]:32853", 64, "002000080001a147e112a643"),
    ] {
        let mut out = [0xee; MAX_ANSWER];
        let written = read.answer(source.parse().unwrap(), PASSWORD, &mut out).unwrap();
        let answer = &out[..written];
        assert_eq!((written, &answer[..2]), (length, &[1, 1][..]), "{source}");
        assert!(is_stun(answer), "its length fits");
        assert_eq!(answer[4..20], request[4..20], "cookie and transaction id");
        let mapped = hex(mapped);
        assert_eq!(answer[20..20 + mapped.len()], mapped);
        let at = 20 + mapped.len();
        let mac = integrity(answer, at, PASSWORD).unwrap().finalize().into_bytes();
        assert_eq!(answer[at..at + 4], [0, 8, 0, 20]);
        assert_eq!(answer[at + 4..at + 24], mac[..]);
        assert_eq!(answer[at + 24..at + 28], [0x80, 0x28, 0, 4]);
        assert_eq!(answer[at + 28..], fingerprint(&answer[..at + 24]).to_be_bytes());
        // MED-04's rule for all STUN of ours.
        assert!(written <= request.len() + 40);
    }
}

#[test]
fn a_nomination_is_read() {
    let chosen = check(&[USER, RANK, CONTROLLING, (USE_CANDIDATE, b"")], PASSWORD);
    assert!(Check::read(&chosen, UFRAG, PASSWORD).is_some_and(|check| check.nominated));
}

#[test]
fn what_is_wrong_gets_nothing() {
    let right = check(&[USER, RANK], PASSWORD);
    assert!(Check::read(&right, UFRAG, PASSWORD).is_some());
    for (ufrag, password) in
        [("evtk", PASSWORD), ("evt", PASSWORD), (UFRAG, "other"), ("", PASSWORD), (UFRAG, "")]
    {
        assert_eq!(Check::read(&right, ufrag, password), None, "{ufrag} {password}");
    }
    for (name, attributes) in [
        ("no user", &[RANK][..]),
        ("another's", &[(USERNAME, &b"h6vY:evtj"[..]), RANK]),
        ("no colon", &[(USERNAME, b"evtj"), RANK]),
        ("nobody behind the colon", &[(USERNAME, b"evtj:"), RANK]),
        ("no priority", &[USER]),
        ("a short priority", &[USER, (PRIORITY, b"ab")]),
        ("we are to choose", &[USER, RANK, (ICE_CONTROLLED, b"12345678")]),
        ("an attribute that must be known", &[USER, RANK, (0x7fff, b"")]),
    ] {
        assert_eq!(Check::read(&check(attributes, PASSWORD), UFRAG, PASSWORD), None, "{name}");
    }
    // Optional ones may be unknown.
    assert!(Check::read(&check(&[USER, RANK, (0xc057, b"abc")], PASSWORD), UFRAG, PASSWORD).is_some());
    for at in 0..right.len() {
        for bit in [1, 0x80] {
            let mut broken = right.clone();
            broken[at] ^= bit;
            assert_eq!(Check::read(&broken, UFRAG, PASSWORD), None, "octet {at}");
        }
        assert_eq!(Check::read(&right[..at], UFRAG, PASSWORD), None, "cut at {at}");
    }
    // Without the fingerprint, and with something behind it.
    let bare = &right[..right.len() - CHECKSUM];
    let mut bare = bare.to_vec();
    bare[3] -= CHECKSUM as u8;
    assert!(is_stun(&bare));
    assert_eq!(Check::read(&bare, UFRAG, PASSWORD), None);
    let mut long = [&right[..], &[0xc0, 0x57, 0, 0]].concat();
    long[3] += 4;
    assert!(is_stun(&long));
    assert_eq!(Check::read(&long, UFRAG, PASSWORD), None);
}

#[test]
fn an_answer_is_no_check() {
    let request = check(&[USER, RANK], PASSWORD);
    let mut out = [0; MAX_ANSWER];
    let length = Check::read(&request, UFRAG, PASSWORD).unwrap().answer(
        "192.0.2.1:1".parse().unwrap(),
        PASSWORD,
        &mut out,
    );
    assert_eq!(
        Check::read(&out[..length.unwrap()], UFRAG, PASSWORD),
        None,
        "two gateways do not answer each other"
    );
}

#[test]
fn the_checksum_is_that_of_v_42() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
