//! An offer that an end refused and that can be made in another form: once more, before anybody hears of the refusal.

use std::time::Instant;

use super::Edge;
use super::exchange::{Branch, Exchange, Hop};

impl Edge {
    /// 488 to the offer of a new call (RFC 3261 §21.4.26): where the media side has another form of it, the same end gets that
    /// on a branch of its own, as one does that a redirection led to (§16.7 step 4). Whether it was sent. Not after a provisional
    /// answer: it would ring twice.
    pub(super) fn offered_again(&mut self, now: Instant, exchange: &mut Exchange, index: usize) -> bool {
        if exchange.dialog.is_some() || !exchange.early.is_empty() || !exchange.context.awaits(index) {
            return false;
        }
        let Some(branch) = exchange.branches.get_mut(index) else { return false };
        let (true, Some(session)) = (branch.offered, branch.session) else { return false };
        let to = branch.way.hop.side();
        if matches!(branch.way.hop, Hop::Shard(_)) || !self.media.insist(now, session, to) {
            return false;
        }
        let mut again = Branch::new(branch.way.clone());
        again.session = Some(session);
        again.holds = std::mem::take(&mut branch.holds);
        branch.offered = false;
        let phone = branch.way.phone;
        exchange.context.recurse(index);
        self.lines.hold(phone);
        let next = exchange.context.add();
        exchange.branches.push(again);
        self.send_branch(now, exchange, next);
        true
    }
}
