//! io_uring: one receive a port that goes on by itself into shared buffers, and the sends of a turn in one call.
//!
//! Needs Linux 6.1: rings whose completions run on the thread that asks (`DEFER_TASKRUN`), buffer rings (5.19) and receives
//! that go on (6.0). Where the kernel can wait for several packets but not too long (6.12), it does.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use nix::errno::Errno;
use nix::libc;

use super::buffers::Buffers;
use super::headers::{self, CONTROL, NAME};
use super::line::Way;
use super::mark::{BELL, CANCEL, Mark, RECEIVE, SEND, Which};
use super::out::Out;
use super::pump::{COALESCE, Engine, Moment, Turn, Wake, clock};
use super::socket::{Hop, Pair, Ports};
use crate::relay::stream::{Packet, Passed};
use crate::relay::table::{Forward, Slot, Table};

/// Requests handed over in one call.
const REQUESTS: u32 = 512;
/// Completions the kernel has room for; it keeps further ones and gives them later.
const COMPLETIONS: u32 = 4096;
/// Completions taken in one turn.
const BATCH: usize = 256;
/// Packets that a wait is for, unless [`COALESCE`] is over first.
const GROUP: usize = 64;
/// How long a receive rests that failed. The table's own deadlines end each wait after a second.
const REST: Duration = Duration::from_secs(1);
/// Descriptors that may be registered. Ports beyond are named by descriptor, at a little more cost.
const FILES: u32 = 32_768;
/// The group of buffers.
const BUFFERS: u16 = 0;

mod lines;

pub(super) struct Uring {
    // First: it is closed before the memory it was given is freed.
    ring: IoUring,
    buffers: Buffers,
    /// How a receive is to lay out what it got.
    layout: Box<libc::msghdr>,
    outs: Box<[Out]>,
    /// So many of `outs` are in use, until the kernel has taken them.
    queued: usize,
    /// Buffers that sends still read from.
    used: Vec<u16>,
    done: Vec<Done>,
    /// Receives that ended and are to go on.
    resume: Vec<Mark>,
    /// Receives that failed: tried again after [`REST`], so that a broken port can't keep the thread busy.
    resting: Vec<Mark>,
    rest_until: Instant,
    wake: Arc<Wake>,
    wake_armed: bool,
    /// The kernel can wait for a group.
    groups: bool,
    /// So many descriptors may be registered: the kernel finds them without counting who uses them.
    files: u32,
    /// Ports that are to have a line.
    dials: Vec<Mark>,
    /// Lines there are.
    lines: usize,
    /// Descriptors of ports and lines up to which there may be more lines.
    descriptors: usize,
}

#[derive(Debug, Clone, Copy)]
struct Done {
    mark: u64,
    result: i32,
    flags: u32,
}

impl Uring {
    /// # Errors
    /// What the kernel lacks or forbids. Must be called on the thread that will use it.
    pub(super) fn new(wake: Arc<Wake>, descriptors: usize) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(REQUESTS)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [
            opcode::RecvMsgMulti::CODE,
            opcode::SendMsg::CODE,
            opcode::Send::CODE,
            opcode::PollAdd::CODE,
            opcode::AsyncCancel::CODE,
        ];
        let able = needed.iter().all(|code| probe.is_supported(*code)) && ring.params().is_feature_ext_arg();
        if !able || !ring.params().is_feature_nodrop() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel lacks an operation"));
        }
        let groups = ring.params().is_feature_min_timeout();
        // Bounded by RLIMIT_NOFILE, and never needed.
        let halves =
            std::iter::successors(Some(FILES), |files| Some(files / 2)).take_while(|files| *files >= 64);
        let files = halves.into_iter().find(|files| ring.submitter().register_files_sparse(*files).is_ok());
        let buffers = Buffers::register(&ring, BUFFERS)?;
        let mut layout = Box::new(empty_message());
        (layout.msg_namelen, layout.msg_controllen) = (NAME as u32, CONTROL);
        let outs = (0..BATCH).map(|_| Out::new(empty_message())).collect();
        Ok(Self {
            ring,
            buffers,
            layout,
            outs,
            queued: 0,
            used: Vec::with_capacity(2 * BATCH),
            done: Vec::with_capacity(BATCH),
            resume: Vec::new(),
            resting: Vec::new(),
            rest_until: clock(),
            wake,
            wake_armed: false,
            groups,
            files: files.unwrap_or(0),
            dials: Vec::new(),
            lines: 0,
            descriptors,
        })
    }

    /// Queues a request; makes room first where there is none.
    ///
    /// # Safety
    /// What the request points to must stay where it is until the kernel has taken it.
    #[allow(unsafe_code)]
    unsafe fn push(&mut self, request: &squeue::Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: the caller's promise.
            if unsafe { self.ring.submission().push(request) }.is_ok() {
                return true;
            }
            self.flush();
        }
        false
    }

    /// Hands over what is queued, without waiting. The sends are done when this returns: they never wait for room.
    fn flush(&mut self) {
        let _ = self.ring.submit();
        self.recycle();
    }

    /// The kernel has read what it was to send: its buffers may be filled again.
    fn recycle(&mut self) {
        if self.ring.submission().is_empty() {
            self.queued = 0;
            self.buffers.give(self.used.drain(..));
        }
    }

    /// The place of a socket among the registered descriptors.
    fn place(&self, slot: Slot, socket: Which) -> Option<Fixed> {
        let place = u32::try_from(slot.0).ok()?.checked_mul(3)?.checked_add(socket.number())?;
        (place < self.files).then_some(Fixed(place))
    }

    /// Registers the descriptors of sockets, one behind the other; -1: none.
    fn register(&mut self, slot: Slot, first: Which, descriptors: &[i32]) {
        if let Some(place) = self.place(slot, first)
            && self.ring.submitter().register_files_update(place.0, descriptors).is_err()
        {
            // Want of kernel memory: what has no place is not used by place.
            self.files = self.files.min(place.0);
        }
    }

    #[allow(unsafe_code)]
    fn receive(&mut self, mark: Mark, fd: i32) {
        let request = match self.place(mark.slot, mark.socket) {
            Some(place) => opcode::RecvMsgMulti::new(place, &*self.layout, BUFFERS).build(),
            None => opcode::RecvMsgMulti::new(Fd(fd), &*self.layout, BUFFERS).build(),
        };
        // SAFETY: the layout is boxed and lives as long as the ring.
        let queued = unsafe { self.push(&request.user_data(mark.pack(RECEIVE))) };
        if !queued {
            self.resume.push(mark);
        }
    }

    #[allow(unsafe_code)]
    fn cancel(&mut self, mark: Mark) {
        let request = opcode::AsyncCancel::new(mark.pack(RECEIVE)).build();
        // SAFETY: it points to nothing.
        unsafe { self.push(&request.user_data(CANCEL << 61).flags(squeue::Flags::SKIP_SUCCESS)) };
    }

    /// Arms what has ended, after the buffers it may have wanted are back.
    fn resume(&mut self, ports: &Ports) {
        if !self.resume.is_empty() {
            self.flush();
        }
        for _ in 0..self.resume.len() {
            let Some(mark) = self.resume.pop() else { break };
            let pair = ports.pair(mark.slot).filter(|pair| pair.generation == mark.generation);
            if let Some(fd) = pair.and_then(|pair| pair.raw(mark.socket)) {
                self.receive(mark, fd);
            }
        }
    }

    #[allow(unsafe_code)]
    fn arm_wake(&mut self) {
        use std::os::fd::{AsFd, AsRawFd};
        let fd = Fd(self.wake.event().as_fd().as_raw_fd());
        let request = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build().user_data(BELL << 61);
        // SAFETY: it points to nothing; the descriptor is held by `wake`.
        self.wake_armed = unsafe { self.push(&request) };
    }

    /// Hands over what is queued and waits: for a group of packets, or one after [`COALESCE`], or the end of `wait`.
    fn enter(&mut self, wait: Duration) -> nix::Result<()> {
        let time = Timespec::from(wait);
        let (want, least) = match (wait.is_zero() || !self.ring.completion().is_empty(), self.groups) {
            (true, _) => (0, Duration::ZERO),
            (false, true) => (GROUP, COALESCE.min(wait)),
            (false, false) => (1, Duration::ZERO),
        };
        let mut args = SubmitArgs::new().timespec(&time);
        if !least.is_zero() {
            args = args.min_wait_usec(u32::try_from(least.as_micros()).unwrap_or(0));
        }
        let entered = self.ring.submitter().submit_with_args(want, &args);
        self.recycle();
        match entered.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)) {
            Ok(_) | Err(Errno::ETIME | Errno::EINTR | Errno::EBUSY | Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A receive has a packet, or has ended.
    fn arrived(&mut self, moment: Moment, mark: Mark, done: Done, table: &mut Table, ports: &mut Ports) {
        let live = mark.is_live(ports);
        if let Some(id) = cqueue::buffer_select(done.flags) {
            if live && let Ok(length) = usize::try_from(done.result) {
                self.relay(moment, mark, (id, length), table, ports);
            }
            self.used.push(id);
        }
        // Out of buffers, or at the end of its round: it goes on. Cancelled with its port, it does not.
        if live && !cqueue::more(done.flags) {
            if done.result >= 0 || done.result == -libc::ENOBUFS {
                self.resume.push(mark);
            } else if mark.socket == Which::Line && done.result == -libc::ECANCELED {
                // The line it was of is cut already.
            } else if mark.socket == Which::Line {
                self.cut(mark, table, ports);
            } else {
                self.rest_until = moment.now + REST;
                self.resting.push(mark);
            }
        }
    }

    fn relay(
        &mut self,
        moment: Moment,
        mark: Mark,
        filled: (u16, usize),
        table: &mut Table,
        ports: &mut Ports,
    ) {
        let buffer = self.buffers.filled(filled.0, filled.1);
        let Ok(message) = RecvMsgOut::parse(buffer, &self.layout) else { return };
        let notes = headers::notes(message.control_data());
        if let Some(total) = notes.lost
            && let Some(pair) = ports.pair_mut(mark.slot)
        {
            table.handle_overflow(mark.slot, pair.lost(mark.socket, total));
        }
        if message.is_payload_truncated() {
            table.handle_oversize(mark.slot);
            return;
        }
        let Some(source) = headers::address(message.name_data()) else { return };
        let bytes = message.payload_data();
        let component = mark.socket.component();
        let packet = Packet { component, source, hop_limit: notes.hop_limit, bytes };
        let Some(forward) = table.handle_packet(moment.of(notes.arrived), mark.slot, &packet) else { return };
        // The table's own are good until its next packet, the buffer of what came until the kernel has read it.
        let bytes = match (forward.answer, forward.changed) {
            (true, _) => self.buffers.put(filled.0, table.answer()),
            (_, true) => self.buffers.put(filled.0, table.changed()),
            _ => bytes,
        };
        let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        if !self.send(&forward, part, ports) {
            table.handle_send_error(mark.slot);
        }
    }

    /// Queues a packet. `part` must stay as it is until the kernel has taken the request.
    #[allow(unsafe_code)]
    fn send(&mut self, forward: &Forward, part: libc::iovec, ports: &mut Ports) -> bool {
        // Room for the request too: to hand it over must not make room, which would take back its own place in `outs`.
        if self.queued == self.outs.len() || self.ring.submission().is_full() {
            self.flush();
        }
        let Passed { component, hop_limit, .. } = forward.passed;
        let Some(pair) = ports.pair_mut(forward.slot) else { return false };
        let hop = pair.hop(component, hop_limit);
        if hop == Hop::Settle {
            self.flush();
            pair.settle(component, hop_limit);
        }
        let way = pair.way(component, forward.to);
        let socket = Which::of(component, way);
        let Some(fd) = pair.raw(socket).map(Fd) else { return false };
        let by = Mark { socket, slot: forward.slot, generation: pair.generation };
        if way == Way::Dial {
            self.dials.push(Mark { socket: Which::Line, ..by });
        }
        let place = self.place(forward.slot, socket);
        let Some(out) = self.outs.get_mut(self.queued) else { return false };
        // A line knows where it leads.
        out.address((way != Way::Line).then_some(forward.to));
        let request = match hop {
            Hop::Socket => out.plain(place, fd, part),
            _ => out.marked(place, fd, part, forward.to.is_ipv6(), hop_limit),
        };
        let request = request.user_data(by.pack(SEND)).flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: name, message and control lie in `outs`, which is boxed; their place counts as taken, so that nobody touches
        // it before `recycle`. The packet lies in a buffer that is not given back before.
        let queued = unsafe { self.ring.submission().push(&request) }.is_ok();
        self.queued += usize::from(queued);
        queued
    }
}

impl Engine for Uring {
    fn watch(&mut self, slot: Slot, pair: &Pair) {
        let all = Which::ALL.map(|socket| pair.raw(socket));
        self.register(slot, Which::Rtp, &all.map(|fd| fd.unwrap_or(-1)));
        // One that comes from another worker brings its line along.
        self.lines += usize::from(pair.line().is_some());
        for (socket, fd) in Which::ALL.into_iter().zip(all) {
            if let Some(fd) = fd {
                self.receive(Mark { socket, slot, generation: pair.generation }, fd);
            }
        }
    }

    fn unwatch(&mut self, slot: Slot, pair: &Pair) {
        for socket in Which::ALL.into_iter().filter(|socket| pair.raw(*socket).is_some()) {
            self.cancel(Mark { socket, slot, generation: pair.generation });
        }
        self.lines = self.lines.saturating_sub(usize::from(pair.line().is_some()));
        // Before the descriptors are closed and their numbers used again: what is queued names them.
        self.flush();
        if let Some(place) = self.place(slot, Which::Rtp) {
            let _ = self.ring.submitter().register_files_update(place.0, &[-1; Which::ALL.len()]);
        }
    }

    fn turn(&mut self, table: &mut Table, ports: &mut Ports, wait: Duration) -> nix::Result<Turn> {
        if !self.wake_armed {
            self.arm_wake();
        }
        if !self.resting.is_empty() && clock() >= self.rest_until {
            self.resume.append(&mut self.resting);
        }
        self.dial(ports);
        self.resume(ports);
        self.enter(wait)?;
        self.done.clear();
        let (completions, done) = (self.ring.completion(), &mut self.done);
        done.extend(completions.take(BATCH).map(|entry| Done {
            mark: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        let (moment, mut woken) = (Moment::now(), false);
        for at in 0..self.done.len() {
            let Some(done) = self.done.get(at).copied() else { break };
            match Mark::unpack(done.mark) {
                (RECEIVE, mark) => self.arrived(moment, mark, done, table, ports),
                (SEND, mark) if mark.is_live(ports) => self.refused(mark, table, ports),
                (BELL, _) => {
                    self.wake.clear();
                    self.wake_armed = cqueue::more(done.flags);
                    woken = true;
                }
                _ => {}
            }
        }
        let busy = !self.resume.is_empty() || !self.ring.completion().is_empty();
        Ok(Turn { woken, busy })
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Nothing may write into the buffers once they are freed, and the ports are to be closed when this returns: a
        // receive holds its socket until its last completion was taken.
        let time = Some(Timespec::new().sec(1));
        let _ = self.ring.submitter().register_sync_cancel(time, CancelBuilder::any());
        let _ = self.ring.submitter().unregister_files();
        while self.ring.submit().is_ok() && self.ring.completion().count() > 0 {}
    }
}

/// A message header without name, parts and control.
#[allow(unsafe_code)]
fn empty_message() -> libc::msghdr {
    // SAFETY: a message header of zeros is one without name, parts and control; some platforms have padding in it that no
    // literal can name.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::net::socket::Port;
    use crate::relay::Component;

    #[test]
    fn a_packet_queued_when_there_was_no_room_goes_where_it_should() {
        // A kernel without rings has nothing to be tested.
        let Ok(mut uring) = Uring::new(Arc::new(Wake::new().unwrap()), 0) else { return };
        let port = || Port::bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let (mut ports, slot) = (Ports::default(), Slot(0));
        ports.install(slot, Pair::new(port(), port())).unwrap();
        let nothing = opcode::Nop::new().build().user_data(CANCEL << 61);
        #[allow(unsafe_code)]
        // SAFETY: it points to nothing.
        while unsafe { uring.ring.submission().push(&nothing) }.is_ok() {}
        // Not by a registered descriptor: `watch` was not called.
        uring.files = 0;
        let ends = [b"a", b"b"].map(|text| {
            let end = UdpSocket::bind("127.0.0.1:0").unwrap();
            end.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let passed =
                Passed { component: Component::Rtp, hop_limit: 64, sender_report: None, borrowed: false };
            let to = end.local_addr().unwrap();
            let part = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: 1 };
            assert!(uring.send(
                &Forward { slot, passed, to, answer: false, changed: false },
                part,
                &mut ports
            ));
            (end, text)
        });
        uring.flush();
        for (end, text) in ends {
            let mut got = [0; 4];
            assert_eq!((end.recv(&mut got).unwrap(), got[0]), (1, text[0]));
        }
    }
}
