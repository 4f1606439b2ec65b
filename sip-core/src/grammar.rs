//! Byte classes and the few scanning steps that URIs, header values and messages share.

const TOKEN: u8 = 1;
const URI: u8 = 2;
const VALUE: u8 = 4;

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
pub(crate) fn skip_token(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_token_byte(bytes[at]) {
        at += 1;
    }
    at
}

#[inline(always)]
pub(crate) fn skip_uri(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_uri_byte(bytes[at]) {
        at += 1;
    }
    at
}

#[inline(always)]
pub(crate) fn skip_value(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_value_byte(bytes[at]) {
        at += 1;
    }
    at
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
