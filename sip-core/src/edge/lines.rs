//! The phones' own connections to the switches (`sip.inside.connections = "per-phone"`): a line is there for as long as
//! its binding, and a certificate has as many as it may have bindings. A phone chooses its tag, so that without this one
//! certificate could make us dial without end.

use super::Edge;
use crate::flow::{Dial, FlowId, Transport};
use crate::numbered::Numbered;
use crate::token::InstanceId;

/// Switches that one phone has connections of its own to; further ones are reached by the connection all share.
const SWITCHES: usize = 8;

/// The connections of one phone.
struct Line {
    certificate: [u8; 32],
    /// What was dialled, and what stands of it.
    dials: Numbered<Dial, Option<FlowId>>,
}

/// All lines.
#[derive(Default)]
pub(super) struct Lines {
    table: Numbered<InstanceId, Line>,
    /// How many phones of a certificate have one.
    by_certificate: Numbered<[u8; 32], usize>,
    /// Requests in progress towards a switch, by the phone that asks.
    exchanges: Numbered<InstanceId, usize>,
    /// Phones whose binding may be gone, so that their lines must be looked at.
    suspects: Vec<InstanceId>,
}

impl Lines {
    pub(super) fn hold(&mut self, id: InstanceId) {
        *self.exchanges.entry(id).or_default() += 1;
    }

    /// A request is over. The phone, if it was its last.
    pub(super) fn release(&mut self, id: InstanceId) -> Option<InstanceId> {
        let exchanges = self.exchanges.get_mut(&id)?;
        *exchanges -= 1;
        if *exchanges > 0 {
            return None;
        }
        self.exchanges.remove(&id);
        Some(id)
    }

    /// Look at this phone's lines at the end of the round.
    pub(super) fn suspect(&mut self, id: InstanceId) {
        if self.table.contains_key(&id) {
            self.suspects.push(id);
        }
    }

    /// Whether a phone may have a connection of its own for `dial`; it is counted from now on.
    fn admit(&mut self, id: InstanceId, certificate: [u8; 32], dial: Dial, most: usize) -> bool {
        match self.table.get_mut(&id) {
            Some(line) => {
                let fits = line.dials.len() < SWITCHES || line.dials.contains_key(&dial);
                if fits {
                    line.dials.entry(dial).or_default();
                }
                fits
            }
            None if self.by_certificate.get(&certificate).is_some_and(|lines| *lines >= most) => false,
            None => {
                self.insert(id, certificate, dial, None);
                true
            }
        }
    }

    fn insert(&mut self, id: InstanceId, certificate: [u8; 32], dial: Dial, flow: Option<FlowId>) {
        *self.by_certificate.entry(certificate).or_default() += 1;
        self.table.insert(id, Line { certificate, dials: Numbered::from_iter([(dial, flow)]) });
    }

    fn opened(&mut self, id: InstanceId, dial: Dial, flow: FlowId) {
        match self.table.get_mut(&id) {
            Some(line) => drop(line.dials.insert(dial, Some(flow))),
            // Dialled for what was still queued when it was closed: nobody's share, and closed at once.
            None => self.insert(id, [0; 32], dial, Some(flow)),
        }
    }

    /// A connection is gone; `None` when it never stood.
    pub(super) fn closed(&mut self, dial: Dial, flow: Option<FlowId>) {
        let Some(id) = dial.affinity.map(InstanceId) else { return };
        let Some(line) = self.table.get_mut(&id) else { return };
        if line.dials.get(&dial) == Some(&flow) {
            line.dials.remove(&dial);
        }
        if !line.dials.is_empty() {
            return;
        }
        let certificate = line.certificate;
        self.table.remove(&id);
        if let Some(lines) = self.by_certificate.get_mut(&certificate) {
            *lines -= 1;
            if *lines == 0 {
                self.by_certificate.remove(&certificate);
            }
        }
    }
}

impl Edge {
    /// The dial as it is done: a connection of the phone's own only for one that has a binding and whose certificate has
    /// not too many, else the one that all share.
    pub(super) fn on_line(&mut self, dial: Dial) -> Dial {
        let Some(id) = dial.affinity.map(InstanceId) else { return dial };
        let binding = self.bindings.get(id).filter(|_| dial.transport != Transport::Udp);
        let certificate = binding.map(|b| b.record.certificate);
        let limits = &self.config.limits;
        let admitted = certificate.is_some_and(|certificate| {
            self.lines.admit(id, certificate, dial, limits.bindings_of(&certificate).0)
        });
        if admitted { dial } else { Dial { affinity: None, ..dial } }
    }

    pub(super) fn line_opened(&mut self, dial: Dial, flow: FlowId) {
        if let Some(id) = dial.affinity.map(InstanceId) {
            self.lines.opened(id, dial, flow);
            self.lines.suspect(id);
        }
    }

    /// Closes the lines of phones whose binding is gone, once no request needs them.
    pub(super) fn close_lines(&mut self) {
        while let Some(id) = self.bindings.poll_gone() {
            self.lines.suspect(id);
        }
        while let Some(id) = self.lines.suspects.pop() {
            let ours = self.bindings.get(id).is_some_and(|binding| self.bindings.is_ours(binding));
            if ours || self.lines.exchanges.contains_key(&id) {
                continue;
            }
            let Some(line) = self.lines.table.get(&id) else { continue };
            for flow in line.dials.values().flatten().filter(|flow| !self.flows.works(**flow)) {
                self.closes.push_back(*flow);
            }
        }
    }
}
