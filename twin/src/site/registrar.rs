//! The location table that the three switches share: a binding per Contact URI and instance.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::mac::Mac;
use crate::text::{Message, address, host_port, parameter, user};
use crate::wire::Wire;

/// One binding.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Index of the switch that took the registration.
    pub switch: usize,
    /// User of the address-of-record: `anonymous` for phones.
    pub aor: String,
    /// Contact URI as registered.
    pub uri: String,
    /// `+sip.instance` without quotes; empty when none was given.
    pub instance: String,
    /// The MAC in the instance.
    pub mac: Option<Mac>,
    /// When it ends.
    pub until: Instant,
    /// The connection the registration came on.
    pub wire: Wire,
}

/// How a request of a switch was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The phone it was meant for.
    pub mac: Option<Mac>,
    /// The event of a NOTIFY.
    pub event: String,
    /// Status and reason phrase, or why there is none.
    pub verdict: String,
}

impl Delivery {
    /// A 2xx came back.
    pub fn arrived(&self) -> bool {
        self.verdict.starts_with('2')
    }
}

/// What the site knows.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// Live bindings, oldest first.
    pub bindings: Vec<Binding>,
    /// Extension → phone, as assigned by the CAS.
    pub extensions: HashMap<String, Mac>,
    /// The NOTIFYs sent and how they ended, in the order they ended.
    pub deliveries: Vec<Delivery>,
}

impl Records {
    /// Applies a REGISTER (RFC 3261 §10.3) and returns the Contact rows of the 200 and the bindings it set.
    pub fn register(
        &mut self,
        now: Instant,
        switch: usize,
        request: &Message,
        wire: &Wire,
    ) -> (String, Vec<Binding>) {
        let aor = user(address(request.text("To"))).to_owned();
        self.bindings.retain(|binding| binding.until > now);
        let general = request.header("Expires").and_then(|text| text.parse::<u32>().ok());
        let mut set = Vec::new();
        for contact in request.values("Contact") {
            if contact == "*" {
                // RFC 3261 §10.3 step 6: every binding of the address-of-record; why a gateway must narrow it.
                self.bindings.retain(|binding| binding.aor != aor);
                continue;
            }
            let expires = parameter(contact, "expires").and_then(|text| text.parse().ok());
            let expires = expires.or(general).unwrap_or(3600).min(86_400);
            let uri = address(contact).to_owned();
            let instance = parameter(contact, "+sip.instance").unwrap_or("").to_owned();
            let same = |b: &Binding| b.aor == aor && b.instance == instance && same_uri(&b.uri, &uri);
            self.bindings.retain(|binding| !same(binding));
            if expires > 0 {
                let binding = Binding {
                    switch,
                    aor: aor.clone(),
                    mac: Mac::from_instance(&instance),
                    uri,
                    instance,
                    until: now + Duration::from_secs(expires.into()),
                    wire: wire.clone(),
                };
                self.bindings.push(binding.clone());
                set.push(binding);
            }
        }
        (self.contacts(now, &aor), set)
    }

    /// The binding an extension rings at: the phone it is assigned to, else whoever registered that user.
    pub fn find(&self, extension: &str) -> Option<&Binding> {
        match self.extensions.get(extension) {
            Some(mac) => self.phone(*mac),
            None => self.bindings.iter().rev().find(|b| b.aor == extension && b.aor != "anonymous"),
        }
    }

    /// The newest binding of a phone.
    pub fn phone(&self, mac: Mac) -> Option<&Binding> {
        self.bindings.iter().rev().find(|binding| binding.mac == Some(mac))
    }

    /// Contact rows for all bindings of an address-of-record: RFC 3261 §10.3 step 8 wants every one.
    fn contacts(&self, now: Instant, aor: &str) -> String {
        let mut rows = String::new();
        for binding in self.bindings.iter().filter(|binding| binding.aor == aor) {
            let left = binding.until.saturating_duration_since(now).as_secs();
            let instance = match binding.instance.as_str() {
                "" => String::new(),
                instance => format!(";+sip.instance=\"{instance}\""),
            };
            rows.push_str(&format!("Contact: <{}>{instance};expires={left}\r\n", binding.uri));
        }
        rows
    }
}

/// RFC 3261 §19.1.4, as far as phones' Contacts need it: user as written, host without case; a parameter in both
/// must agree; `user`, `ttl`, `method`, `maddr` and `transport` must not stand in one alone.
fn same_uri(a: &str, b: &str) -> bool {
    let parameters = |uri: &str| -> HashMap<String, String> {
        uri.split(';')
            .skip(1)
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_ascii_lowercase()))
            .collect()
    };
    let (of_a, of_b) = (parameters(a), parameters(b));
    let agree = of_a.iter().all(|(name, value)| match of_b.get(name) {
        Some(other) => other == value,
        None => !LONELY.contains(&name.as_str()),
    });
    let scheme = |uri: &str| uri.split(':').next().map(str::to_ascii_lowercase);
    agree
        && !of_b.keys().any(|name| !of_a.contains_key(name) && LONELY.contains(&name.as_str()))
        && scheme(a) == scheme(b)
        && user(a) == user(b)
        && host_port(a).eq_ignore_ascii_case(host_port(b))
}

const LONELY: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn uris_compare_as_the_rfc_says() {
        assert!(same_uri("sips:anonymous@H:1;crt=AbC", "sips:anonymous@h:1;crt=abc"));
        assert!(same_uri("sips:a@h;x=1", "sips:a@h"));
        for (a, b) in [
            ("sips:a@h;crt=1", "sips:a@h;crt=2"),
            ("sips:a@h", "sip:a@h"),
            ("sips:a@h", "sips:A@h"),
            ("sips:a@h:1", "sips:a@h"),
            ("sips:a@h;transport=tls", "sips:a@h"),
        ] {
            assert!(!same_uri(a, b) && !same_uri(b, a), "{a} {b}");
        }
    }

    fn register(contact: &str) -> Message {
        Message {
            start: "REGISTER sips:x SIP/2.0".to_owned(),
            headers: vec![
                ("To".to_owned(), "<sips:anonymous@x>".to_owned()),
                ("Contact".to_owned(), contact.to_owned()),
            ],
            body: Vec::new(),
        }
    }

    #[tokio::test]
    async fn keeps_a_binding_per_uri_and_instance() {
        let (stream, _other) = tokio::io::duplex(64);
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let wire = Wire::start(stream, nowhere, nowhere, mpsc::channel(1).0);
        let (mut records, now) = (Records::default(), Instant::now());
        let contact = |crt: &str, mac: &str, expires: u32| {
            register(&format!(
                "<sips:anonymous@gw;crt={crt}>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{mac}>\";\
                 expires={expires}"
            ))
        };
        let one = contact("a", "08000F000001", 3600);
        assert_eq!(records.register(now, 0, &one, &wire).1.len(), 1);
        let (rows, _) = records.register(now, 1, &contact("b", "08000F000002", 3600), &wire);
        assert_eq!(rows.matches("Contact: ").count(), 2, "{rows}");
        // A refresh at another switch moves the binding and makes no second one.
        records.register(now, 2, &one, &wire);
        assert_eq!(records.bindings.len(), 2);
        assert_eq!(records.phone(Mac([8, 0, 15, 0, 0, 1])).map(|b| b.switch), Some(2));
        records.extensions.insert("101".to_owned(), Mac([8, 0, 15, 0, 0, 2]));
        assert_eq!(records.find("101").map(|b| b.uri.as_str()), Some("sips:anonymous@gw;crt=b"));
        assert!(records.find("102").is_none() && records.find("anonymous").is_none());
        records.register(now, 0, &contact("a", "08000F000001", 0), &wire);
        assert_eq!(records.bindings.len(), 1);
        let later = now + Duration::from_secs(3601);
        assert_eq!(records.register(later, 0, &register("*"), &wire).0, "");
        assert!(records.bindings.is_empty());
    }
}
