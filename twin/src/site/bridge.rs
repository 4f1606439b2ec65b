//! Calls at a switch: back to back, the session descriptions passed on unchanged. There is no CANCEL (the
//! twin's phones answer at once): it is answered 481, as is everything outside a known call.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::switch::{SendError, Switch, branch};
use crate::agent::token;
use crate::dialog::{Dialog, refusal_ack};
use crate::text::{Message, address, user, with_user};
use crate::wire::Wire;

/// Both ends of each call, by Call-ID.
pub(super) type Bridges = HashMap<String, End>;

/// One end of a call, and where the other is.
#[derive(Debug, Clone)]
pub(super) struct End {
    dialog: Dialog,
    wire: Wire,
    /// Call-ID of the other end.
    other: String,
    /// The extension that was called.
    called: String,
    /// This is the end towards the called phone.
    callee: bool,
    /// Index of the switch that bridges the call.
    switch: usize,
}

impl Switch {
    /// Handles an INVITE that starts a call.
    pub(super) async fn bridge(self: Arc<Self>, wire: Wire, invite: Message) {
        let _ = wire.send(invite.reply("100 Trying", None, "", "")).await;
        let tag = token();
        let extension = user(invite.uri().unwrap_or("")).to_owned();
        let verdict = match self.connect(&wire, &invite, &tag, &extension).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, extension, "a call could not be passed on");
                invite.reply("503 Service Unavailable", Some(&tag), "", "")
            }
        };
        let _ = wire.send(verdict).await;
    }

    /// Rings the called phone and returns the final answer for the caller.
    async fn connect(
        &self,
        caller: &Wire,
        invite: &Message,
        tag: &str,
        extension: &str,
    ) -> Result<String, SendError> {
        let Some(binding) = self.records.borrow().find(extension).cloned() else {
            let known = self.records.borrow().extensions.contains_key(extension);
            let verdict = if known { "480 Temporarily Unavailable" } else { "404 Not Found" };
            return Ok(invite.reply(verdict, Some(tag), "", ""));
        };
        let wire = self.wire_to(&binding.uri, &binding.wire).await?;
        // The user called, at the Contact that registered as `anonymous`: what a PBX may well do.
        let uri = with_user(&binding.uri, extension);
        let branch = branch();
        let text = self.second_invite(invite, &uri, extension, &branch);
        let mut pending = self.agent().send(&wire, &branch, text, self.patience).await?;
        let routes: String =
            invite.rows("Record-Route").map(|route| format!("Record-Route: {route}\r\n")).collect();
        let extra = format!("{routes}{}", self.contact(extension, invite.uri().unwrap_or("")));
        loop {
            let response = pending.next().await?;
            match response.status() {
                Some(101..=199) => {
                    let ringing = pass_on(invite, &response, tag, &extra);
                    // A caller that is gone shows at its BYE or at ours.
                    let _ = caller.send(ringing).await;
                }
                Some(200..=299) => {
                    self.remember(invite, &response, tag, extension, [caller, &wire]);
                    return Ok(pass_on(invite, &response, tag, &extra));
                }
                Some(300..) => {
                    wire.send(refusal_ack(&uri, &response))
                        .await
                        .map_err(crate::agent::RequestError::from)?;
                    return Ok(invite.reply(response.verdict(), Some(tag), "", ""));
                }
                _ => {}
            }
        }
    }

    fn second_invite(&self, invite: &Message, uri: &str, extension: &str, branch: &str) -> String {
        let caller = user(address(invite.text("From")));
        format!(
            "INVITE {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n\
             From: <sips:{caller}@{ip}>;tag={tag}\r\nTo: <sips:{extension}@{ip}>\r\nCall-ID: {call_id}\r\n\
             CSeq: 1 INVITE\r\n{contact}Supported: replaces,join,timer\r\n\
             X-ShoreTel-CallGUID: {guid}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}",
            via = self.via(branch),
            ip = self.address.ip(),
            contact = self.contact(caller, uri),
            tag = token(),
            call_id = token(),
            guid = token(),
            kind = invite.header("Content-Type").unwrap_or("application/sdp"),
            length = invite.body.len(),
            body = invite.body_text(),
        )
    }

    fn remember(&self, invite: &Message, response: &Message, tag: &str, extension: &str, wires: [&Wire; 2]) {
        let (a, b) = (Dialog::answering(invite, tag), Dialog::answered(response));
        let end = |dialog: &Dialog, wire: &Wire, other: &Dialog, callee| End {
            dialog: dialog.clone(),
            wire: wire.clone(),
            other: other.call_id.clone(),
            called: extension.to_owned(),
            callee,
            switch: self.index,
        };
        let mut calls = self.calls();
        calls.insert(a.call_id.clone(), end(&a, wires[0], &b, false));
        calls.insert(b.call_id.clone(), end(&b, wires[1], &a, true));
    }

    /// Passes the caller's ACK on.
    pub(super) async fn acknowledged(&self, ack: &Message) {
        let other = match self.calls().get(ack.text("Call-ID")) {
            Some(end) if end.dialog.owns(ack) => end.other.clone(),
            _ => return,
        };
        // An ACK has no answer; when it cannot be sent the call ends by BYE.
        let _ = self.send_within(&other, "ACK").await;
    }

    /// Answers a BYE and passes it on.
    pub(super) fn ended(self: &Arc<Self>, bye: &Message) -> String {
        let end = {
            let mut calls = self.calls();
            match calls.get(bye.text("Call-ID")) {
                Some(end) if end.dialog.owns(bye) => calls.remove(bye.text("Call-ID")),
                _ => None,
            }
        };
        let Some(end) = end else {
            return bye.reply("481 Call/Transaction Does Not Exist", Some(&token()), "", "");
        };
        let switch = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = switch.send_within(&end.other, "BYE").await {
                tracing::debug!(%error, "a BYE could not be passed on");
            }
            switch.calls().remove(&end.other);
        });
        bye.reply("200 OK", None, "", "")
    }

    /// UPDATE as a ping towards the phone that was called under `extension`; its status, or why there is none.
    pub(super) async fn update(&self, extension: &str) -> Option<String> {
        let id = {
            let calls = self.calls();
            let (id, _) = calls.iter().find(|(_, end)| end.callee && self.bridges_to(end, extension))?;
            id.clone()
        };
        Some(match self.send_within(&id, "UPDATE").await {
            Ok(Some(response)) => response.verdict().to_owned(),
            Ok(None) => "the call is gone".to_owned(),
            Err(error) => error.to_string(),
        })
    }

    /// Ends a call from the switch's side, both ways; `false` when there is none under `extension`.
    pub(super) async fn release(&self, extension: &str) -> bool {
        let ids: Vec<String> = {
            let calls = self.calls();
            calls
                .iter()
                .filter(|(_, end)| self.bridges_to(end, extension))
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in &ids {
            let _ = self.send_within(id, "BYE").await;
            self.calls().remove(id);
        }
        !ids.is_empty()
    }

    pub(super) fn in_call(&self, request: &Message) -> bool {
        self.calls().get(request.text("Call-ID")).is_some_and(|end| end.dialog.owns(request))
    }

    /// A request within one end; the final response, unless it is an ACK or the end is gone.
    async fn send_within(&self, id: &str, method: &str) -> Result<Option<Message>, SendError> {
        let branch = branch();
        let (text, hop, came) = {
            let mut calls = self.calls();
            let Some(end) = calls.get_mut(id) else { return Ok(None) };
            let contact = self.contact(&end.called, &end.dialog.target);
            let text = end.dialog.request(method, &self.via(&branch), &contact);
            (text, end.dialog.next_hop().to_owned(), end.wire.clone())
        };
        let wire = self.wire_to(&hop, &came).await?;
        if method == "ACK" {
            wire.send(text).await.map_err(crate::agent::RequestError::from)?;
            return Ok(None);
        }
        Ok(Some(self.agent().send(&wire, &branch, text, self.patience).await?.last().await?))
    }

    fn bridges_to(&self, end: &End, extension: &str) -> bool {
        end.switch == self.index && end.called == extension
    }

    fn calls(&self) -> MutexGuard<'_, Bridges> {
        self.bridges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The called phone's response as the caller gets it: same status, same body.
fn pass_on(invite: &Message, response: &Message, tag: &str, extra: &str) -> String {
    let kind = match response.header("Content-Type") {
        Some(kind) if !response.body.is_empty() => format!("Content-Type: {kind}\r\n"),
        _ => String::new(),
    };
    invite.reply(response.verdict(), Some(tag), &format!("{extra}{kind}"), &response.body_text())
}
