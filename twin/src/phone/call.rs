//! Calls: placed by the user, or answered at once by the phone; a tone each way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::line::{ABILITIES, Core, Line, LineError, branch};
use crate::agent::token;
use crate::dialog::{Dialog, refusal_ack};
use crate::rtp::{self, Port};
use crate::sdp;
use crate::text::{Message, user};

/// One call as the phone keeps it.
#[derive(Debug)]
pub(super) struct Talk {
    dialog: Dialog,
    stream: Option<rtp::Stream>,
    last: rtp::Seen,
    local: SocketAddr,
    remote: SocketAddr,
    own_user: String,
}

/// A handle to a call of this phone.
#[derive(Debug, Clone)]
pub struct Call {
    core: Arc<Core>,
    id: String,
    /// Whether a 180 came before the answer (for calls we placed).
    pub rang: bool,
}

impl Line {
    /// Calls an extension through a switch: offers two audio lines on one port, starts the tone when answered.
    pub async fn dial(&self, switch: SocketAddr, extension: &str) -> Result<Call, LineError> {
        let core = &self.core;
        let port = Port::bind(core.handset.ip.into())?;
        let (branch, own) = (branch(), &core.handset.extension);
        let uri = format!("sips:{extension}@{switch}");
        let offer = sdp::offer(core.handset.ip.into(), port.local().port(), session());
        let invite = format!(
            "INVITE {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n\
             From: \"Twin {own}\" <sips:{own}@{host}>;tag={tag}\r\nTo: <sips:{extension}@{host}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: <sips:{own}@{ip}>\r\n{ABILITIES}\
             Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{offer}",
            via = core.via(&branch),
            host = switch.ip(),
            tag = token(),
            call_id = token(),
            ip = core.handset.ip,
            length = offer.len(),
        );
        let (response, rang) = self.await_answer(&branch, invite, &uri).await?;
        let remote = sdp::audio(&response.body_text());
        let mut dialog = Dialog::answered(&response);
        let ack = dialog.request("ACK", &core.via(&super::line::branch()), "");
        core.wire.send(ack).await?;
        let id = dialog.call_id.clone();
        let Some(remote) = remote else {
            let bye = dialog.request("BYE", &core.via(&super::line::branch()), "");
            core.wire.send(bye).await?;
            return Err(LineError::NoAudio("the answer"));
        };
        let local = port.local();
        let stream = Some(port.start(remote, core.handset.tone, core.handset.ttl)?);
        let talk = Talk { dialog, stream, last: rtp::Seen::default(), local, remote, own_user: own.clone() };
        core.calls().insert(id.clone(), talk);
        Ok(Call { core: Arc::clone(core), id, rang })
    }

    async fn await_answer(
        &self,
        branch: &str,
        invite: String,
        uri: &str,
    ) -> Result<(Message, bool), LineError> {
        let mut pending = self.core.send(branch, invite).await?;
        let mut rang = false;
        loop {
            let response = pending.next().await?;
            match response.status() {
                Some(200..=299) => return Ok((response, rang)),
                Some(status @ 100..=199) => rang |= status == 180,
                _ => {
                    self.core.wire.send(refusal_ack(uri, &response)).await?;
                    return Err(LineError::Refused(format!("INVITE {uri}"), response.verdict().to_owned()));
                }
            }
        }
    }

    /// Waits for a call that this phone has answered and that was acknowledged.
    pub async fn answered(&self) -> Result<Call, LineError> {
        let seen = self.wait("call with its ACK", |seen| !seen.answered.is_empty()).await?;
        let id = seen.answered.last().cloned().unwrap_or_default();
        Ok(Call { core: Arc::clone(&self.core), id, rang: false })
    }
}

impl Call {
    /// What was sent and heard, also after the end.
    pub fn seen(&self) -> rtp::Seen {
        let calls = self.core.calls();
        let Some(talk) = calls.get(&self.id) else { return rtp::Seen::default() };
        talk.stream.as_ref().map_or_else(|| talk.last.clone(), rtp::Stream::seen)
    }

    /// Where this phone listens.
    pub fn local(&self) -> Option<SocketAddr> {
        self.core.calls().get(&self.id).map(|talk| talk.local)
    }

    /// Where this phone was told to send.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.core.calls().get(&self.id).map(|talk| talk.remote)
    }

    /// The user the call came for, or our own extension in a call we placed.
    pub fn own_user(&self) -> String {
        self.core.calls().get(&self.id).map(|talk| talk.own_user.clone()).unwrap_or_default()
    }

    /// Ends the call with BYE.
    pub async fn hang_up(&self) -> Result<(), LineError> {
        let branch = branch();
        let bye = {
            let mut calls = self.core.calls();
            let Some(talk) = calls.get_mut(&self.id) else {
                return Err(LineError::Missing("call to end", Duration::ZERO));
            };
            talk.stop();
            talk.dialog.request("BYE", &self.core.via(&branch), ABILITIES)
        };
        let response = self.core.send(&branch, bye).await?.last().await?;
        match response.status() {
            Some(200..=299) => Ok(()),
            _ => Err(LineError::Refused("BYE".to_owned(), response.verdict().to_owned())),
        }
    }

    /// Whether the other side has ended the call.
    pub async fn ended(&self) -> Result<(), LineError> {
        let mut seen = self.core.seen.subscribe();
        let ended = seen.wait_for(|seen| seen.ended.contains(&self.id));
        match tokio::time::timeout(self.core.patience, ended).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(LineError::Missing("BYE", self.core.patience)),
        }
    }
}

impl Talk {
    fn stop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.last = stream.seen();
        }
    }
}

impl Core {
    /// Rings and answers.
    pub(super) async fn answer(self: Arc<Self>, invite: Message) {
        self.seen.send_modify(|seen| seen.rung += 1);
        let tag = token();
        let mut extra = String::new();
        for route in invite.rows("Record-Route") {
            extra.push_str(&format!("Record-Route: {route}\r\n"));
        }
        let called = user(invite.uri().unwrap_or("")).to_owned();
        extra.push_str(&format!("Contact: <sips:{}@{}>\r\n", self.handset.extension, self.handset.ip));
        let ringing = invite.reply("180 Ringing", Some(&tag), &extra, "");
        let last = match self.accept(&invite, &tag, called) {
            Ok(answer) => {
                extra.push_str(ABILITIES);
                extra.push_str("Content-Type: application/sdp\r\n");
                invite.reply("200 OK", Some(&tag), &extra, &answer)
            }
            Err(error) => {
                tracing::debug!(mac = %self.handset.mac, %error, "refusing a call");
                invite.reply("488 Not Acceptable Here", Some(&tag), "", "")
            }
        };
        // When the connection is gone nobody waits for the answer.
        if self.wire.send(ringing).await.is_ok() {
            let _ = self.wire.send(last).await;
        }
    }

    fn accept(&self, invite: &Message, tag: &str, called: String) -> Result<String, LineError> {
        let offer = invite.body_text();
        let remote = sdp::audio(&offer).ok_or(LineError::NoAudio("the offer"))?;
        let port = Port::bind(self.handset.ip.into())?;
        let local = port.local();
        let answer = sdp::answer(&offer, local.ip(), local.port(), session());
        let stream = Some(port.start(remote, self.handset.tone, self.handset.ttl)?);
        let dialog = Dialog::answering(invite, tag);
        let talk = Talk { dialog, stream, last: rtp::Seen::default(), local, remote, own_user: called };
        self.calls().insert(talk.dialog.call_id.clone(), talk);
        Ok(answer)
    }

    pub(super) fn acknowledged(&self, ack: &Message) {
        if self.in_call(ack) {
            let id = ack.text("Call-ID").to_owned();
            self.seen.send_modify(|seen| seen.answered.push(id));
        }
    }

    pub(super) fn ended(&self, bye: &Message) -> String {
        let id = bye.text("Call-ID");
        if !self.in_call(bye) {
            return bye.reply("481 Call/Transaction Does Not Exist", Some(&token()), "", "");
        }
        if let Some(talk) = self.calls().get_mut(id) {
            talk.stop();
        }
        self.seen.send_modify(|seen| seen.ended.push(id.to_owned()));
        bye.reply("200 OK", None, "", "")
    }

    pub(super) fn in_call(&self, request: &Message) -> bool {
        self.calls().get(request.text("Call-ID")).is_some_and(|talk| talk.dialog.owns(request))
    }
}

/// A session id for `o=`.
fn session() -> u32 {
    u32::from_str_radix(token().get(..7).unwrap_or("1"), 16).unwrap_or(1)
}
