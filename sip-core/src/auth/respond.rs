//! The end that is challenged: credentials for our own requests.

use std::fmt;

use data_encoding::HEXLOWER;

use super::digest::{Algorithm, Protection, Qop, Terms};
use super::verify::quoted;
use crate::header::AuthValue;
use crate::token::Random;

/// The user and the password of one account with somebody else. Answers challenges, and counts.
#[derive(Clone)]
pub struct Responder {
    user: String,
    password: String,
    /// The challenge that was answered last, and how often.
    last: Option<(Vec<u8>, u32)>,
}

/// Why there are no credentials to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unanswerable {
    /// No Digest among the challenges, or none of an algorithm and protection that we know.
    #[error("no challenge that can be answered")]
    Unknown,
    /// A new nonce for credentials that were just sent and are not stale: the password is wrong.
    #[error("the credentials were refused")]
    Refused,
}

impl Responder {
    /// For requests as this user.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into(), last: None }
    }

    /// A request was accepted: its challenge counts as answered.
    pub fn accepted(&mut self) {
        if let Some((_, count)) = &mut self.last {
            *count = (*count).max(2);
        }
    }

    /// The value of `Authorization` or `Proxy-Authorization` for a request that was challenged, or shall use the same
    /// challenge again. Of several challenges the first one that can be answered is (RFC 8760 §2.5). `sent`: the request
    /// that was challenged carried credentials already.
    ///
    /// # Errors
    /// [`Unanswerable`].
    pub fn answer<'a>(
        &mut self,
        random: &mut Random,
        challenges: impl IntoIterator<Item = AuthValue<'a>>,
        sent: bool,
        method: &str,
        uri: &str,
        body: &[u8],
    ) -> Result<String, Unanswerable> {
        let known = |one: &AuthValue<'a>| Some((*one, Offer::of(one)?));
        let (challenge, offer) =
            challenges.into_iter().find_map(|one| known(&one)).ok_or(Unanswerable::Unknown)?;
        let stale = challenge.text("stale").is_some_and(|value| value.eq_ignore_ascii_case(b"true"));
        let nonce = challenge.text("nonce").ok_or(Unanswerable::Unknown)?;
        if sent && !stale && self.last.as_ref().is_some_and(|(_, count)| *count == 1) {
            return Err(Unanswerable::Refused);
        }
        let count = match &mut self.last {
            Some((known, count)) if *known == *nonce => {
                *count += 1;
                *count
            }
            last => last.insert((nonce.to_vec(), 1)).1,
        };
        let realm = text(&challenge, "realm");
        let parts = [self.user.as_bytes(), realm.as_bytes(), self.password.as_bytes()];
        let a1 = offer.algorithm.hash(&parts);
        let count = format!("{count:08x}");
        let cnonce = HEXLOWER.encode(&random.number().to_be_bytes());
        let terms = Terms {
            algorithm: offer.algorithm,
            nonce: &nonce,
            protection: offer.qop.map(|qop| Protection {
                qop,
                count: count.as_bytes(),
                cnonce: cnonce.as_bytes(),
            }),
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            body,
        };
        let response = terms.response(&a1);
        let nonce = String::from_utf8_lossy(&nonce);
        let mut out = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            quoted(&self.user),
            quoted(&realm),
            quoted(&nonce),
            quoted(uri),
        );
        if offer.named {
            out.push_str(&format!(", algorithm={}", offer.algorithm.token()));
        }
        if let Some(qop) = offer.qop {
            out.push_str(&format!(", qop={}, nc={count}, cnonce=\"{cnonce}\"", qop.token()));
        }
        if challenge.raw("opaque").is_some() {
            out.push_str(&format!(", opaque={}", quoted(&text(&challenge, "opaque"))));
        }
        Ok(out)
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What a challenge asks for.
struct Offer {
    algorithm: Algorithm,
    named: bool,
    qop: Option<Qop>,
}

impl Offer {
    fn of(challenge: &AuthValue<'_>) -> Option<Self> {
        if !challenge.is_digest() || challenge.repeats() {
            return None;
        }
        let token = challenge.text("algorithm");
        let algorithm = token.as_deref().map_or(Some(Algorithm::Md5), Algorithm::of)?;
        let qop = match challenge.text("qop") {
            // RFC 7616 §3.3: without one, as RFC 2069 has it.
            None => None,
            // RFC 3261 §22.4: `auth` is enough, unless only the body's protection is offered.
            Some(list) => {
                let offered: Vec<Qop> =
                    list.split(|b| *b == b',').filter_map(|one| Qop::of(one.trim_ascii())).collect();
                Some(if offered.contains(&Qop::Auth) { Qop::Auth } else { *offered.first()? })
            }
        };
        Some(Self { algorithm, named: token.is_some(), qop })
    }
}

fn text(challenge: &AuthValue<'_>, name: &str) -> String {
    challenge.text(name).map_or_else(String::new, |text| String::from_utf8_lossy(&text).into_owned())
}
