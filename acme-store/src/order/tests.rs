use std::future::ready;
use std::time::UNIX_EPOCH;

use super::*;
use crate::key::KeyKind;
use crate::pem;
use crate::request::{Form, self_signed};

/// Answers every order with the same chain.
struct Fixed(String);

impl Authority for Fixed {
    fn open(&mut self, _: &[String]) -> impl Future<Output = Result<Vec<Challenge>, AuthorityError>> + Send {
        let challenge = |name: &str, token: &str| Challenge {
            name: name.into(),
            token: token.into(),
            answer: "a".into(),
        };
        ready(Ok(vec![challenge("gw.example", "one"), challenge("gw.example", "two")]))
    }

    fn prove(&mut self) -> impl Future<Output = Result<(), AuthorityError>> + Send {
        ready(Ok(()))
    }

    fn finish(&mut self, _: &[u8]) -> impl Future<Output = Result<String, AuthorityError>> + Send {
        ready(Ok(self.0.clone()))
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

fn names() -> Vec<String> {
    vec!["gw.example".to_owned()]
}

fn certificate(key: &Key, at: SystemTime) -> String {
    self_signed(key, &Form::for_names(&names()), at, Duration::from_secs(86400)).unwrap().chain_pem()
}

fn issued(key: &Key, chain: String) -> Result<Credential, OrderError> {
    let tokens = Tokens::new();
    let result = block_on(issue(&mut Fixed(chain), &tokens, key, &names(), now));
    assert_eq!(tokens.answer("one"), None);
    assert_eq!(tokens.answer("two"), None);
    result
}

#[test]
fn only_a_chain_that_fits_is_accepted() {
    let key = Key::generate(KeyKind::EcdsaP256).unwrap();
    let good = certificate(&key, now());
    assert!(issued(&key, good.clone()).is_ok());
    let stranger = certificate(&Key::generate(KeyKind::EcdsaP256).unwrap(), now());
    assert!(matches!(issued(&key, stranger.clone()), Err(OrderError::WrongKey(_))));
    assert!(matches!(issued(&key, format!("{good}{stranger}")), Err(OrderError::BrokenChain)));
    let day = Duration::from_secs(86400);
    assert!(matches!(issued(&key, certificate(&key, now() - 2 * day)), Err(OrderError::WrongTime(..))));
    assert!(matches!(issued(&key, certificate(&key, now() + day)), Err(OrderError::WrongTime(..))));
    assert!(issued(&key, certificate(&key, now() + Duration::from_secs(1800))).is_ok(), "clocks differ");
    for rubbish in ["", "<html>", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(issued(&key, rubbish.to_owned()), Err(OrderError::BadChain(_))), "{rubbish}");
    }
    let with_key = format!("{good}{}", pem::encode("PRIVATE KEY", &[1]));
    assert!(matches!(issued(&key, with_key), Err(OrderError::BadChain(_))));
}

#[test]
fn what_can_not_be_proven_is_refused_before_the_authority_is_asked() {
    let refused = |name: &str| check_names(&[name.to_owned()]).unwrap_err().to_string();
    assert!(refused("*.example.com").contains("DNS-01"));
    assert!(refused("0.0.0.0").contains("0.0.0.0"));
    assert!(refused("a b").contains("\"a b\""));
    assert!(check_names(&[]).is_err());
    assert!(check_names(&["gw.example".into(), "192.0.2.1".into()]).is_ok());
}

#[test]
fn tokens_are_bounded() {
    let tokens = Tokens::new();
    let live: Vec<_> =
        (0..MAX_TOKENS).filter_map(|number| tokens.publish(&number.to_string(), "x")).collect();
    assert_eq!(live.len(), MAX_TOKENS);
    assert!(tokens.publish("more", "x").is_none());
    drop(live);
    assert!(tokens.publish("more", "x").is_some());
}
