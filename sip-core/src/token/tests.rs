//! Tokens as they are told, and what is made of those that are no tokens.

use super::*;

fn ring() -> Keyring {
    Keyring::new(Key::new(3, [7; 32]), vec![Key::new(2, [6; 32])])
}

#[test]
fn a_contact_token_depends_on_the_instance_alone_and_ignores_case() {
    let token = ring().contact_token("r", "08000FD4CBBF");
    assert_eq!(token, ring().contact_token("r", "08000FD4CBBF"));
    assert_eq!(token.len(), TOKEN_CHARS);
    assert!(token.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    assert!(token_matches(&token, token.to_uppercase().as_bytes()));
    assert_eq!(token_instance(token.to_uppercase().as_bytes()), Some(InstanceId::new("r", "08000FD4CBBF")));
    assert_ne!(token, ring().contact_token("r", "08000FD4CBC0"));
    assert_ne!(token, ring().contact_token("s", "08000FD4CBBF"));
}

#[test]
fn every_altered_character_breaks_a_token() {
    let token = ring().contact_token("r", "A");
    for at in 0..token.len() {
        let mut forged = token.clone().into_bytes();
        forged[at] = if forged[at] == b'b' { b'c' } else { b'b' };
        assert!(!token_matches(&token, &forged), "position {at}");
    }
    assert!(!token_matches(&token, b""));
    for bad in [&b""[..], b"abc", &[b'1'; 36], &[b'a'; 4000], &token.as_bytes()[..35]] {
        assert_eq!(token_instance(bad), None);
    }
}

#[test]
fn a_flow_token_is_bound_to_certificate_and_side() {
    let id = InstanceId::new("r", "A");
    let token = ring().flow_token(None, id, &[1; 32], Side::Outside);
    assert_ne!(token, ring().flow_token(None, id, &[1; 32], Side::Inside));
    assert_ne!(token, ring().flow_token(None, id, &[2; 32], Side::Outside));
    assert_eq!(token_instance(token.as_bytes()), Some(id));
}

#[test]
fn a_token_names_its_key_and_a_binding_keeps_the_key_it_was_born_with() {
    let id = InstanceId::new("r", "A");
    let token = ring().flow_token(None, id, &[1; 32], Side::Inside);
    assert_eq!(token_key(&token), Some(3));
    let rotated = Keyring::new(Key::new(4, [8; 32]), vec![Key::new(3, [7; 32])]);
    assert_eq!(rotated.flow_token(Some(3), id, &[1; 32], Side::Inside), token);
    assert_eq!(token_key(&rotated.flow_token(None, id, &[1; 32], Side::Inside)), Some(4));
    assert_eq!(token_key(&rotated.name_token(id)), Some(4));
    assert_eq!(rotated.seal_born(Some(3), "e1", b"x"), ring().seal("e1", b"x"));
    assert_eq!((rotated.newest(), rotated.older().collect::<Vec<_>>()), (4, vec![3]));
    for bad in ["", "aeb", &token[1..], &"1".repeat(36)] {
        assert_eq!(token_key(bad), None, "{bad}");
    }
}

#[test]
fn handles_are_short_and_differ() {
    let mut random = Random::new([0; 32]);
    let (one, two) = (random.handle(), random.handle());
    assert_ne!(one, two);
    assert_eq!(one.len(), HANDLE_CHARS);
    assert!(one.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
}

#[test]
fn sealed_text_opens_under_its_label_and_key_only() {
    let sealed = ring().seal("pc", b"sips:117@10.0.1.50:5061;transport=tls").unwrap();
    assert_eq!(sealed, ring().seal("pc", b"sips:117@10.0.1.50:5061;transport=tls").unwrap());
    let upper = sealed.to_uppercase();
    assert_eq!(ring().open("pc", upper.as_bytes()).unwrap(), b"sips:117@10.0.1.50:5061;transport=tls");
    assert_eq!(ring().open("rs", sealed.as_bytes()), None);
    let rotated = Keyring::new(Key::new(4, [8; 32]), vec![Key::new(3, [7; 32])]);
    assert!(rotated.open("pc", sealed.as_bytes()).is_some());
    let foreign = Keyring::new(Key::new(3, [9; 32]), vec![]);
    assert_eq!(foreign.open("pc", sealed.as_bytes()), None);
    for at in 0..sealed.len() {
        let mut forged = sealed.clone().into_bytes();
        forged[at] = if forged[at] == b'b' { b'c' } else { b'b' };
        // The last character of unpadded base32 may carry unused bits; a strict decoder refuses those.
        assert_eq!(ring().open("pc", &forged), None, "position {at}");
    }
    assert_eq!(ring().seal("pc", &[b'x'; SEAL_LIMIT + 1]), None);
    assert_eq!(ring().open("pc", &[b'a'; 100_000]), None);
}

#[test]
fn a_branch_carries_its_loop_hash() {
    let hash = LoopHash::new([Some(&b"sip:a@b"[..]), None]);
    let mut random = Random::new([0; 32]);
    let (one, two) = (random.branch(hash), random.branch(hash));
    assert_ne!(one, two);
    assert!(one.starts_with("z9hG4bK"));
    assert_eq!(LoopHash::of_branch(one.as_bytes()), Some(hash));
    assert_ne!(LoopHash::new([None, Some(&b"sip:a@b"[..])]), hash);
    assert_eq!(LoopHash::of_branch(b"z9hG4bK-other"), None);
}

#[test]
fn a_branch_carries_its_shard() {
    let hash = LoopHash::new([Some(&b"sip:a@b"[..])]);
    for shard in Shard::all(32) {
        let branch = Random::new([1; 32]).on(shard).branch(hash);
        assert_eq!(branch_shard(branch.as_bytes()), Some(shard.index()));
        assert_eq!(branch_shard(branch.to_uppercase().as_bytes()), Some(shard.index()));
        assert_eq!(LoopHash::of_branch(branch.as_bytes()), Some(hash));
    }
    for other in ["z9hG4bKfe", "z9hG4bKfe1", "z9hG4bKab", "", "1"] {
        assert_eq!(branch_shard(other.as_bytes()), None);
    }
}

#[test]
fn secrets_do_not_show() {
    let shown = format!("{:?}", ring());
    assert!(!shown.contains("7, 7") && shown.contains("id: 3"), "{shown}");
}
