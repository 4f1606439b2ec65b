//! Literal requests of phones and PBX.

use crate::register::{MAC_A, registered};
use crate::world::{End, World, between, reply, row};

pub(crate) const SDP: &str = "v=0
o=- 1 1 IN IP4 192.168.1.7
s=-
c=IN IP4 192.168.1.7
t=0 0
m=audio 4000 RTP/AVP 0";

/// With a description.
pub(crate) fn sdp(more: &str) -> String {
    format!("{more}Content-Type: application/sdp\n\n{SDP}")
}

/// A request of the PBX.
pub(crate) fn from_pbx(method: &str, uri: &str, call: &str, cseq: u32, to_tag: &str, more: &str) -> String {
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} {uri} SIP/2.0
        Via: SIP/2.0/TLS 10.0.1.50:5061;branch=z9hG4bK{call}{cseq}{method}
        Max-Forwards: 70
        From: <sips:200@10.0.1.50>;tag=p{call}
        To: <sips:117@10.0.1.50>{to_tag}
        Call-ID: {call}
        CSeq: {cseq} {method}
        Contact: <sips:200@10.0.1.50:5061;transport=tls>
        {more}"
    )
}

/// A request of the phone at 192.168.1.7; a row of `more` may stand for one of these.
pub(crate) fn from_phone(method: &str, uri: &str, call: &str, cseq: u32, to_tag: &str, more: &str) -> String {
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} {uri} SIP/2.0
        Via: SIP/2.0/TLS 192.168.1.7:5061;branch=z9hG4bKo{call}{cseq}{method};rport;alias
        Max-Forwards: 70
        From: <sips:117@10.0.1.50>;tag=f{call}
        To: <sips:200@10.0.1.50>{to_tag}
        Call-ID: {call}
        CSeq: {cseq} {method}
        Contact: <sips:117@192.168.1.7>
        {more}"
    )
}

pub(crate) fn target(token: &str) -> String {
    format!("sips:117@10.0.1.2:5061;transport=tls;crt={token}")
}

/// A call that was answered: what each side needs to go on with it.
pub(crate) struct Call {
    pub(crate) id: String,
    /// The phone's connection.
    pub(crate) phone: End,
    /// The PBX's end of the phone's own connection to it.
    pub(crate) own: End,
    /// The PBX's connection to us.
    pub(crate) pbx: End,
    pub(crate) token: String,
    /// Route and remote target as the phone was given them.
    pub(crate) phone_route: String,
    pub(crate) phone_target: String,
    /// Route as the PBX was given it.
    pub(crate) pbx_route: String,
}

impl Call {
    /// The PBX calls the phone with MAC A, who answers.
    pub(crate) fn from_pbx(world: &mut World, id: &str) -> Self {
        let (phone, own, token) = registered(world, MAC_A, "198.51.100.7:40000", "192.168.1.7");
        let pbx = world.switch("10.0.1.50:33000");
        Self::again(world, id, phone, own, pbx, &token)
    }

    pub(crate) fn again(world: &mut World, id: &str, phone: End, own: End, pbx: End, token: &str) -> Self {
        world.say(pbx, &from_pbx("INVITE", &target(token), id, 1, "", &sdp("")));
        let invite = world.hear_start(phone, "INVITE ");
        world.say(phone, &reply(&invite, "200 OK", "a", &sdp("Contact: <sips:117@192.168.1.7>\n")));
        let ok = world.hear_start(pbx, "SIP/2.0 200 ");
        let call = Self {
            id: id.to_owned(),
            phone,
            own,
            pbx,
            token: token.to_owned(),
            phone_route: row(&invite, "Record-Route").to_owned(),
            phone_target: between(row(&invite, "Contact"), "<", ">").to_owned(),
            pbx_route: row(&ok, "Record-Route").to_owned(),
        };
        world.say(pbx, &call.of_pbx("ACK", 1, ""));
        world.hear_start(phone, "ACK ");
        call
    }

    /// A further request of the PBX in this call.
    pub(crate) fn of_pbx(&self, method: &str, cseq: u32, more: &str) -> String {
        let more = format!("Route: {}\n{more}", self.pbx_route);
        from_pbx(method, &target(&self.token), &self.id, cseq, "a", &more)
    }

    /// A further request of the phone in this call.
    pub(crate) fn of_phone(&self, method: &str, cseq: u32, more: &str) -> String {
        format!(
            "{method} {} SIP/2.0
            Via: SIP/2.0/TLS 192.168.1.7:5061;branch=z9hG4bKo{}{cseq}{method};rport;alias
            Max-Forwards: 70
            Route: {}
            From: <sips:117@10.0.1.50>;tag=a
            To: <sips:200@10.0.1.50>;tag=p{}
            Call-ID: {}
            CSeq: {cseq} {method}
            Contact: <sips:117@192.168.1.7>
            {more}",
            self.phone_target, self.id, self.phone_route, self.id, self.id
        )
    }
}
