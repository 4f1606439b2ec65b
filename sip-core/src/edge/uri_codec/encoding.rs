//! The forms of a phone's address towards the PBX (`sip.uri_encoding`). Every form is authenticated, and the same phone
//! has the same address in a refresh, a de-registration and after it came back from elsewhere. The setting is read when an
//! address is written; addresses in every form are understood at any time, so that a change of form leaves running
//! registrations and calls alone. The PBX then keeps two Contacts of a phone until the older one expires there.
//!
//! | form | address | what authenticates it |
//! |---|---|---|
//! | always encrypt | `e1.SEALED@us` | the seal, over the binding's name and the user |
//! | shorter | `s1.HANDLE@us` | 110 random bits, kept with the binding |
//! | escape | `user%40host%3Aport@us;crt=TOKEN` | the token |
//! | keep username | `user@us;crt=TOKEN` | the token |
//! | GRUU | `user@us;gr=TOKEN` | the token |

use super::unescape;
use crate::edge::interop::UriEncoding;
use crate::token::{HANDLE_CHARS, InstanceId};

/// Before the sealed user part of *always encrypt*.
pub(in crate::edge) const SEALED: &[u8] = b"e1.";
/// Before the handle of *shorter*.
pub(in crate::edge) const HANDLE: &[u8] = b"s1.";

impl UriEncoding {
    /// Whether a phone without a tag gets a token too. In *keep username* only its user tells it apart.
    pub(in crate::edge) fn names_everybody(self) -> bool {
        matches!(self, Self::Escape | Self::Gruu)
    }
}

/// What a user part says about the phone it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Form<'a> {
    /// *Always encrypt*: the sealed text.
    Sealed(&'a [u8]),
    /// *Shorter*: the handle.
    Handle(&'a [u8]),
    /// Nothing; a token may stand in a parameter.
    Plain,
}

impl<'a> Form<'a> {
    /// Peers may change the case of a user part, wrongly (RFC 3261 §19.1.4); ours survives that.
    pub(in crate::edge) fn of(user: Option<&'a [u8]>) -> Self {
        let Some((mark, rest)) = user.and_then(|user| user.split_at_checked(SEALED.len())) else {
            return Self::Plain;
        };
        match () {
            () if mark.eq_ignore_ascii_case(SEALED) => Self::Sealed(rest),
            () if mark.eq_ignore_ascii_case(HANDLE) && rest.len() == HANDLE_CHARS => Self::Handle(rest),
            () => Self::Plain,
        }
    }
}

/// What *always encrypt* seals: the binding's name, and the user if there is one.
pub(in crate::edge) fn sealed_name(id: InstanceId, user: Option<&[u8]>) -> Vec<u8> {
    let mut text = id.0.to_be_bytes().to_vec();
    if let Some(user) = user {
        text.push(b'@');
        text.extend_from_slice(user);
    }
    text
}

/// See [`sealed_name`].
pub(in crate::edge) fn unsealed_name(text: &[u8]) -> Option<(InstanceId, Option<&[u8]>)> {
    let (id, user) = text.split_first_chunk::<8>()?;
    let user = match user {
        [] => None,
        [b'@', user @ ..] => Some(user),
        _ => return None,
    };
    Some((InstanceId(u64::from_be_bytes(*id)), user))
}

/// A user without escapes as it stands in a URI.
pub(in crate::edge) fn escape_user(user: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(user.len());
    for byte in user.bytes() {
        // RFC 3261 §25.1: unreserved and user-unreserved, but for `;` and `?`, at which some readers stumble.
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,/".contains(&byte) {
            text.push(byte);
        } else {
            text.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    text
}

/// `user%40host%3Aport`; without a user, `host%3Aport`.
pub(in crate::edge) fn escaped(user: Option<&[u8]>, origin: &str) -> Vec<u8> {
    let mut text = user.unwrap_or_default().to_vec();
    text.extend_from_slice(&suffix(user.is_some(), origin));
    text
}

/// The user of an escaped address with this origin; `Err` when it is none, as when the PBX put another user in its place.
pub(in crate::edge) fn unescaped<'a>(user: &'a [u8], origin: &str) -> Result<Option<&'a [u8]>, ()> {
    if user.eq_ignore_ascii_case(&suffix(false, origin)) {
        return Ok(None);
    }
    let end = suffix(true, origin);
    let (start, rest) = user.split_at_checked(user.len().wrapping_sub(end.len())).ok_or(())?;
    if rest.eq_ignore_ascii_case(&end) && !start.is_empty() { Ok(Some(start)) } else { Err(()) }
}

fn suffix(at: bool, origin: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(origin.len() + 8);
    if at {
        text.extend_from_slice(b"%40");
    }
    for byte in origin.bytes() {
        // RFC 3261 §25.1, user = 1*( unreserved / escaped / user-unreserved ): of what a host and port are made of,
        // colons and brackets must be escaped.
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            text.push(byte);
        } else {
            text.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    text
}

/// Whether two user parts of addresses that we wrote are the same: escapes and, in our own forms, case don't count.
pub(in crate::edge) fn same_user(one: &[u8], other: &[u8]) -> bool {
    if Form::of(Some(one)) != Form::Plain {
        return one.eq_ignore_ascii_case(other);
    }
    one == other || unescape(one).is_some_and(|one| unescape(other).as_ref() == Some(&one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_address_is_read_back() {
        for (user, origin, text) in [
            (Some(&b"anonymous"[..]), "192.168.1.7:5061", "anonymous%40192.168.1.7%3A5061"),
            (Some(b"a%40b"), "[2001:db8::1]", "a%40b%40%5B2001%3Adb8%3A%3A1%5D"),
            (None, "192.168.1.7", "192.168.1.7"),
        ] {
            assert_eq!(escaped(user, origin), text.as_bytes());
            assert_eq!(unescaped(text.as_bytes(), origin), Ok(user));
            assert!(unescaped(text.to_uppercase().as_bytes(), origin).is_ok());
        }
        for other in ["117", "", "%40192.168.1.7", "anonymous%40192.168.1.8"] {
            assert_eq!(unescaped(other.as_bytes(), "192.168.1.7"), Err(()), "{other}");
        }
    }

    #[test]
    fn a_user_part_says_its_form() {
        assert_eq!(Form::of(Some(b"E1.abc")), Form::Sealed(b"abc"));
        assert_eq!(Form::of(Some(b"s1.aaaaaaaaaaaaaaaaaaaaaa")), Form::Handle(b"aaaaaaaaaaaaaaaaaaaaaa"));
        for plain in [None, Some(&b"e1"[..]), Some(b""), Some(b"anonymous"), Some(b"s1.short")] {
            assert_eq!(Form::of(plain), Form::Plain);
        }
    }

    #[test]
    fn a_sealed_name_is_read_back() {
        for user in [None, Some(&b"anonymous"[..]), Some(b"a%40b")] {
            assert_eq!(unsealed_name(&sealed_name(InstanceId(7), user)), Some((InstanceId(7), user)));
        }
        assert_eq!(unsealed_name(b"1234567"), None);
        assert_eq!(unsealed_name(b"12345678x"), None);
    }

    #[test]
    fn users_are_the_same_in_other_spellings() {
        assert!(same_user(b"%61lice", b"alice"));
        assert!(!same_user(b"Alice", b"alice"));
        assert!(same_user(b"e1.abc", b"E1.ABC"));
        assert!(!same_user(b"e1.abc", b"e1.abd"));
    }
}
