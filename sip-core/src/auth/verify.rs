//! The end that challenges: nonces that need no memory until they are used, and judgement.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::digest::{Account, Algorithm, Protection, Qop, Terms};
use crate::header::AuthValue;
use crate::token::Random;

/// Octets of a nonce's MAC that are kept.
const MAC: usize = 16;
/// Time in milliseconds, serial, MAC.
const NONCE: usize = 8 + 8 + MAC;
/// Nonces in use that are remembered; when there are as many, the oldest grow stale early.
pub(super) const NONCES: usize = if cfg!(test) { 500 } else { 100_000 };

/// How a [`Verifier`] judges.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The realm of its accounts.
    pub realm: String,
    /// What is offered, the preferred one first (RFC 8760 §2.4).
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce is good.
    pub lifetime: Duration,
    /// Credentials without `qop` are accepted (`interop.rfc2069`), by MD5 alone. They can be replayed while their nonce
    /// lives.
    pub rfc2069: bool,
    /// A username may carry `@domain`, which is cut (`sip.auth.loose_username`, SIP-21).
    pub loose_username: bool,
}

impl Settings {
    /// All algorithms; nonces of five minutes; strict.
    pub fn new(realm: impl Into<String>) -> Self {
        Self {
            realm: realm.into(),
            algorithms: Algorithm::ALL.to_vec(),
            lifetime: Duration::from_secs(300),
            rfc2069: false,
            loose_username: false,
        }
    }
}

/// What the credentials came with.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The Request-URI.
    pub uri: &'a [u8],
    /// The body, for `auth-int`.
    pub body: &'a [u8],
    /// The unescaped user of From: credentials are for it (SIP-21). `None` takes any user.
    pub user: Option<&'a str>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// They are good, for this account.
    Granted(String),
    /// 401 or 407 with [`Verifier::challenges`]. `stale`: they were good, but for the nonce.
    Challenge {
        /// For the challenge, so that nobody asks a person for the password again.
        stale: bool,
    },
    /// 400, naming what is wrong.
    Malformed(&'static str),
    /// 403: the username is none, or another one than the caller's.
    Forbidden,
}

const AGAIN: Verdict = Verdict::Challenge { stale: false };

/// Challenges and judges. Keeps nothing for a challenge that nobody answers.
pub struct Verifier {
    settings: Settings,
    /// When time began for the nonces.
    origin: Instant,
    mac: Hmac<Sha256>,
    random: Random,
    /// Nonces in use, by serial.
    used: HashMap<u64, Counts>,
    /// The same, by age.
    ages: VecDeque<(u64, u64)>,
    /// Nonces made until then (in milliseconds) are stale, because counts were forgotten.
    forgotten: Option<u64>,
}

/// Which counts were seen: the highest, and which of the 64 up to it.
#[derive(Clone, Copy)]
struct Counts {
    highest: u32,
    seen: u64,
}

impl Counts {
    /// Notes a count; `false` if it was seen, or is too old to tell.
    fn note(&mut self, count: u32) -> bool {
        if count > self.highest {
            let ahead = count - self.highest;
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let bit = 1_u64.checked_shl(self.highest - count).unwrap_or(0);
        let fresh = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

/// A nonce of ours.
struct Nonce {
    made: u64,
    serial: u64,
}

impl Verifier {
    /// A verifier whose nonces nobody can guess if `seed` can't be guessed.
    pub fn new(now: Instant, settings: Settings, seed: [u8; 32]) -> Self {
        let mut random = Random::new(seed);
        let mut key = hmac::digest::Key::<Hmac<Sha256>>::default();
        for part in key[..32].chunks_mut(8) {
            part.copy_from_slice(&random.number().to_be_bytes());
        }
        Self {
            settings,
            origin: now,
            mac: Hmac::new(&key),
            random,
            used: HashMap::new(),
            ages: VecDeque::new(),
            forgotten: None,
        }
    }

    /// From the next challenge and judgement on.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The values of `WWW-Authenticate` or `Proxy-Authenticate`, one row each, the preferred one first.
    pub fn challenges(&mut self, now: Instant, stale: bool) -> Vec<String> {
        let nonce = self.nonce(now);
        let realm = quoted(&self.settings.realm);
        let stale = if stale { ", stale=TRUE" } else { "" };
        let challenge = |algorithm: &Algorithm| {
            let token = algorithm.token();
            // RFC 7616 §3.3: `qop` is a quoted list, `algorithm` and `stale` are not quoted.
            format!(
                "Digest realm={realm}, nonce=\"{nonce}\", algorithm={token}, qop=\"auth,auth-int\"{stale}"
            )
        };
        self.settings.algorithms.iter().map(challenge).collect()
    }

    /// Judges the credentials of a request, all rows of its `Authorization` or `Proxy-Authorization`. `account` finds one.
    pub fn verify<'a>(
        &mut self,
        now: Instant,
        question: &Question<'_>,
        credentials: impl IntoIterator<Item = AuthValue<'a>>,
        account: impl Fn(&str) -> Option<Account>,
    ) -> Verdict {
        let realm = self.settings.realm.as_bytes();
        let mut own = credentials
            .into_iter()
            .filter(|one| one.is_digest() && one.text("realm").as_deref() == Some(realm));
        let Some(first) = own.next() else { return AGAIN };
        // RFC 3261 §22.3: one for each realm.
        if own.next().is_some() {
            return Verdict::Malformed("two credentials for one realm");
        }
        self.judge(now, question, &first, account).unwrap_or_else(|verdict| verdict)
    }

    fn judge(
        &mut self,
        now: Instant,
        question: &Question<'_>,
        own: &AuthValue<'_>,
        account: impl Fn(&str) -> Option<Account>,
    ) -> Result<Verdict, Verdict> {
        if own.repeats() {
            return Err(Verdict::Malformed("a parameter twice"));
        }
        let text = |name: &'static str| own.text(name).ok_or(Verdict::Malformed(name));
        let (username, nonce, uri, response) =
            (text("username")?, text("nonce")?, text("uri")?, text("response")?);
        // RFC 7616 §3.4: without one, MD5.
        let algorithm = own.text("algorithm").map_or(Some(Algorithm::Md5), |token| Algorithm::of(&token));
        let algorithm = algorithm.filter(|one| self.settings.algorithms.contains(one)).ok_or(AGAIN)?;
        let (count, cnonce, qop) = (own.raw("nc"), own.text("cnonce"), own.text("qop"));
        let protection = match &qop {
            Some(token) => Some(Protection {
                qop: Qop::of(token).ok_or(Verdict::Malformed("qop"))?,
                count: count.filter(|count| number(count).is_some()).ok_or(Verdict::Malformed("nc"))?,
                cnonce: cnonce
                    .as_deref()
                    .filter(|text| !text.is_empty())
                    .ok_or(Verdict::Malformed("cnonce"))?,
            }),
            None if self.settings.rfc2069 && algorithm == Algorithm::Md5 => None,
            None => return Err(AGAIN),
        };
        // RFC 7616 §3.4.6: what the digest covers must be what was asked.
        if !uri.eq_ignore_ascii_case(question.uri) {
            return Err(Verdict::Malformed("uri"));
        }
        let user = self.account_name(&username, question.user).ok_or(Verdict::Forbidden)?;
        let account = account(&user);
        let realm = self.settings.realm.as_bytes();
        let a1 = account.as_ref().and_then(|account| account.a1(algorithm, &username, realm));
        let count = count.and_then(number);
        let terms = Terms {
            algorithm,
            nonce: &nonce,
            protection,
            method: question.method,
            uri: &uri,
            body: question.body,
        };
        // Nobody learns from the time it takes whether there is such an account.
        let expected = terms.response(a1.as_deref().unwrap_or(NOBODY));
        let given = response.to_ascii_lowercase();
        if !bool::from(expected.as_bytes().ct_eq(&given)) || a1.is_none() {
            return Err(AGAIN);
        }
        let fresh = self.opened(now, &nonce).is_some_and(|nonce| match count {
            Some(count) if qop.is_some() => self.note(now, &nonce, count),
            _ => true,
        });
        Ok(if fresh { Verdict::Granted(user) } else { Verdict::Challenge { stale: true } })
    }

    /// The account that a username means, if it is one that this caller may use.
    fn account_name(&self, username: &[u8], caller: Option<&str>) -> Option<String> {
        let text = std::str::from_utf8(username).ok()?;
        let (user, domain) = match text.split_once('@') {
            Some((user, domain)) => (user, Some(domain)),
            None => (text, None),
        };
        let odd = |c: char| matches!(c, '"' | '\\' | '@') || c.is_control();
        if user.is_empty()
            || user.contains(odd)
            || domain.is_some_and(|domain| domain.is_empty() || domain.contains(odd))
        {
            return None;
        }
        if domain.is_some() && !self.settings.loose_username {
            return None;
        }
        caller.is_none_or(|caller| caller == user).then(|| user.to_owned())
    }

    fn nonce(&mut self, now: Instant) -> String {
        let made = self.millis(now).to_be_bytes();
        let serial = self.random.number().to_be_bytes();
        let mac = self.seal(&made, &serial);
        HEXLOWER.encode(&[&made[..], &serial, &mac].concat())
    }

    fn seal(&self, made: &[u8], serial: &[u8]) -> [u8; MAC] {
        let mac = self
            .mac
            .clone()
            .chain_update(made)
            .chain_update(serial)
            .chain_update(self.settings.realm.as_bytes());
        let mut short = [0; MAC];
        short.copy_from_slice(&mac.finalize().into_bytes()[..MAC]);
        short
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }

    /// A nonce of ours that is still good.
    fn opened(&self, now: Instant, nonce: &[u8]) -> Option<Nonce> {
        if nonce.len() != 2 * NONCE {
            return None;
        }
        let raw = HEXLOWER.decode(nonce).ok()?;
        let (made, rest) = raw.split_first_chunk::<8>()?;
        let (serial, mac) = rest.split_first_chunk::<8>()?;
        if !bool::from(self.seal(made, serial).as_slice().ct_eq(mac)) {
            return None;
        }
        let (made, serial) = (u64::from_be_bytes(*made), u64::from_be_bytes(*serial));
        let age = self.millis(now).checked_sub(made)?;
        let good = u128::from(age) < self.settings.lifetime.as_millis()
            && self.forgotten.is_none_or(|until| made > until);
        good.then_some(Nonce { made, serial })
    }

    /// Notes that a nonce was used with this count; `false` for a replay (RFC 7616 §3.4.5).
    fn note(&mut self, now: Instant, nonce: &Nonce, count: u32) -> bool {
        if count == 0 {
            return false;
        }
        let now = self.millis(now);
        let lifetime = self.settings.lifetime.as_millis();
        while let Some(&(made, serial)) = self.ages.front()
            && (u128::from(now.saturating_sub(made)) >= lifetime || self.ages.len() >= NONCES)
        {
            // Only what is forgotten before its time could be replayed.
            if u128::from(now.saturating_sub(made)) < lifetime {
                self.forgotten = Some(self.forgotten.map_or(made, |until| until.max(made)));
            }
            self.ages.pop_front();
            self.used.remove(&serial);
        }
        if self.forgotten.is_some_and(|until| nonce.made <= until) {
            return false;
        }
        match self.used.get_mut(&nonce.serial) {
            Some(counts) => counts.note(count),
            None => {
                self.used.insert(nonce.serial, Counts { highest: count, seen: 1 });
                self.ages.push_back((nonce.made, nonce.serial));
                true
            }
        }
    }

    #[cfg(test)]
    pub(super) fn nonces(&self) -> usize {
        self.used.len().max(self.ages.len())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The hash of an account that nobody has.
const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Eight hexadecimal digits (RFC 7616 §3.4: `nc-value`).
fn number(count: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(count).ok()?;
    (text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

/// A quoted string; what can't stand in one is left out.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
