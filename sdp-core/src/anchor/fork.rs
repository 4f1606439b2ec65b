//! Several dialogs answer one offer (a PBX rings many): each has its own answer, and one of them wins.

use std::time::Instant;

use super::Anchor;

impl Anchor {
    /// The answers that follow are those of this fork; `None`: of the only one that answers. A name for the dialog is enough.
    pub fn set_fork(&mut self, session: u64, fork: Option<u64>) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.fork = fork;
        }
    }

    /// This fork was confirmed, or is the one that is left: what it has answered holds, whoever answered last. Nothing changes
    /// where it is in effect, or unknown.
    pub fn confirm_fork(&mut self, now: Instant, session: u64, fork: u64) {
        if self.return_to(now, session, fork).is_some() {
            self.keep(session);
        }
        self.ports.commands(now, &mut self.commands);
    }
}
