//! Where an ACME service is, and who we are to it: the settings that a person writes, made right or refused.

use std::fmt;
use std::net::Ipv6Addr;

use crate::request::is_name;

/// Where an ACME service has its directory: always `https`.
#[derive(Clone, PartialEq, Eq)]
pub struct Directory(String);

/// Why a host and path are no directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Clear HTTP.
    #[error("an ACME service is never asked over clear HTTP (\"{0}\")")]
    ClearText(String),
    /// Not a host or URL.
    #[error("\"{0}\" is not a host, host:port, or https URL")]
    Invalid(String),
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Directory {
    /// From a host (`acme.example`, `127.0.0.1:14000`) and a path (`directory`, `/dir`). Either may also be the whole `https://` URL.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn new(host: &str, path: &str) -> Result<Self, DirectoryError> {
        let given = if path.contains("://") { path } else { host };
        let url = match given.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => {
                return Err(DirectoryError::ClearText(given.to_owned()));
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
                let has_path = rest.split_once('/').is_some_and(|(_, path)| !path.is_empty());
                if has_path || path.contains("://") {
                    format!("https://{rest}")
                } else {
                    format!("https://{}/{}", rest.trim_end_matches('/'), path.trim_start_matches('/'))
                }
            }
            Some(_) => return Err(DirectoryError::Invalid(given.to_owned())),
            None => format!("https://{host}/{}", path.trim_start_matches('/')),
        };
        let rest = url.strip_prefix("https://").unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let clean = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}#".contains(c);
        if !is_host_and_port(authority) || !path.chars().all(clean) {
            return Err(DirectoryError::Invalid(url));
        }
        Ok(Self(url))
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.0
    }
}

fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => (None, port),
        Some(_) => return false,
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            (Some(host), port)
        }
    };
    let good_port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port != 0)
        }
        None => port.is_empty(),
    };
    good_port && host.is_none_or(|host| is_name(host) && !host.starts_with('*'))
}

/// Not a mail address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a contact; write \"mailto:name@example.com\"")]
pub struct BadContact(pub String);

/// A contact of an account as a `mailto:` URL; a bare address gets the prefix.
///
/// # Errors
/// [`BadContact`].
pub fn contact(text: &str) -> Result<String, BadContact> {
    let address = text.trim();
    let address = address.strip_prefix("mailto:").unwrap_or(address);
    let clean = |part: &str| {
        !part.is_empty()
            && !part.contains(|c: char| c.is_whitespace() || c.is_control() || ",?<>@".contains(c))
    };
    match address.split_once('@') {
        Some((name, host)) if clean(name) && clean(host) && host.contains('.') => {
            Ok(format!("mailto:{address}"))
        }
        _ => Err(BadContact(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_normalised_and_never_clear() {
        let cases = [
            ("acme.example", "directory", "https://acme.example/directory"),
            ("acme.example", "/directory", "https://acme.example/directory"),
            ("127.0.0.1:14000", "dir", "https://127.0.0.1:14000/dir"),
            ("[::1]:14000", "dir", "https://[::1]:14000/dir"),
            ("https://acme.example/", "directory", "https://acme.example/directory"),
            ("https://acme.example/acme/dir", "", "https://acme.example/acme/dir"),
            ("acme.example", "https://acme.example/dir", "https://acme.example/dir"),
        ];
        for (host, path, url) in cases {
            assert_eq!(Directory::new(host, path).unwrap().url(), url);
        }
        assert!(matches!(Directory::new("http://acme.example", "d"), Err(DirectoryError::ClearText(_))));
        for bad in [
            "",
            "a b",
            "user@acme.example",
            "ftp://acme.example",
            "acme.example:99999999",
            "acme.example:0",
            "acme.example:",
            "[::1",
            "[x]:1",
            "*.example",
        ] {
            assert!(Directory::new(bad, "d").is_err(), "{bad}");
        }
    }

    #[test]
    fn contacts_are_prefixed_or_refused() {
        assert_eq!(contact("mailto:a@b.example").unwrap(), "mailto:a@b.example");
        assert_eq!(contact(" a@b.example ").unwrap(), "mailto:a@b.example");
        for bad in ["", "a", "a@b", "tel:+1", "a@b.example,c@d.example", "a@b@c.example", "a b@c.example"] {
            assert_eq!(contact(bad), Err(BadContact(bad.to_owned())));
        }
    }
}
