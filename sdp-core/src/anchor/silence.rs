//! Streams that the relay closes because nobody speaks (MED-14), and offers that wait.
//!
//! An offer names the ports of the streams that run. Were one closed before its answer comes, the answer had to decline the
//! line, or name a port that is gone. So the relay closes none while an offer waits; it still tells who is silent. What it has
//! closed in the instant before it hears of the offer is lost all the same, and declined: the next offer has ports again.

use super::Anchor;
use super::session::Session;
use crate::policy::Timeouts;
use crate::relay::Command;

impl Anchor {
    /// An offer of this session waits for its answer from now on.
    pub(super) fn hold_streams(&mut self, session: &mut Session) {
        self.set_teardown(session, false);
    }

    /// None waits any more.
    pub(super) fn release_streams(&mut self, session: &mut Session) {
        self.set_teardown(session, self.config.policy.timeouts.teardown);
    }

    fn set_teardown(&mut self, session: &mut Session, teardown: bool) {
        for stream in session.streams.iter_mut().filter(|stream| stream.agreed) {
            let timeouts = stream.setup.timeouts;
            if timeouts.teardown != teardown {
                stream.setup.timeouts = Timeouts { teardown, ..timeouts };
                self.commands.push_back(Command::Update { stream: stream.setup.clone() });
            }
        }
    }
}
