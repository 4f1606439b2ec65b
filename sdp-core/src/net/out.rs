//! What the kernel reads to send one packet by a ring.

use std::net::SocketAddr;

use io_uring::types::{Fd, Fixed};
use io_uring::{opcode, squeue};
use nix::libc;

use super::headers::{self, HopLimitRow, NAME};

/// An address, a control message and a header, which must stay as they are until the kernel has taken the request that was made
/// of them.
pub(super) struct Out {
    name: [u8; NAME],
    /// 0: the socket knows.
    length: u32,
    control: HopLimitRow,
    part: libc::iovec,
    message: libc::msghdr,
}

impl Out {
    /// `message`: an empty header.
    pub(super) fn new(message: libc::msghdr) -> Self {
        Self {
            name: [0; NAME],
            length: 0,
            control: headers::HOP_LIMIT_ROW,
            part: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            message,
        }
    }

    /// Where the packet goes.
    pub(super) fn address(&mut self, to: Option<SocketAddr>) {
        self.length = to.map_or(0, |to| headers::put_address(&mut self.name, to));
    }

    /// The request that sends it with the hop limit that the socket gives.
    pub(super) fn plain(&self, place: Option<Fixed>, fd: Fd, part: libc::iovec) -> squeue::Entry {
        let (bytes, octets) = (part.iov_base.cast(), u32::try_from(part.iov_len).unwrap_or(0));
        let request = match place {
            Some(place) => opcode::Send::new(place, bytes, octets),
            None => opcode::Send::new(fd, bytes, octets),
        };
        let request = request.flags(libc::MSG_DONTWAIT);
        match self.length {
            0 => request.build(),
            length => request.dest_addr(self.name.as_ptr().cast()).dest_addr_len(length).build(),
        }
    }

    /// The request that sends it with this hop limit.
    pub(super) fn marked(
        &mut self,
        place: Option<Fixed>,
        fd: Fd,
        part: libc::iovec,
        v6: bool,
        hop_limit: u8,
    ) -> squeue::Entry {
        headers::put_hop_limit(&mut self.control, v6, hop_limit);
        self.part = part;
        self.message.msg_name = match self.length {
            0 => std::ptr::null_mut(),
            _ => self.name.as_mut_ptr().cast(),
        };
        self.message.msg_namelen = self.length;
        self.message.msg_iov = &raw mut self.part;
        self.message.msg_iovlen = 1;
        self.message.msg_control = self.control.as_mut_ptr().cast();
        self.message.msg_controllen = self.control.len();
        let request = match place {
            Some(place) => opcode::SendMsg::new(place, &raw const self.message),
            None => opcode::SendMsg::new(fd, &raw const self.message),
        };
        request.flags(libc::MSG_DONTWAIT as u32).build()
    }
}
