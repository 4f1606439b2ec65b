#![allow(clippy::disallowed_methods, reason = "a clock must start somewhere")]

use super::*;
use crate::flow::{FlowId, Transport};
use crate::token::{Key, Keyring};

fn peer() -> Arc<Peer> {
    Arc::new(Peer {
        remote: "198.51.100.7:40000".parse().unwrap(),
        local: "192.0.2.1:5061".parse().unwrap(),
        transport: Transport::Tls,
        side: Side::Outside,
        listener: None,
        identity: None,
        verified: true,
    })
}

fn record(tag: &str, user: &str) -> Record {
    let ring = Keyring::new(Key::new(1, [1; 32]), vec![]);
    let id = InstanceId::new("r", tag);
    Record {
        id: id.0,
        tag: Some(tag.into()),
        contact: format!("sips:{user}@192.168.1.7"),
        user: user.into(),
        domain: "10.0.1.50".into(),
        users: vec![],
        expires_in: 3600,
        certificate: [9; 32],
        contact_token: Some(ring.contact_token("r", tag)),
        flow_tokens: [
            ring.flow_token(None, id, &[9; 32], Side::Outside),
            ring.flow_token(None, id, &[9; 32], Side::Inside),
        ],
        switch: None,
        outbound: false,
        address: None,
    }
}

fn flow(n: u64) -> Source {
    Source::Flow(FlowId(n))
}

#[test]
fn a_phone_is_found_by_token_user_path_and_certificate_until_it_expires() {
    let now = Instant::now();
    let mut bindings = Bindings::default();
    let phone = record("A", "anonymous");
    let (crt, fts) = (phone.contact_token.clone().unwrap(), phone.flow_tokens.clone());
    let id = InstanceId(phone.id);
    bindings.put(now, phone.clone(), true, Some((flow(1), peer())));
    bindings.put(now, record("B", "anonymous"), true, Some((flow(2), peer())));

    assert_eq!(bindings.by_contact_token(crt.to_uppercase().as_bytes()).unwrap().id, id);
    assert_eq!(bindings.by_flow_token(Side::Inside, fts[1].as_bytes()).unwrap().id, id);
    assert!(bindings.by_flow_token(Side::Outside, fts[1].as_bytes()).is_none(), "a token of the other side");
    assert!(bindings.by_contact_token(fts[1].as_bytes()).is_none(), "a token of another kind");
    assert_eq!(bindings.by_user("anonymous", None).count(), 2);
    assert_eq!(bindings.by_user("anonymous", Some("10.0.1.50")).count(), 2);
    assert_eq!(bindings.by_user("anonymous", Some("10.0.1.51")).count(), 0);
    assert_eq!(bindings.of_path(&flow(1)), [id]);
    assert_eq!(bindings.of_certificate(&[9; 32]).len(), 2);
    assert_eq!(bindings.poll_change(), Some(Change::Put(Box::new(phone))));

    assert!(bindings.expire(now + Duration::from_secs(3599)).is_none());
    assert!(bindings.expire(now + Duration::from_secs(3600)).is_some());
    assert!(bindings.expire(now + Duration::from_secs(3600)).is_some());
    assert!(bindings.is_empty() && bindings.by_user.is_empty() && bindings.by_path.is_empty());
    assert!(bindings.by_certificate.is_empty() && bindings.next_expiry().is_none());
}

#[test]
fn a_refresh_is_one_of_many_and_changes_what_it_says() {
    let now = Instant::now();
    let mut bindings = Bindings::default();
    for (tag, n) in [("A", 1), ("B", 2)] {
        bindings.put(now, record(tag, "anonymous"), true, Some((flow(n), peer())));
    }
    let (a, b) = (InstanceId::new("r", "A"), InstanceId::new("r", "B"));
    let later = now + Duration::from_secs(600);
    let mut again = record("A", "anonymous");
    again.contact = "sips:anonymous@192.168.1.8".into();
    bindings.put(later, again.clone(), true, Some((flow(1), peer())));
    let binding = bindings.get(a).unwrap();
    assert_eq!(
        (binding.record.contact.as_str(), binding.path),
        ("sips:anonymous@192.168.1.8", Some(flow(1)))
    );
    assert!(binding.arrival > bindings.get(b).unwrap().arrival, "the newest of the two");
    assert_eq!(bindings.by_user("anonymous", None).count(), 2);
    assert_eq!(bindings.of_path(&flow(1)), [a]);
    assert_eq!(bindings.next_expiry(), Some(now + Duration::from_secs(3600)));
    assert_eq!(bindings.expire(now + Duration::from_secs(3600)).map(|b| b.id), Some(b));
    assert_eq!(bindings.next_expiry(), Some(later + Duration::from_secs(3600)));
    assert_eq!(bindings.born_with().count(), 1);
    // Another user, another certificate, another connection: found there, and nowhere else.
    again.user = "117".into();
    again.certificate = [8; 32];
    bindings.put(later, again, true, Some((flow(3), peer())));
    assert_eq!((bindings.by_user("anonymous", None).count(), bindings.by_user("117", None).count()), (0, 1));
    assert!(bindings.of_path(&flow(1)).is_empty() && bindings.of_certificate(&[9; 32]).is_empty());
    assert_eq!((bindings.of_path(&flow(3)), bindings.of_certificate(&[8; 32])), (&[a][..], &[a][..]));
    assert!(bindings.expire(later + Duration::from_secs(3600)).is_some());
    assert!(bindings.is_empty() && bindings.by_user.is_empty() && bindings.by_path.is_empty());
    assert!(bindings.expiries.is_empty() && bindings.keys.is_empty() && bindings.by_certificate.is_empty());
}

#[test]
fn a_connection_takes_its_guests_along_and_leaves_its_registrations() {
    let now = Instant::now();
    let mut bindings = Bindings::default();
    bindings.put(now, record("A", "a"), true, Some((flow(1), peer())));
    bindings.put(now, record("G", "g"), false, Some((flow(1), peer())));
    assert_eq!(bindings.close(flow(1)).len(), 2);
    assert_eq!(bindings.len(), 1);
    let id = InstanceId::new("r", "A");
    assert!(bindings.get(id).unwrap().path.is_none());
    bindings.attach(id, flow(2), peer());
    assert_eq!(bindings.of_path(&flow(2)), [id]);
    assert!(bindings.of_path(&flow(1)).is_empty());
    assert!(bindings.close(flow(1)).is_empty());
    assert_eq!(bindings.get(id).unwrap().path, Some(flow(2)));
}

#[test]
fn sixteen_users_are_remembered() {
    let now = Instant::now();
    let mut bindings = Bindings::default();
    bindings.put(now, record("A", "anonymous"), true, Some((flow(1), peer())));
    let id = InstanceId::new("r", "A");
    for n in 0..20 {
        bindings.learn(now, id, &format!("10{n:02}"));
        bindings.learn(now, id, &format!("10{n:02}"));
    }
    assert_eq!(bindings.get(id).unwrap().record.users.len(), USERS);
    assert_eq!(bindings.by_user("1003", None).count(), 0);
    assert_eq!(bindings.by_user("1004", None).count(), 1);
    assert_eq!(bindings.by_user("anonymous", None).count(), 1);
    // One for the registration and one for each user.
    assert_eq!(std::iter::from_fn(|| bindings.poll_change()).count(), 21);
}

#[test]
fn what_one_node_tells_another_knows() {
    let now = Instant::now();
    let (mut one, mut two) = (Bindings::default(), Bindings::default());
    one.put(now, record("A", "anonymous"), true, Some((flow(1), peer())));
    one.learn(now, InstanceId::new("r", "A"), "117");
    while let Some(change) = one.poll_change() {
        let wire = format!("{change:?}");
        assert!(wire.contains("Put"));
        two.apply(now, change);
    }
    let copy = two.by_user("117", None).next().unwrap();
    assert!(copy.path.is_none() && copy.registered);
    assert!(two.poll_change().is_none(), "what came from elsewhere is not told again");
    // Connected here: a late echo of an older state changes nothing.
    two.attach(InstanceId::new("r", "A"), flow(7), peer());
    two.apply(now, Change::Put(Box::new(record("A", "old"))));
    assert_eq!(two.get(InstanceId::new("r", "A")).unwrap().record.user, "anonymous");
    one.remove(InstanceId::new("r", "A"));
    two.apply(now, one.poll_change().unwrap());
    assert!(two.is_empty());
}
