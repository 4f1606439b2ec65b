//! A dialog, from either end (RFC 3261 §12): what a later request of it looks like.

use crate::text::{Message, address, parameter};

/// What one end has to remember.
#[derive(Debug, Clone)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Our name-addr with our tag.
    pub local: String,
    /// The other end's name-addr with its tag.
    pub remote: String,
    /// The other end's Contact URI.
    pub target: String,
    /// Route values, in the order we send them.
    pub routes: Vec<String>,
    /// CSeq number we used last.
    pub cseq: u32,
}

impl Dialog {
    /// The dialog of an INVITE we answer, with our tag (RFC 3261 §12.1.1).
    pub fn answering(invite: &Message, tag: &str) -> Self {
        Self {
            call_id: invite.text("Call-ID").to_owned(),
            local: format!("{};tag={tag}", invite.text("To")),
            remote: invite.text("From").to_owned(),
            target: contact(invite),
            routes: invite.values("Record-Route").into_iter().map(str::to_owned).collect(),
            cseq: 0,
        }
    }

    /// The dialog of an INVITE we sent, from its 2xx (RFC 3261 §12.1.2).
    pub fn answered(response: &Message) -> Self {
        let number = response.text("CSeq").split(' ').next().and_then(|n| n.parse().ok());
        Self {
            call_id: response.text("Call-ID").to_owned(),
            local: response.text("From").to_owned(),
            remote: response.text("To").to_owned(),
            target: contact(response),
            routes: response.values("Record-Route").into_iter().rev().map(str::to_owned).collect(),
            cseq: number.unwrap_or(1),
        }
    }

    /// The URI the next request goes to: the first Route, else the target.
    pub fn next_hop(&self) -> &str {
        self.routes.first().map_or(self.target.as_str(), |route| address(route))
    }

    /// Whether a request of this Call-ID carries our tag and theirs.
    pub fn owns(&self, request: &Message) -> bool {
        parameter(request.text("To"), "tag") == parameter(&self.local, "tag")
            && parameter(request.text("From"), "tag") == parameter(&self.remote, "tag")
    }

    /// A request within the dialog; `via` is the whole Via value, `extra` holds header lines each ending in
    /// CRLF. ACK keeps the CSeq number of its INVITE, others count on.
    pub fn request(&mut self, method: &str, via: &str, extra: &str) -> String {
        if method != "ACK" {
            self.cseq += 1;
        }
        let mut routes = String::new();
        for route in &self.routes {
            routes.push_str(&format!("Route: {route}\r\n"));
        }
        format!(
            "{method} {} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n{routes}From: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {} {method}\r\n{extra}Content-Length: 0\r\n\r\n",
            self.target, self.local, self.remote, self.call_id, self.cseq
        )
    }
}

/// The ACK to a final response that is no 2xx: part of the INVITE's transaction, so its branch and its
/// Request-URI (RFC 3261 §17.1.1.3).
pub fn refusal_ack(uri: &str, response: &Message) -> String {
    let number = response.text("CSeq").split(' ').next().unwrap_or("1");
    format!(
        "ACK {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
         CSeq: {number} ACK\r\nContent-Length: 0\r\n\r\n",
        response.text("Via"),
        response.text("From"),
        response.text("To"),
        response.text("Call-ID"),
    )
}

fn contact(message: &Message) -> String {
    address(message.values("Contact").first().copied().unwrap_or("")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(start: &str) -> Message {
        let headers = [
            ("Via", "SIP/2.0/TLS a;branch=z9hG4bK1"),
            ("Record-Route", "<sips:near;lr>, <sips:far;lr>"),
            ("From", "<sips:a@x>;tag=f"),
            ("To", "<sips:b@x>;tag=t"),
            ("Call-ID", "c"),
            ("CSeq", "7 INVITE"),
            ("m", "<sips:b@10.0.0.1>;x=y"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Message { start: start.to_owned(), headers, body: Vec::new() }
    }

    #[test]
    fn caller_and_called_build_mirrored_requests() {
        let mut caller = Dialog::answered(&message("SIP/2.0 200 OK"));
        let ack = caller.request("ACK", "v", "");
        assert!(
            ack.starts_with("ACK sips:b@10.0.0.1 SIP/2.0\r\n") && ack.contains("CSeq: 7 ACK\r\n"),
            "{ack}"
        );
        assert!(ack.contains("Route: <sips:far;lr>\r\nRoute: <sips:near;lr>\r\n"), "{ack}");
        assert!(caller.request("BYE", "v", "").contains("CSeq: 8 BYE\r\n"));
        assert_eq!(caller.next_hop(), "sips:far;lr");

        let mut invite = message("INVITE sips:b@x SIP/2.0");
        invite.headers[3].1 = "<sips:b@x>".to_owned();
        let mut called = Dialog::answering(&invite, "t");
        let bye = called.request("BYE", "v", "");
        assert!(bye.contains("From: <sips:b@x>;tag=t\r\nTo: <sips:a@x>;tag=f\r\n"), "{bye}");
        assert_eq!(called.next_hop(), "sips:near;lr");
        // The caller's BYE comes with the tags the other way round.
        assert!(called.owns(&message("BYE x SIP/2.0")) && !caller.owns(&message("BYE x SIP/2.0")));
    }

    #[test]
    fn the_ack_to_a_refusal_keeps_the_branch() {
        let ack = refusal_ack("sips:b@x", &message("SIP/2.0 486 Busy Here"));
        assert!(
            ack.contains("Via: SIP/2.0/TLS a;branch=z9hG4bK1\r\n") && ack.contains("CSeq: 7 ACK\r\n"),
            "{ack}"
        );
    }
}
