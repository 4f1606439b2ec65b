//! Calls between phones: the first half calls the second half, all at the same time.

use super::{Play, Station, Ttl};
use crate::mac::Mac;
use crate::phone::call::Call;
use crate::phone::line::LineError;
use crate::plan::Handset;
use crate::rtp::Seen;

/// A call with both its ends.
struct Pair<'a> {
    caller: &'a Station,
    callee: &'a Station,
    ends: [Call; 2],
}

impl Play<'_> {
    pub(super) async fn calls(&mut self, stations: &[Station]) {
        let half = stations.len() / 2;
        let mut pairs = Vec::new();
        for (caller, callee) in stations.iter().zip(stations.iter().skip(half)).take(half) {
            let before = rung(stations);
            let pair = self.connect(caller, callee, || {
                let others = stations.iter().zip(rung(stations)).zip(&before);
                let mut wrong = others.filter(|((s, now), was)| now != *was && s.mac() != callee.mac());
                wrong.next().map(|((station, _), _)| station.mac())
            });
            pairs.extend(pair.await);
        }
        tokio::time::sleep(self.options.talk).await;
        for pair in &pairs {
            let verdict = self.site.update(&pair.callee.phone.handset().extension).await;
            let outcome = match verdict {
                verdict if verdict.starts_with("200") => {
                    Ok(((), "the switch's UPDATE within the call answered 200".to_owned()))
                }
                verdict => Err(format!("the switch's UPDATE within the call: {verdict}")),
            };
            self.step("ping", Some(pair.callee.mac()), outcome);
            self.media(pair);
        }
        for (index, pair) in pairs.iter().enumerate() {
            self.hang_up(pair, index).await;
        }
    }

    /// Places a call; `astray` names another phone that rang.
    async fn connect<'s>(
        &mut self,
        caller: &'s Station,
        callee: &'s Station,
        astray: impl Fn() -> Option<Mac>,
    ) -> Option<Pair<'s>> {
        let (mac, extension) = (Some(caller.mac()), &callee.phone.handset().extension);
        let placed = async {
            let mine = caller.line.dial(caller.switch, extension).await?;
            Ok::<_, LineError>([mine, callee.line.answered().await?])
        };
        let ends = match placed.await {
            Ok(ends) => ends,
            // The phone was reached before; what refuses now is the gateway, for want of a media path.
            Err(error @ LineError::Refused(..)) if refused_media(&error) => {
                return self.step("relay", mac, Err(error));
            }
            Err(error) => {
                let text = match astray() {
                    Some(other) => format!("{error}; it rang at {other} instead"),
                    None => error.to_string(),
                };
                return self.step("call", mac, Err(text));
            }
        };
        let [mine, theirs] = &ends;
        let outcome = match (astray(), mine.rang, theirs.own_user()) {
            (Some(other), ..) => Err(format!("the call for {extension} also rang at {other}")),
            (None, false, _) => Err("no 180 before the answer".to_owned()),
            (None, true, user) if user == *extension || user == "anonymous" => {
                let (from, to) = (&caller.phone.handset().extension, callee.mac());
                Ok(((), format!("{from} → {extension}: {to} rang and no other, answered, ACK")))
            }
            (None, true, user) => Err(format!("the call for {extension} arrived for '{user}'")),
        };
        self.step("call", mac, outcome)?;
        Some(Pair { caller, callee, ends })
    }

    /// Both directions of one call, as heard at both phones.
    fn media(&mut self, pair: &Pair<'_>) {
        let [mine, theirs] = &pair.ends;
        let (a, b) = (pair.caller.phone.handset(), pair.callee.phone.handset());
        for (here, there, me, peer) in [(theirs, mine, b, a), (mine, theirs, a, b)] {
            let outcome = self.heard(here, &there.seen(), me, peer);
            self.step("relay", Some(me.mac), outcome.map(|text| ((), text)));
        }
    }

    fn heard(&self, here: &Call, sent: &Seen, me: &Handset, peer: &Handset) -> Result<String, String> {
        let seen = here.seen();
        let told = here.remote().ok_or("no session description")?;
        if told.ip() != self.gateway.media {
            return Err(format!("told to send to {told}, which is not the gateway's relay"));
        }
        if seen.received == 0 {
            return Err(format!(
                "nothing arrived at this phone of {} packets of {}",
                sent.sent, peer.extension
            ));
        }
        // The last packets are still on the way, the first may come before the relay knows where to send.
        if seen.received + 8 < sent.sent * 9 / 10 {
            return Err(format!("{} of {} packets of {} arrived", seen.received, sent.sent, peer.extension));
        }
        if let Some(source) = seen.sources.iter().find(|source| **source != told) {
            return Err(format!("packets came from {source}, not from {told}"));
        }
        let wanted = match self.gateway.ttl {
            Ttl::Keep => peer.ttl.saturating_sub(1),
            Ttl::Reset(ttl) => ttl,
        };
        if seen.ttls.iter().ne([&wanted]) {
            return Err(format!(
                "sent with TTL {}, arrived with {:?} instead of {wanted}",
                peer.ttl, seen.ttls
            ));
        }
        let (theirs, mine) = (seen.tone(peer.tone), seen.tone(me.tone));
        if theirs < 0.8 {
            return Err(format!(
                "{:.0} Hz is {:.0} % of what was heard (own tone {:.0} %)",
                peer.tone,
                theirs * 100.0,
                mine * 100.0
            ));
        }
        Ok(format!(
            "from {}: {} of {} packets via {told}, TTL {} → {wanted}, {:.0} Hz heard ({:.0} %)",
            peer.extension,
            seen.received,
            sent.sent,
            peer.ttl,
            peer.tone,
            theirs * 100.0
        ))
    }

    /// Ends a call from one side and sees it end at the other: caller and callee take turns.
    async fn hang_up(&mut self, pair: &Pair<'_>, index: usize) {
        let [mine, theirs] = &pair.ends;
        let (first, other, station) =
            if index.is_multiple_of(2) { (mine, theirs, pair.caller) } else { (theirs, mine, pair.callee) };
        let ended = async {
            first.hang_up().await?;
            other.ended().await
        };
        let detail = || ((), "BYE answered 200, and arrived at the other phone".to_owned());
        let outcome = ended.await.map(|()| detail());
        self.step("hang-up", Some(station.mac()), outcome);
    }
}

/// How often each phone has rung.
fn rung(stations: &[Station]) -> Vec<usize> {
    stations.iter().map(|station| station.line.seen().rung).collect()
}

fn refused_media(error: &LineError) -> bool {
    matches!(error, LineError::Refused(_, verdict) if ["488", "500", "503"].iter().any(|s| verdict.starts_with(s)))
}
