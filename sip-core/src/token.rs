//! Everything unguessable: keyed tokens, and the seeded source of branches, tags and Call-IDs.
//!
//! Three kinds of token leave the gateway, all in lower-case base32 because RFC 3261 §19.1.4 compares URI
//! parameters without regard to case:
//!
//! - the *contact token* ([`Keyring::contact_token`]) names one phone (realm and tag) and nothing else, so that
//!   a refresh, a de-registration and a reconnect all present an equal URI to the PBX;
//! - the *flow token* ([`Keyring::flow_token`]) in Record-Route and Path names a binding, the certificate it
//!   belongs to and the side it was shown to; it has no expiry because a dialog's route set never changes;
//! - *sealed text* ([`Keyring::seal`]) hides an inside address from the outside, deterministically.
//!
//! Both first tokens are compared as text with the token the binding was born with: verification costs a
//! constant-time comparison and no hash.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use data_encoding::{BASE32_NOPAD, Encoding};
use hmac::{Hmac, Mac};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::flow::Side;
use crate::shard::Shard;

/// The token format; a change of layout gets a new number.
const VERSION: u8 = 1;
/// Octets of a MAC that are kept (96 bits).
const MAC: usize = 12;
/// Octets of a contact or flow token before the encoding.
const RAW: usize = 2 + 8 + MAC;
/// Characters of an encoded contact or flow token.
pub const TOKEN_CHARS: usize = 36;
/// Characters of a handle, see [`Random::handle`].
pub const HANDLE_CHARS: usize = 22;
/// The longest text that is sealed or opened, in octets.
pub const SEAL_LIMIT: usize = 1024;

/// Eight octets that name a phone: the start of SHA-256 over realm and tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u64);

impl InstanceId {
    /// The name of the phone with this tag in this realm.
    pub fn new(realm: &str, tag: &str) -> Self {
        let digest = Sha256::new().chain_update(realm).chain_update([0]).chain_update(tag).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(first))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One secret with the number that tokens carry to name it.
#[derive(Clone)]
pub struct Key {
    id: u8,
    /// HMAC with the secret taken in: half of the work of each MAC is done once.
    mac: Hmac<Sha256>,
}

impl Key {
    /// A key of 32 random octets.
    pub fn new(id: u8, secret: [u8; 32]) -> Self {
        let mut key = hmac::digest::Key::<Hmac<Sha256>>::default();
        key[..32].copy_from_slice(&secret);
        Self { id, mac: Hmac::new(&key) }
    }

    fn mac(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(label.as_bytes());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The key for new tokens and the older ones that living bindings still need.
#[derive(Clone, Debug)]
pub struct Keyring {
    newest: Key,
    older: Vec<Key>,
}

impl Keyring {
    /// A ring whose new tokens use `newest`.
    pub fn new(newest: Key, older: Vec<Key>) -> Self {
        Self { newest, older }
    }

    /// The number of the key that new tokens use.
    pub fn newest(&self) -> u8 {
        self.newest.id
    }

    /// The numbers of the older keys.
    pub fn older(&self) -> impl Iterator<Item = u8> {
        self.older.iter().map(|key| key.id)
    }

    fn key(&self, id: u8) -> Option<&Key> {
        std::iter::once(&self.newest).chain(&self.older).find(|key| key.id == id)
    }

    /// The key that a binding was born with; the newest if that is no more.
    fn born(&self, id: Option<u8>) -> &Key {
        id.and_then(|id| self.key(id)).unwrap_or(&self.newest)
    }

    /// The contact token of a phone (`crt=`): `ver ‖ kid ‖ id₈ ‖ HMAC-SHA256("crt" ‖ realm ‖ tag)[..12]`.
    pub fn contact_token(&self, realm: &str, tag: &str) -> String {
        let mac = self.newest.mac("crt", &[realm.as_bytes(), tag.as_bytes()]);
        token(&self.newest, InstanceId::new(realm, tag), &mac)
    }

    /// The contact token of a phone that has no tag: a MAC over its name alone.
    pub fn name_token(&self, binding: InstanceId) -> String {
        token(&self.newest, binding, &self.newest.mac("crt-id", &[&binding.0.to_be_bytes()]))
    }

    /// The flow token of a binding (`ft=`): a MAC over binding, certificate key and side, by the key that the binding was
    /// `born` with, or the newest for a new one.
    pub fn flow_token(
        &self,
        born: Option<u8>,
        binding: InstanceId,
        certificate: &[u8; 32],
        side: Side,
    ) -> String {
        let side: &[u8] = match side {
            Side::Outside => b"outside",
            Side::Inside => b"inside",
        };
        let key = self.born(born);
        token(key, binding, &key.mac("ft", &[&binding.0.to_be_bytes(), certificate, side]))
    }

    /// Hides `text` for the far side: the same text under the same key gives the same result.
    ///
    /// A synthetic initialisation vector (the MAC of the text) keys a counter keystream, so that neither equal
    /// prefixes nor a chosen text reveal anything but equality. `None` when the text is over [`SEAL_LIMIT`].
    pub fn seal(&self, label: &str, text: &[u8]) -> Option<String> {
        seal(&self.newest, label, text)
    }

    /// [`Keyring::seal`] by the key that a binding was `born` with, so that it stays equal when the keys are changed.
    pub fn seal_born(&self, born: Option<u8>, label: &str, text: &[u8]) -> Option<String> {
        seal(self.born(born), label, text)
    }

    /// The text that [`Keyring::seal`] hid under `label`; `None` for anything else.
    pub fn open(&self, label: &str, token: &[u8]) -> Option<Vec<u8>> {
        if token.len() > (2 + MAC + SEAL_LIMIT) * 8 / 5 + 1 {
            return None;
        }
        let mut raw = decode(token)?;
        let [VERSION, id, ..] = raw[..] else { return None };
        let key = self.key(id)?;
        let vector: [u8; MAC] = raw.get(2..2 + MAC)?.try_into().ok()?;
        let mut text = raw.split_off(2 + MAC);
        keystream(key, &vector, &mut text);
        let expected = key.mac("seal", &[label.as_bytes(), &text]);
        bool::from(expected[..MAC].ct_eq(&vector)).then_some(text)
    }
}

fn token(key: &Key, id: InstanceId, mac: &[u8; 32]) -> String {
    let mut raw = [0; RAW];
    raw[0] = VERSION;
    raw[1] = key.id;
    raw[2..10].copy_from_slice(&id.0.to_be_bytes());
    raw[10..].copy_from_slice(&mac[..MAC]);
    encode(&raw)
}

fn seal(key: &Key, label: &str, text: &[u8]) -> Option<String> {
    if text.len() > SEAL_LIMIT {
        return None;
    }
    let vector = key.mac("seal", &[label.as_bytes(), text]);
    let mut raw = Vec::with_capacity(2 + MAC + text.len());
    raw.extend([VERSION, key.id]);
    raw.extend(&vector[..MAC]);
    raw.extend(text);
    keystream(key, &vector[..MAC], raw.get_mut(2 + MAC..)?);
    Some(encode(&raw))
}

fn keystream(key: &Key, vector: &[u8], text: &mut [u8]) {
    for (counter, chunk) in text.chunks_mut(32).enumerate() {
        let block = key.mac("stream", &[vector, &(counter as u64).to_be_bytes()]);
        for (byte, mask) in chunk.iter_mut().zip(block) {
            *byte ^= mask;
        }
    }
}

/// The phone a contact or flow token names, without any promise that the token is genuine.
///
/// `None` for a text that no key of ours could have made: wrong length, alphabet or version.
pub fn token_instance(token: &[u8]) -> Option<InstanceId> {
    if token.len() != TOKEN_CHARS {
        return None;
    }
    let raw = decode(token)?;
    let id: [u8; 8] = raw.get(2..10)?.try_into().ok()?;
    (raw.len() == RAW && raw.first() == Some(&VERSION)).then(|| InstanceId(u64::from_be_bytes(id)))
}

/// The number of the key that made a token of ours; `None` for what is none.
pub fn token_key(token: &str) -> Option<u8> {
    // The first 16 bits stand in the first four characters; the decoder takes whole groups of eight.
    let raw = decode(token.as_bytes().get(..8)?)?;
    raw.get(1).copied().filter(|_| token.len() == TOKEN_CHARS && raw.first() == Some(&VERSION))
}

/// Whether `token` as received is the genuine `expected`, without regard to case and in constant time.
pub fn token_matches(expected: &str, token: &[u8]) -> bool {
    expected.as_bytes().ct_eq(&token.to_ascii_lowercase()[..]).into()
}

/// What stands before the address in an [`address_key`]. A digest of a certificate's key never begins so.
const ADDRESS: &[u8; 16] = b"farend: address\0";

/// Stands for a certificate where there is none and the address is trusted: an IPv4 address, or the /64 of an IPv6
/// address, which is what one household or host commands.
pub fn address_key(address: std::net::IpAddr) -> [u8; 32] {
    let mut key = [0; 32];
    let (mark, place) = key.split_at_mut(ADDRESS.len());
    mark.copy_from_slice(ADDRESS);
    match address.to_canonical() {
        std::net::IpAddr::V4(address) => {
            place.iter_mut().zip(address.octets()).for_each(|(to, from)| *to = from);
        }
        std::net::IpAddr::V6(address) => {
            // Told apart from an IPv4 address by where it stands.
            let net = address.octets().into_iter().take(8);
            place.iter_mut().skip(8).zip(net).for_each(|(to, from)| *to = from);
        }
    }
    key
}

/// Whether this stands for an address, not for a certificate.
pub fn is_address_key(key: &[u8; 32]) -> bool {
    key.starts_with(ADDRESS)
}

fn encode(raw: &[u8]) -> String {
    lower().encode(raw)
}

fn decode(token: &[u8]) -> Option<Vec<u8>> {
    BASE32_NOPAD.decode(&token.to_ascii_uppercase()).ok()
}

fn lower() -> &'static Encoding {
    static LOWER: std::sync::LazyLock<Encoding> = std::sync::LazyLock::new(|| {
        let mut specification = BASE32_NOPAD.specification();
        specification.symbols.make_ascii_lowercase();
        specification.encoding().unwrap_or(BASE32_NOPAD)
    });
    &LOWER
}

/// The seeded source of branches, tags and Call-IDs of one machine.
pub struct Random {
    numbers: ChaCha8Rng,
    /// In every branch: an answer finds the machine that asked (see [`branch_shard`]).
    shard: u8,
}

impl Random {
    /// A source that repeats itself for the same seed; a production seed comes from the operating system.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { numbers: ChaCha8Rng::from_seed(seed), shard: 0 }
    }

    /// The same source, for the machine of one shard.
    #[must_use]
    pub fn on(self, shard: Shard) -> Self {
        Self { shard: shard.index(), ..self }
    }

    /// A number nobody can guess.
    pub fn number(&mut self) -> u64 {
        self.numbers.next_u64()
    }

    /// A tag or Call-ID part: 13 characters, 64 random bits (RFC 3261 §19.3 asks for 32).
    pub fn tag(&mut self) -> String {
        encode(&self.number().to_be_bytes())
    }

    /// A name of 22 characters and 110 random bits that stands for an address.
    pub fn handle(&mut self) -> String {
        let mut raw = [0; 14];
        self.numbers.fill_bytes(&mut raw);
        let mut handle = encode(&raw);
        handle.truncate(HANDLE_CHARS);
        handle
    }

    /// A branch with the magic cookie and a [`loop hash`](LoopHash) (RFC 3261 §16.6 step 8).
    pub fn branch(&mut self, hash: LoopHash) -> String {
        let mut raw = [0; 16];
        // The first character, of five bits, is the shard; 59 random bits follow.
        let random = self.number() >> 5 | u64::from(self.shard) << 59;
        raw[..8].copy_from_slice(&random.to_be_bytes());
        raw[8..].copy_from_slice(&hash.0.to_be_bytes());
        let mut branch = String::with_capacity(40);
        branch.push_str(BRANCH);
        lower().encode_append(&raw, &mut branch);
        branch
    }
}

/// What every branch of ours starts with: the magic cookie and our own mark.
const BRANCH: &str = "z9hG4bKfe";

/// The shard that wrote a branch of ours; `None` for a branch of anybody else. Nobody is to trust it: it says where to
/// look for the request.
pub fn branch_shard(branch: &[u8]) -> Option<u8> {
    let (cookie, rest) = branch.split_at_checked(BRANCH.len())?;
    let shard = match rest.first()?.to_ascii_lowercase() {
        letter @ b'a'..=b'z' => letter - b'a',
        digit @ b'2'..=b'7' => digit - b'2' + 26,
        _ => return None,
    };
    cookie.eq_ignore_ascii_case(BRANCH.as_bytes()).then_some(shard)
}

/// A digest of all that decides where a request goes; equal on return means a loop (RFC 3261 §16.3 step 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopHash(u64);

impl LoopHash {
    /// Digests the fields; `None` is a field that the request does not have.
    pub fn new<'a>(fields: impl IntoIterator<Item = Option<&'a [u8]>>) -> Self {
        let mut hasher = DefaultHasher::new();
        for field in fields {
            match field {
                Some(field) => {
                    hasher.write_usize(field.len());
                    hasher.write(field);
                }
                None => hasher.write_u8(0xff),
            }
        }
        Self(hasher.finish())
    }

    /// A number below `n` that spreads different requests evenly.
    pub fn spread(self, n: u64) -> u64 {
        self.0 % n.max(1)
    }

    /// The hash in a branch that we wrote; `None` for a branch of anybody else.
    pub fn of_branch(branch: &[u8]) -> Option<Self> {
        let cookie = branch.get(..BRANCH.len())?;
        let raw = decode(branch.get(BRANCH.len()..)?)?;
        let hash: [u8; 8] = raw.get(8..)?.try_into().ok()?;
        cookie.eq_ignore_ascii_case(BRANCH.as_bytes()).then(|| Self(u64::from_be_bytes(hash)))
    }
}

#[cfg(test)]
mod tests;
