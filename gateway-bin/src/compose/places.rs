//! Bounded places for connections. A newcomer always gets one: when all are taken, the oldest place of whoever holds the most is
//! lost (S16). So nobody is shut out by peers that stall, and a crowd from one address displaces itself.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// Who holds places: the key of a certificate, or an address where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Holder {
    Certificate([u8; 32]),
    Address(IpAddr),
}

impl Holder {
    /// IPv6 peers have 2^64 addresses to come from: what counts is the network.
    pub(crate) fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
            v4 => v4,
        })
    }
}

/// A number of places, of which each holder may have some. Clones share them.
#[derive(Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
}

struct Taken {
    total: usize,
    each: usize,
    count: usize,
    last: u64,
    /// By age. What is dropped with an entry tells its place.
    holders: HashMap<Holder, BTreeMap<u64, oneshot::Sender<()>>>,
}

impl Places {
    /// `total` places, `each` for one holder at most.
    pub(crate) fn new(total: usize, each: usize) -> Self {
        let taken = Taken { total, each, count: 0, last: 0, holders: HashMap::new() };
        Self { taken: Arc::new(Mutex::new(taken)) }
    }

    /// So many for one holder from the next on.
    pub(crate) fn allow_each(&self, each: usize) {
        lock(&self.taken).each = each;
    }

    /// A place for `holder`; another one may be lost for it.
    pub(crate) fn take(&self, holder: Holder) -> Place {
        let (sender, lost) = oneshot::channel();
        let mut taken = lock(&self.taken);
        if taken.holders.get(&holder).is_some_and(|own| own.len() >= taken.each) {
            taken.displace(&holder);
        } else if taken.count >= taken.total
            && let Some(most) = taken.most()
        {
            taken.displace(&most);
        }
        taken.last += 1;
        taken.count += 1;
        let number = taken.last;
        taken.holders.entry(holder).or_default().insert(number, sender);
        drop(taken);
        Place { taken: self.taken.clone(), holder, number, lost: Some(lost) }
    }
}

impl Taken {
    /// Who holds the most; of several, who has been there longest.
    fn most(&self) -> Option<Holder> {
        let age = |places: &BTreeMap<u64, _>| std::cmp::Reverse(places.keys().next().copied());
        self.holders.iter().max_by_key(|(_, places)| (places.len(), age(places))).map(|(holder, _)| *holder)
    }

    fn displace(&mut self, holder: &Holder) {
        if let Some(oldest) = self.holders.get(holder).and_then(|places| places.keys().next().copied()) {
            self.leave(holder, oldest);
        }
    }

    fn leave(&mut self, holder: &Holder, number: u64) {
        let Some(places) = self.holders.get_mut(holder) else { return };
        if places.remove(&number).is_some() {
            self.count -= 1;
        }
        if places.is_empty() {
            self.holders.remove(holder);
        }
    }
}

/// One place, until it is dropped or lost.
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    holder: Holder,
    number: u64,
    /// `None` once it is known to be lost.
    lost: Option<oneshot::Receiver<()>>,
}

impl Place {
    /// Does `work` while the place lasts; `None` when it was lost before the work was done.
    pub(crate) async fn hold<F: Future>(mut self, work: F) -> Option<F::Output> {
        tokio::select! {
            done = work => Some(done),
            () = poll_fn(|cx| self.poll_lost(cx)) => None,
        }
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(lost) = &mut self.lost else { return Poll::Ready(()) };
        std::task::ready!(Pin::new(lost).poll(cx)).unwrap_or_default();
        self.lost = None;
        Poll::Ready(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).leave(&self.holder, self.number);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that breaks when its place is lost.
pub(crate) struct Placed<S> {
    stream: S,
    place: Place,
}

impl<S> Placed<S> {
    pub(crate) fn new(stream: S, place: Place) -> Self {
        Self { stream, place }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Placed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.place.poll_lost(cx).is_ready() {
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, "made way for a newer connection");
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Placed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
