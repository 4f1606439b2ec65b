//! Byte classes and the few scanning steps that URIs, header values and messages share.

const TOKEN: u8 = 1;
const URI: u8 = 2;
const VALUE: u8 = 4;
const PLAIN_URI: u8 = 8;

/// Class bits of every byte.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut b = 0usize;
    while b < 256 {
        let c = b as u8;
        // RFC 3261 §25.1 token
        if c.is_ascii_alphanumeric()
            || matches!(c, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
        {
            table[b] |= TOKEN;
        }
        // What may stand in a URI: no white space, no control, none of the delimiters of RFC 3986. Bytes above
        // 0x7f are no URI characters, but they are seen in user parts and do no harm.
        if c > 0x20 && c != 0x7f && !matches!(c, b'"' | b'<' | b'>') {
            table[b] |= URI;
        }
        // A parameter value that is not quoted: wider than `token`, for `host` (colons, brackets) and for
        // `+sip.instance=<urn:...>` without its quotes, which is seen in the field.
        if c > 0x20 && c != 0x7f && !matches!(c, b'"' | b';' | b',') {
            table[b] |= VALUE;
        }
        // None of the delimiters of a SIP URI.
        if table[b] & URI != 0 && !matches!(c, b'@' | b':' | b';' | b'?') {
            table[b] |= PLAIN_URI;
        }
        b += 1;
    }
    table
}

#[inline(always)]
pub(crate) fn is_token_byte(b: u8) -> bool {
    CLASS[b as usize] & TOKEN != 0
}

#[inline(always)]
pub(crate) fn is_uri_byte(b: u8) -> bool {
    CLASS[b as usize] & URI != 0
}

/// What may stand in a URI and delimits nothing in it.
#[inline(always)]
pub(crate) fn is_plain_uri_byte(b: u8) -> bool {
    CLASS[b as usize] & PLAIN_URI != 0
}

#[inline(always)]
fn is_value_byte(b: u8) -> bool {
    CLASS[b as usize] & VALUE != 0
}

/// White space inside a row: SP, HT, and the CR LF of a fold (RFC 3261 §7.3.1: a fold is one space).
#[inline(always)]
pub(crate) fn is_lws(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

/// `bytes` without white space at both ends.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_lws(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_lws(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Index of the first byte at or after `at` that is no white space.
#[inline(always)]
pub(crate) fn skip_lws(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_lws(bytes[at]) {
        at += 1;
    }
    at
}

#[inline(always)]
pub(crate) fn skip_token(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !is_token_byte(*b)).unwrap_or(rest.len())
}

#[inline(always)]
pub(crate) fn skip_uri(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !is_uri_byte(*b)).unwrap_or(rest.len())
}

#[inline(always)]
pub(crate) fn skip_value(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !is_value_byte(*b)).unwrap_or(rest.len())
}

/// `at` points at the opening quote; the index behind the closing one, or `None` when it never closes
/// (RFC 3261 §25.1 quoted-string, with quoted pairs).
pub(crate) fn skip_quoted(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    loop {
        let rest = bytes.get(i..)?;
        let hit = memchr::memchr2(b'"', b'\\', rest)?;
        match rest[hit] {
            b'"' => return Some(i + hit + 1),
            _ => i += hit + 2,
        }
    }
}

/// Splits the first element off a comma-separated value: commas inside quotes and angle brackets do not count.
pub(crate) fn split_comma(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut at = 0;
    while let Some(rest) = value.get(at..) {
        let Some(hit) = memchr::memchr3(b',', b'"', b'<', rest) else { break };
        let here = at + hit;
        match value[here] {
            b',' => return (&value[..here], Some(&value[here + 1..])),
            b'"' => match skip_quoted(value, here) {
                Some(end) => at = end,
                None => break,
            },
            _ => match memchr::memchr(b'>', &value[here..]) {
                Some(end) => at = here + end + 1,
                None => break,
            },
        }
    }
    (value, None)
}

/// A number of digits only: no sign, no white space, no list. `None` when empty, not digits, or above `u32::MAX`.
#[inline]
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() {
        return None;
    }
    let mut n: u32 = 0;
    for &b in bytes {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n = n.checked_mul(10)?.checked_add(u32::from(digit))?;
    }
    Some(n)
}

/// Decimal digits of `n`, appended.
pub(crate) fn push_number(out: &mut Vec<u8>, n: u32) {
    let mut digits = [0u8; 10];
    let mut at = digits.len();
    let mut rest = n;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// An IPv4 address as it is spelt, appended.
pub(crate) fn push_ipv4(out: &mut Vec<u8>, address: std::net::Ipv4Addr) {
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        push_number(out, u32::from(octet));
    }
}

/// Where the line feeds stand. A search for each costs as much as some thirty octets: nothing for usual lines, and more than
/// all the rest for thousands of short ones, which are looked for within a few octets first.
pub(crate) struct LineFeeds<'a> {
    bytes: &'a [u8],
    /// The search, which began at `base`.
    search: memchr::Memchr<'a>,
    base: usize,
    next: usize,
    /// The last line was a short one.
    dense: bool,
    /// The search is behind.
    behind: bool,
}

impl<'a> LineFeeds<'a> {
    #[inline(always)]
    pub(crate) fn new(bytes: &'a [u8], from: usize) -> Self {
        let search = memchr::memchr_iter(b'\n', bytes.get(from..).unwrap_or_default());
        Self { bytes, search, base: from, next: from, dense: false, behind: false }
    }

    /// The next one, if it stands within sixteen octets.
    #[inline]
    fn near(&self) -> Option<usize> {
        const ONES: u64 = u64::from_le_bytes([1; 8]);
        const FEEDS: u64 = u64::from_le_bytes([b'\n'; 8]);
        let (words, _) = self.bytes.get(self.next..)?.first_chunk::<16>()?.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            let zero_at_feed = u64::from_le_bytes(*word) ^ FEEDS;
            // The lowest marked byte is the first that is zero; marks above it may be wrong.
            let marks = zero_at_feed.wrapping_sub(ONES) & !zero_at_feed & (ONES << 7);
            if marks != 0 {
                return Some(self.next + index * 8 + (marks.trailing_zeros() / 8) as usize);
            }
        }
        None
    }
}

impl Iterator for LineFeeds<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.dense {
            if let Some(hit) = self.near() {
                (self.next, self.behind) = (hit + 1, true);
                return Some(hit);
            }
            if self.behind {
                *self = Self::new(self.bytes, self.next);
            }
        }
        let hit = self.base + self.search.next()?;
        self.dense = hit - self.next < 12;
        self.next = hit + 1;
        Some(hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_feeds_are_where_memchr_finds_them() {
        let mut state = 1_u32;
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    [b'\n', b'\r', 0x0b, 0x8a, 0, b'a', 0xff, b'\n'][(state >> 29) as usize]
                })
                .collect();
            for from in [0, length / 3, length] {
                let expected: Vec<usize> =
                    memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).collect();
                assert_eq!(LineFeeds::new(&bytes, from).collect::<Vec<_>>(), expected, "{bytes:?}");
            }
        }
    }
}
