//! Memory that the kernel puts packets into: equal buffers, lent to it by a ring of their addresses.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// How many: 10 ms of a thousand calls. What comes when all are full waits in its port's own queue.
const COUNT: u16 = 2048;
/// Octets of each.
const SIZE: usize = super::headers::BUFFER;
/// What the ring of addresses has to be aligned to, at least: a page.
const PAGE: usize = 4096;

/// The buffers of one ring. It must be dropped after the ring.
#[derive(Debug)]
pub(super) struct Buffers {
    ring: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    tail: u16,
}

impl Buffers {
    /// Allocates all, writes to each so that no packet meets a page fault, and lends them to the kernel.
    #[allow(unsafe_code)]
    pub(super) fn register(ring: &IoUring, group: u16) -> io::Result<Self> {
        let full = || io::Error::from(io::ErrorKind::OutOfMemory);
        let (addresses, memory) = layouts().ok_or_else(full)?;
        // SAFETY: neither layout is empty.
        let (entries, bytes) = unsafe { (alloc_zeroed(addresses), alloc_zeroed(memory)) };
        let (Some(entries), Some(bytes)) =
            (NonNull::new(entries.cast::<BufRingEntry>()), NonNull::new(bytes))
        else {
            return Err(full());
        };
        let mut buffers = Self { ring: entries, bytes, tail: 0 };
        for page in 0..(usize::from(COUNT) * SIZE / PAGE) {
            // SAFETY: within the allocation. Volatile: zeros over zeros would be left out.
            unsafe { bytes.as_ptr().add(page * PAGE).write_volatile(0) };
        }
        buffers.give(0..COUNT);
        // SAFETY: the ring of addresses is page-aligned, of COUNT entries, and freed only after `ring` is closed.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, COUNT, group, 0)?;
        }
        Ok(buffers)
    }

    /// What the kernel has put into a buffer that it named in a completion and that was not given back since.
    #[allow(unsafe_code)]
    pub(super) fn filled(&self, id: u16, length: usize) -> &[u8] {
        let at = usize::from(id.min(COUNT - 1)) * SIZE;
        // SAFETY: within the allocation, all of it written; the kernel does not touch a buffer it has handed out.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().add(at), length.min(SIZE)) }
    }

    /// Writes what fits over what the kernel had put into a buffer, under the terms of [`Buffers::filled`].
    #[allow(unsafe_code)]
    pub(super) fn put(&mut self, id: u16, bytes: &[u8]) -> &[u8] {
        let at = usize::from(id.min(COUNT - 1)) * SIZE;
        // SAFETY: as in `filled`; nobody else holds a part of it, for we are borrowed mutably.
        let buffer = unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr().add(at), SIZE) };
        let length = bytes.len().min(SIZE);
        buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        buffer.get(..length).unwrap_or_default()
    }

    /// Lends buffers to the kernel.
    #[allow(unsafe_code)]
    pub(super) fn give(&mut self, ids: impl Iterator<Item = u16>) {
        let before = self.tail;
        for id in ids.filter(|id| *id < COUNT) {
            // SAFETY: within the ring; the kernel reads an entry only after the tail has passed it.
            let entry = unsafe { &mut *self.ring.as_ptr().add(usize::from(self.tail & (COUNT - 1))) };
            // SAFETY: within the allocation.
            entry.set_addr(unsafe { self.bytes.as_ptr().add(usize::from(id) * SIZE) } as u64);
            entry.set_len(SIZE as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            // SAFETY: the tail lies in the first entry, aligned; the kernel reads it while we write, hence atomic.
            let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring.as_ptr()).cast_mut()) };
            tail.store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if let Some((addresses, memory)) = layouts() {
            // SAFETY: allocated by `register` with these layouts; the ring that used them is closed.
            unsafe {
                dealloc(self.ring.as_ptr().cast(), addresses);
                dealloc(self.bytes.as_ptr(), memory);
            }
        }
    }
}

fn layouts() -> Option<(Layout, Layout)> {
    let addresses = Layout::from_size_align(usize::from(COUNT) * size_of::<BufRingEntry>(), PAGE).ok()?;
    let memory = Layout::from_size_align(usize::from(COUNT) * SIZE, PAGE).ok()?;
    Some((addresses, memory))
}
