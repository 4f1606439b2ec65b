//! Values without parameters of interest: numbers, tokens, CSeq, media types, dates.

use super::{Fault, HeaderError, Params};
use crate::grammar::{is_lws, is_token, number, skip_lws, skip_token, trim};
use crate::message::{Method, Name};

/// `CSeq: 4711 INVITE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CSeqValue<'a> {
    /// The sequence number, below 2^31 (RFC 3261 §8.1.1.5).
    pub number: u32,
    /// The method.
    pub method: Method<'a>,
}

impl<'a> CSeqValue<'a> {
    #[inline]
    pub(super) fn parse(field: Name, value: &'a [u8]) -> Result<Self, HeaderError> {
        let value = trim(value);
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let at = skip_lws(value, digits);
        let number = number(&value[..digits])
            .filter(|n| *n < 1 << 31 && at > digits)
            .ok_or_else(|| HeaderError::new(field, 0, Fault::Number))?;
        let method = Method::parse(&value[at..]).ok_or_else(|| HeaderError::new(field, at, Fault::Token))?;
        Ok(Self { number, method })
    }
}

/// `RAck: 776656 1 INVITE` (RFC 3262 §7.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RAckValue<'a> {
    /// The RSeq of the provisional response.
    pub rseq: u32,
    /// Its CSeq.
    pub cseq: CSeqValue<'a>,
}

impl<'a> RAckValue<'a> {
    pub(super) fn parse(field: Name, value: &'a [u8]) -> Result<Self, HeaderError> {
        let value = trim(value);
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let at = skip_lws(value, digits);
        let rseq = number(&value[..digits])
            .filter(|_| at > digits)
            .ok_or_else(|| HeaderError::new(field, 0, Fault::Number))?;
        Ok(Self { rseq, cseq: CSeqValue::parse(field, &value[at..])? })
    }
}

/// `application/sdp;charset=utf-8`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediaType<'a> {
    /// `application`
    pub kind: &'a [u8],
    /// `sdp`
    pub subtype: &'a [u8],
    /// What follows.
    pub params: Params<'a>,
}

impl<'a> MediaType<'a> {
    pub(super) fn parse(field: Name, value: &'a [u8]) -> Result<Self, HeaderError> {
        let bad = |at| HeaderError::new(field, at, Fault::Token);
        let value = trim(value);
        let kind_end = skip_token(value, 0);
        let slash = skip_lws(value, kind_end);
        if kind_end == 0 || value.get(slash) != Some(&b'/') {
            return Err(bad(kind_end));
        }
        let start = skip_lws(value, slash + 1);
        let end = skip_token(value, start);
        if end == start {
            return Err(bad(start));
        }
        let params =
            Params::parse(&value[end..]).map_err(|at| HeaderError::new(field, end + at, Fault::Parameter))?;
        Ok(Self { kind: &value[..kind_end], subtype: &value[start..end], params })
    }

    /// Compares type and subtype, case-insensitively.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes())
            && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }
}

/// One word without white space (RFC 3261 §25.1 callid is `word [ "@" word ]`; no more is asked here).
#[inline]
pub(super) fn call_id(field: Name, value: &[u8]) -> Result<&[u8], HeaderError> {
    if value.is_empty() {
        return Err(HeaderError::new(field, 0, Fault::Empty));
    }
    match value.iter().position(|&b| is_lws(b)) {
        Some(at) => Err(HeaderError::new(field, at, Fault::Token)),
        None => Ok(value),
    }
}

#[inline]
pub(super) fn count(field: Name, value: &[u8]) -> Result<u32, HeaderError> {
    number(value).ok_or_else(|| HeaderError::new(field, 0, Fault::Number))
}

/// RFC 3261 §20.22: 0 to 255.
#[inline]
pub(super) fn max_forwards(field: Name, value: &[u8]) -> Result<u32, HeaderError> {
    number(value).filter(|n| *n <= 255).ok_or_else(|| HeaderError::new(field, 0, Fault::Number))
}

/// delta-seconds. A number above `u32::MAX` is read as that maximum (RFC 3261 §20.19: 0 to 2^32-1).
pub(super) fn seconds(field: Name, value: &[u8]) -> Result<u32, HeaderError> {
    if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
        return Ok(number(value).unwrap_or(u32::MAX));
    }
    Err(HeaderError::new(field, 0, Fault::Number))
}

pub(super) fn option_tag(field: Name, value: &[u8]) -> Result<&[u8], HeaderError> {
    let tag = trim(value);
    if is_token(tag) { Ok(tag) } else { Err(HeaderError::new(field, 0, Fault::Token)) }
}

/// SIP-date (RFC 3261 §25.1): `Sat, 13 Nov 2010 23:29:00 GMT`, and no other time zone.
pub(super) fn date(field: Name, value: &[u8]) -> Result<&[u8], HeaderError> {
    const PATTERN: &[u8; 29] = b"aaa, 00 aaa 0000 00:00:00 GMT";
    let value = trim(value);
    let fits = value.len() == PATTERN.len()
        && value.iter().zip(PATTERN).all(|(b, pattern)| match pattern {
            b'a' => b.is_ascii_alphabetic(),
            b'0' => b.is_ascii_digit(),
            literal => b == literal,
        });
    if fits { Ok(value) } else { Err(HeaderError::new(field, 0, Fault::Date)) }
}
