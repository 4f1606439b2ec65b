//! When a port gets its line, and when it loses it.

use super::Uring;
use crate::net::mark::{Mark, Which};
use crate::net::socket::{Pair, Ports};
use crate::relay::table::Table;

impl Uring {
    /// Gives lines to the ports for which it pays.
    pub(super) fn dial(&mut self, ports: &mut Ports) {
        if !self.dials.is_empty() {
            // What is queued for a line goes to whom it leads to now.
            self.flush();
        }
        let taken = 2 * ports.len();
        while let Some(mark) = self.dials.pop() {
            let Some(pair) = mark.pair(ports) else { continue };
            let (full, before) = (taken + self.lines >= self.descriptors, pair.line().is_some());
            // It helps, and nothing depends on it: where no descriptor is to be had for it, the port goes on alone.
            if (full && !before) || pair.dial().is_err() {
                continue;
            }
            if let Some(fd) = pair.raw(Which::Line).filter(|_| !before) {
                self.lines += 1;
                self.register(mark.slot, Which::Line, &[fd]);
                self.receive(mark, fd);
            }
        }
    }

    /// Takes the line of a port away.
    pub(super) fn cut(&mut self, mark: Mark, table: &mut Table, ports: &mut Ports) {
        // What is queued names it.
        self.cancel(mark);
        self.flush();
        if let Some(line) = mark.pair(ports).and_then(Pair::cut) {
            self.register(mark.slot, Which::Line, &[-1]);
            self.lines = self.lines.saturating_sub(1);
            line.undelivered().for_each(|why| table.handle_undelivered(mark.slot, why));
        }
    }

    /// The kernel refused to send a packet by this socket.
    pub(super) fn refused(&mut self, mark: Mark, table: &mut Table, ports: &mut Ports) {
        table.handle_refused(mark.slot);
        // Its peer may be unreachable, or somebody says so: what is left is tried without the line.
        if mark.socket == Which::Line {
            self.cut(mark, table, ports);
        }
    }
}
