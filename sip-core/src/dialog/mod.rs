//! Dialogs: what two user agents remember of each other between requests (RFC 3261 §12), and reliable provisional
//! responses (RFC 3262), sans-I/O and without timers.
//!
//! A [`Dialog`] is made from an INVITE (or SUBSCRIBE, REFER) and a response to it, by whichever side. It judges the requests
//! that arrive in it and says what those that we send must carry. [`Received`] and [`Sent`] keep the order of reliable
//! provisional responses.

mod reliable;
#[cfg(test)]
mod tests;

pub use reliable::{Acknowledged, Received, Sent};

use crate::header::{Address, CSeq, CallId, Contact, From, Header, RecordRoute, To};
use crate::message::{Message, Method, Name};
use crate::uri::Uri;

/// What tells a dialog from all others (RFC 3261 §12): equal on both sides but for which tag is whose.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Id {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// The tag that we gave.
    pub local_tag: Vec<u8>,
    /// The tag that the other gave; empty for a peer of RFC 2543 (§12.1.1).
    pub remote_tag: Vec<u8>,
}

impl Id {
    /// The dialog that a request from the other side names; `None` if its To has no tag, so that it names none.
    pub fn of_request(request: &Message) -> Option<Self> {
        Some(Self {
            call_id: request.header::<CallId>()?.ok()?.to_vec(),
            local_tag: request.header::<To>()?.ok()?.tag()?.to_vec(),
            remote_tag: request.header::<From>()?.ok()?.tag().unwrap_or_default().to_vec(),
        })
    }

    /// The dialog that a response to a request of ours names.
    pub fn of_response(response: &Message) -> Option<Self> {
        Some(Self {
            call_id: response.header::<CallId>()?.ok()?.to_vec(),
            local_tag: response.header::<From>()?.ok()?.tag()?.to_vec(),
            remote_tag: response.header::<To>()?.ok()?.tag().unwrap_or_default().to_vec(),
        })
    }
}

/// Why two messages make no dialog, or a request does not fit into one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// A field that a dialog is made of is missing or can't be read.
    #[error("{0} is missing or malformed")]
    Field(Name),
    /// The CSeq is lower than one that came before: answer 500 (RFC 3261 §12.2.2).
    #[error("CSeq out of order")]
    OutOfOrder,
}

/// One dialog, seen from one of its two sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dialog {
    id: Id,
    /// Our From in requests, and the other's To, tag and all.
    local: Vec<u8>,
    remote: Vec<u8>,
    remote_target: Vec<u8>,
    route_set: Vec<Vec<u8>>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    confirmed: bool,
}

/// What a request within a dialog must carry (RFC 3261 §12.2.1.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Request-URI.
    pub uri: Vec<u8>,
    /// Route values.
    pub routes: Vec<Vec<u8>>,
    /// From with our tag.
    pub from: Vec<u8>,
    /// To with the other's tag.
    pub to: Vec<u8>,
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// CSeq number.
    pub cseq: u32,
}

impl Dialog {
    /// The caller's side: what we sent, and a response of 101 to 299 with a To tag and a Contact (RFC 3261 §12.1.2).
    ///
    /// # Errors
    /// [`Misfit::Field`].
    pub fn of_response(request: &Message, response: &Message) -> Result<Self, Misfit> {
        let id = Id::of_response(response).ok_or(Misfit::Field(Name::To))?;
        // "The route set MUST be set to the list of URIs in the Record-Route header field from the response, taken in
        // reverse order" (RFC 3261 §12.1.2).
        let mut route_set = routes(response)?;
        route_set.reverse();
        Ok(Self {
            id,
            local: raw(request, Name::From)?,
            remote: raw(response, Name::To)?,
            remote_target: contact(response).ok_or(Misfit::Field(Name::Contact))?,
            route_set,
            local_cseq: cseq(request)?,
            remote_cseq: None,
            confirmed: response.status().is_some_and(|status| status >= 200),
        })
    }

    /// The callee's side: a request, and the To tag that we answer with (RFC 3261 §12.1.1). Early until
    /// [`confirm`](Self::confirm).
    ///
    /// # Errors
    /// [`Misfit::Field`].
    pub fn of_request(request: &Message, local_tag: &str) -> Result<Self, Misfit> {
        let from = address::<From>(request)?;
        let id = Id {
            call_id: request
                .header::<CallId>()
                .and_then(Result::ok)
                .ok_or(Misfit::Field(Name::CallId))?
                .to_vec(),
            local_tag: local_tag.as_bytes().to_vec(),
            remote_tag: from.tag().unwrap_or_default().to_vec(),
        };
        let to = raw(request, Name::To)?;
        Ok(Self {
            id,
            local: [&to[..], b";tag=", local_tag.as_bytes()].concat(),
            remote: from.raw().to_vec(),
            remote_target: contact(request).ok_or(Misfit::Field(Name::Contact))?,
            route_set: routes(request)?,
            local_cseq: 0,
            remote_cseq: Some(cseq(request)?),
            confirmed: false,
        })
    }

    /// What tells it from others.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Whether a 2xx has made it a confirmed dialog; until then it is early.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// The callee has sent its 2xx.
    pub fn confirm(&mut self) {
        self.confirmed = true;
    }

    /// The caller has got a 2xx: the dialog is confirmed, its route set is the one of the 2xx (RFC 3261 §13.2.2.4) and its
    /// remote target the Contact.
    ///
    /// # Errors
    /// [`Misfit::Field`]: the 2xx can't be read; the dialog stays as it was.
    pub fn confirm_by(&mut self, response: &Message) -> Result<(), Misfit> {
        if !self.confirmed {
            let mut route_set = routes(response)?;
            route_set.reverse();
            self.route_set = route_set;
        }
        self.confirmed = true;
        self.refresh_target(response);
        Ok(())
    }

    /// The remote target, as it stands in the other's Contact.
    pub fn remote_target(&self) -> &[u8] {
        &self.remote_target
    }

    /// Takes the Contact of a target refresh request (INVITE, UPDATE) that was accepted, or of the 2xx to one
    /// (RFC 3261 §12.2.1.2, §12.2.2).
    pub fn refresh_target(&mut self, message: &Message) {
        if let Some(target) = contact(message) {
            self.remote_target = target;
        }
    }

    /// The URI that a request within the dialog goes to first: the topmost route, else the remote target.
    pub fn next_hop(&self) -> &[u8] {
        match self.route_set.first() {
            Some(route) => Address::parse(Name::Route, route).map_or(&self.remote_target, |a| a.uri_bytes()),
            None => &self.remote_target,
        }
    }

    /// Judges the CSeq of a request of the other side that is neither ACK nor CANCEL.
    ///
    /// # Errors
    /// [`Misfit::OutOfOrder`] and [`Misfit::Field`].
    pub fn check(&mut self, request: &Message) -> Result<(), Misfit> {
        let number = cseq(request)?;
        // "If the remote sequence number was not empty, but the sequence number of the request is lower than the remote
        // sequence number, the request is out of order" (RFC 3261 §12.2.2).
        if self.remote_cseq.is_some_and(|last| number < last) {
            return Err(Misfit::OutOfOrder);
        }
        self.remote_cseq = Some(number);
        Ok(())
    }

    /// The head of our next request of any method but ACK and CANCEL: it takes the next CSeq.
    pub fn advance(&mut self) -> Head {
        self.local_cseq = (self.local_cseq + 1) & 0x7fff_ffff;
        self.head(self.local_cseq)
    }

    /// The head of the ACK to a 2xx: it has the CSeq of its INVITE (RFC 3261 §13.2.2.4).
    pub fn ack(&self, invite_cseq: u32) -> Head {
        self.head(invite_cseq)
    }

    fn head(&self, cseq: u32) -> Head {
        let mut routes = self.route_set.clone();
        let first = routes.first().and_then(|route| Address::parse(Name::Route, route).ok());
        let strict = first
            .filter(|first| first.uri().is_ok_and(|uri| !uri.is_loose()))
            .map(|first| first.uri_bytes().to_vec());
        let uri = match strict {
            None => self.remote_target.clone(),
            // A strict router wants itself in the Request-URI and the remote target as the last route
            // (RFC 3261 §12.2.1.1).
            Some(uri) => {
                routes.remove(0);
                routes.push([b"<", &self.remote_target[..], b">"].concat());
                uri
            }
        };
        Head {
            uri,
            routes,
            from: self.local.clone(),
            to: self.remote.clone(),
            call_id: self.id.call_id.clone(),
            cseq,
        }
    }
}

fn raw(message: &Message, name: Name) -> Result<Vec<u8>, Misfit> {
    message.raw(name).map(<[u8]>::to_vec).ok_or(Misfit::Field(name))
}

fn address<'m, H>(message: &'m Message) -> Result<Address<'m>, Misfit>
where
    H: for<'a> Header<View<'a> = Address<'a>>,
{
    message.header::<H>().and_then(Result::ok).ok_or(Misfit::Field(H::NAME))
}

fn cseq(message: &Message) -> Result<u32, Misfit> {
    message.header::<CSeq>().and_then(Result::ok).map(|cseq| cseq.number).ok_or(Misfit::Field(Name::CSeq))
}

/// The one Contact that makes a remote target.
fn contact(message: &Message) -> Option<Vec<u8>> {
    let contact = message.header::<Contact>()?.ok()?;
    let uri = contact.uri().ok().filter(Uri::is_sip)?;
    Some(uri.raw().to_vec())
}

/// "If the response contains a Record-Route [..] including all header field parameters" they become Routes as they stand.
fn routes(message: &Message) -> Result<Vec<Vec<u8>>, Misfit> {
    message
        .headers::<RecordRoute>()
        .map(|value| match value {
            Ok(value) if value.uri().is_ok_and(|uri| uri.is_sip()) => Ok(value.raw().to_vec()),
            _ => Err(Misfit::Field(Name::RecordRoute)),
        })
        .collect()
}

/// Whether a method belongs to a dialog only, so that without one it is answered 481.
pub fn needs_dialog(method: Method<'_>) -> bool {
    matches!(method, Method::Bye | Method::Prack | Method::Update | Method::Info)
}
