//! A URI: its parts put together again are the URI, hosts print as they read, and a URI stands in a name-addr.

use sip_core::header::{Contact, Header};
use sip_core::uri::{Host, Uri};

/// Reads `data` as a URI.
pub fn uri(data: &[u8]) {
    let Ok(uri) = Uri::parse(data) else { return };
    assert_eq!(uri.raw(), data);
    assert!(data.ends_with(uri.opaque()));
    assert!(!data.iter().any(|b| *b <= 0x20 || *b == 0x7f), "white space or control character");
    if !uri.is_sip() {
        return;
    }
    let mut text = data[..data.len() - uri.opaque().len()].to_vec();
    if let Some(user) = uri.user() {
        assert!(!user.is_empty());
        text.extend_from_slice(user);
        if let Some(password) = uri.password() {
            text.push(b':');
            text.extend_from_slice(password);
        }
        text.push(b'@');
    }
    let host = uri.host().expect("a SIP URI has a host");
    text.extend_from_slice(uri.host_bytes());
    let rest = data.get(text.len()..).expect("parts lie in the URI");
    if let Some(port) = uri.port() {
        let digits = rest.iter().skip(1).take_while(|b| b.is_ascii_digit()).count();
        let spelt = std::str::from_utf8(&rest[1..=digits]).expect("digits");
        assert_eq!(spelt.parse::<u32>().ok(), Some(u32::from(port)));
        text.extend_from_slice(&rest[..=digits]);
    }
    text.extend_from_slice(uri.params().as_bytes());
    if let Some(headers) = uri.headers() {
        text.push(b'?');
        text.extend_from_slice(headers);
    }
    assert_eq!(text, data, "the parts are the whole");
    same_host(host);
    // The planted bug: a port of 5061 that is forgotten when there is a password.
    #[cfg(feature = "planted")]
    assert!(!(uri.password().is_some() && uri.port() == Some(5061)));
    for (name, _) in uri.params().iter() {
        assert!(!name.is_empty());
        let name = std::str::from_utf8(name).unwrap_or("lr");
        assert!(uri.param(name).is_some() || name == "lr");
    }
    let value = [b"<", data, b">;expires=1"].concat();
    let contact = Contact::parse(&value).expect("a URI stands in a name-addr");
    assert_eq!((contact.uri_bytes(), contact.expires()), (data, Some(1)));
}

fn same_host(host: Host<'_>) {
    let text = host.to_string();
    assert_eq!(Host::parse(text.as_bytes()), Some(host));
}
