//! `Digest name=value, name="value"`: challenges and credentials (RFC 3261 §20.7, §20.27, §20.28, §20.44; RFC 7616 §3).

use std::borrow::Cow;
use std::fmt;

use super::{Fault, HeaderError, unquote};
use crate::grammar::{skip_lws, skip_quoted, skip_token, trim};
use crate::message::Name;

/// One challenge, or the credentials that answer one. One row holds one: the commas separate parameters
/// (RFC 3261 §7.3.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthValue<'a> {
    scheme: &'a [u8],
    params: &'a [u8],
}

impl<'a> AuthValue<'a> {
    pub(super) fn parse(field: Name, value: &'a [u8]) -> Result<Self, HeaderError> {
        let value = trim(value);
        let end = skip_token(value, 0);
        if end == 0 {
            return Err(HeaderError::new(
                field,
                0,
                if value.is_empty() { Fault::Empty } else { Fault::Token },
            ));
        }
        let (scheme, params) = value.split_at(end);
        let this = Self { scheme, params };
        // What is no list of parameters (`Bearer` and its token) is read no further.
        if this.is_digest() {
            let mut at = 0;
            while let Some(next) =
                next_param(params, at).map_err(|at| HeaderError::new(field, end + at, Fault::Parameter))?
            {
                at = next.end;
            }
        }
        Ok(this)
    }

    /// The scheme as it stands there.
    pub fn scheme(&self) -> &'a [u8] {
        self.scheme
    }

    /// Whether the scheme is Digest.
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"Digest")
    }

    /// Name and value of each parameter; a quoted value keeps its quotes.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let params = self.params;
        let mut at = 0;
        std::iter::from_fn(move || {
            let param = next_param(params, at).ok().flatten()?;
            at = param.end;
            Some((param.name, param.value))
        })
    }

    /// The text of a parameter, its quotes undone. Names are case-insensitive.
    pub fn text(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.raw(name).map(unquote)
    }

    /// A parameter as it stands there.
    pub fn raw(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Whether a parameter stands there twice.
    pub fn repeats(&self) -> bool {
        let mut seen: Vec<&[u8]> = Vec::new();
        self.iter().any(|(name, _)| {
            let again = seen.iter().any(|known| known.eq_ignore_ascii_case(name));
            seen.push(name);
            again || seen.len() > PARAMETERS
        })
    }
}

/// No challenge has more.
const PARAMETERS: usize = 32;

impl fmt::Debug for AuthValue<'_> {
    /// Names only: values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        f.debug_struct("AuthValue").field("params", &names.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

struct Param<'a> {
    name: &'a [u8],
    value: &'a [u8],
    end: usize,
}

/// The parameter at or behind `at`; `Err` carries the offset of what is none. Empty ones between commas are let pass.
fn next_param(params: &[u8], mut at: usize) -> Result<Option<Param<'_>>, usize> {
    loop {
        at = skip_lws(params, at);
        match params.get(at) {
            None => return Ok(None),
            Some(b',') => at += 1,
            Some(_) => break,
        }
    }
    let name_end = skip_token(params, at);
    let equals = skip_lws(params, name_end);
    if name_end == at || params.get(equals) != Some(&b'=') {
        return Err(at);
    }
    let start = skip_lws(params, equals + 1);
    let end = match params.get(start) {
        Some(b'"') => skip_quoted(params, start).ok_or(start)?,
        // Wider than a token: `uri=sip:a@b` without quotes is seen in the field.
        _ => {
            let rest = params.get(start..).unwrap_or_default();
            let length =
                rest.iter().take_while(|b| !matches!(b, b',' | b'"' | b' ' | b'\t' | b'\r' | b'\n')).count();
            start + length
        }
    };
    let next = skip_lws(params, end);
    if end == start || !matches!(params.get(next), None | Some(b',')) {
        return Err(start);
    }
    let name = params.get(at..name_end).unwrap_or_default();
    let value = params.get(start..end).unwrap_or_default();
    Ok(Some(Param { name, value, end: next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<AuthValue<'_>, HeaderError> {
        AuthValue::parse(Name::Authorization, text.as_bytes())
    }

    #[test]
    fn parameters_are_found_whatever_stands_between_them() {
        let value = parsed(
            "digest realm=\"a, \\\"b\\\"\" ,\r\n NONCE = \"n\",, uri=sip:a@b;x=y, qop=auth ,nc=00000001,",
        )
        .unwrap();
        assert!(value.is_digest());
        assert_eq!(value.text("Realm").as_deref(), Some(&b"a, \"b\""[..]));
        assert_eq!(value.text("nonce").as_deref(), Some(&b"n"[..]));
        assert_eq!(value.raw("uri"), Some(&b"sip:a@b;x=y"[..]));
        assert_eq!(value.iter().count(), 5);
        assert!(!value.repeats() && parsed("Digest a=1, A=2").unwrap().repeats());
        assert_eq!(parsed("Bearer eyJ.x/==").unwrap().scheme(), b"Bearer");
        assert!(parsed("Digest").unwrap().iter().next().is_none());
    }

    #[test]
    fn what_is_no_parameter_is_an_error_at_its_offset() {
        for (text, offset) in [
            ("", 0),
            ("\"x\"", 0),
            ("Digest realm", 7),
            ("Digest a=\"b", 9),
            ("Digest a=1 b=2", 9),
            ("Digest =1", 7),
            ("Digest a=,", 9),
        ] {
            assert_eq!(parsed(text).map(|_| ()).unwrap_err().offset, offset, "{text}");
        }
    }

    #[test]
    fn values_do_not_show() {
        let shown = format!("{:?}", parsed("Digest response=\"0123456789abcdef\"").unwrap());
        assert!(shown.contains("response") && !shown.contains("0123"), "{shown}");
    }
}
