//! What a peer may send at most.

/// Ceilings checked while a message is read, before anything is kept of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Octets of a whole message, head and body. Default 131072 (SAM-36). Above: 413.
    pub message: usize,
    /// Rows of the head. Default 200 (SEC-07). Above: 400.
    pub rows: usize,
    /// Octets of one row, folds included. Default 8192. Above: 400.
    pub row_bytes: usize,
    /// Octets of the Request-URI. Default 1024. Above: 414.
    pub uri: usize,
    /// Via values. Default 70 (SIP-08). Above: 483, by [`validate`](super::Message::validate).
    pub vias: usize,
    /// Contact values of a request. Default 20. Above: 400, by `validate`.
    pub contacts: usize,
}

impl Limits {
    /// For a PBX that is trusted: messages and rows of up to 1 MiB. Its 200 to a REGISTER lists every phone that shares the
    /// address-of-record (RFC 3261 §10.3 step 8), five hundred in 80 kB, as a rule in one row.
    pub fn of_a_switch() -> Self {
        Self { message: 1 << 20, row_bytes: 1 << 20, ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 131_072, rows: 200, row_bytes: 8192, uri: 1024, vias: 70, contacts: 20 }
    }
}
