//! The relay's sockets and the thread that pumps packets between them.
//!
//! Plain threads, the workers, as many as wanted: a packet meets no executor, no lock and no channel, and nothing that another
//! worker has, but for one bitmap that it reads. Each worker has its own ports, streams, counters and engine (`pump`); a
//! stream is one worker's at a time, and moves whole when it has to (`router`, `crew`). Commands cross by a queue with an event
//! descriptor to wake a worker; reports leave by a callback, one at a time (`funnel`). Packets are carried by one of two engines, chosen when the
//! thread starts: io_uring where the kernel has what it takes (`uring`), else epoll (`epoll`), which the `Ready` report then
//! names with the reason. With io_uring a port that sends to one address all the time has a second socket, connected to it
//! (`line`).
//!
//! `unsafe` is in `uring` and `buffers` only: memory that is shared with the kernel.
//!
//! The threads end when the [`Handle`] is dropped, or one of them does, and the ports close with them.

mod buffers;
mod crew;
mod epoll;
mod funnel;
mod headers;
mod line;
mod mark;
mod out;
mod pump;
mod router;
mod socket;
mod uring;

use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::resource::{Resource, getrlimit};

use self::crew::{Crew, Desk, Member, Order};
use self::epoll::Epoll;
use self::funnel::Funnel;
use self::pump::{Pump, Wake, clock};
use self::router::Router;
use self::uring::Uring;
use crate::relay::loop_guard::OwnPorts;
use crate::relay::table::Table;
pub use crate::relay::table::{Config, Engine};
use crate::relay::{Command, Report};

/// Starts relays.
#[derive(Debug)]
pub struct Relay;

/// Workers at most.
pub const MAX_WORKERS: usize = 64;

/// A running relay. Dropping it ends the relay.
#[derive(Debug)]
pub struct Handle {
    crew: Arc<Crew>,
    /// Held while orders of one command are given.
    router: Mutex<Router>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts the workers. `reports` runs on them, never twice at once: it must hand over and return. The first report is
    /// `Ready`; it names RLIMIT_NOFILE when that is too small for the pool, which is then smaller.
    ///
    /// # Errors
    /// An address that is unspecified, no address at all, an empty port range, more than [`MAX_WORKERS`], or no descriptor for
    /// a worker's own needs.
    pub fn spawn(mut config: Config, reports: impl FnMut(Report) + Send + 'static) -> io::Result<Handle> {
        check(&config)?;
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let descriptors = limit(&mut config, usize::try_from(soft).unwrap_or(usize::MAX));
        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS),
            workers => workers,
        };
        let descriptors = descriptors / workers.max(1);
        let (crew, desks) = Crew::new(workers)?;
        let router = Mutex::new(Router::new(workers, config.fill));
        let mut handle = Handle { crew, router, threads: Vec::new() };
        let own = config.own_ports();
        let desks = match <[Desk; 1]>::try_from(desks) {
            // As good as no workers at all: nothing stands between the thread and the callback.
            Ok([desk]) => {
                handle.start(desk, (config, descriptors), own, None, reports)?;
                return Ok(handle);
            }
            Err(desks) => desks,
        };
        let funnel = Arc::new(Mutex::new(Funnel::new(workers, reports)));
        let mut fallback = None;
        // The first one last: it says `Ready`, for all.
        for desk in desks.into_iter().rev() {
            let (worker, funnel) = (desk.worker, Arc::clone(&funnel));
            let report = move |report| {
                funnel.lock().unwrap_or_else(PoisonError::into_inner).handle_report(worker, report);
            };
            fallback = handle.start(desk, (config.clone(), descriptors), own.clone(), fallback, report)?;
        }
        Ok(handle)
    }
}

/// The thread. Its engine is made on it: a ring belongs to the thread that made it.
fn run(
    (mut config, descriptors): (Config, usize),
    own: OwnPorts,
    desk: Desk,
    mut fallback: Option<String>,
    reports: impl FnMut(Report),
    started: &mpsc::Sender<io::Result<Option<String>>>,
) {
    let ring = match ring(&config, descriptors, &desk.wake) {
        Ok(ring) => ring,
        Err(why) if config.engine == Engine::Uring => {
            let _ = started.send(Err(why));
            return;
        }
        Err(why) => {
            fallback = fallback.or_else(|| Some(why.to_string()));
            None
        }
    };
    if let Some(why) = &fallback {
        config.shortage = Some(fallen_back(config.shortage.take(), why));
    }
    let table = move || Table::among(clock(), config, own, desk.worker == 0);
    if let Some(engine) = ring {
        let _ = started.send(Ok(fallback));
        return Pump::new(table(), engine, desk, reports).run();
    }
    match Epoll::new(Arc::clone(&desk.wake)) {
        Ok(engine) => {
            let _ = started.send(Ok(fallback));
            Pump::new(table(), engine, desk, reports).run();
        }
        Err(error) => drop(started.send(Err(error.into()))),
    }
}

/// The words of the `Ready` report that say why the fallback is used.
fn fallen_back(shortage: Option<String>, why: &str) -> String {
    let text = format!("io_uring can't be used ({why}): packets are carried with epoll, at more cost");
    match shortage {
        Some(other) => format!("{other}; {text}"),
        None => text,
    }
}

/// The ring, unless it is not wanted.
fn ring(config: &Config, descriptors: usize, wake: &Arc<Wake>) -> io::Result<Option<Uring>> {
    if config.engine == Engine::Epoll {
        Ok(None)
    } else {
        Uring::new(Arc::clone(wake), descriptors).map(Some)
    }
}

impl Handle {
    /// Starts a worker, whose ports may have lines up to so many descriptors, and waits until it runs. `fallback`: why one before it does without io_uring; gives the same.
    fn start(
        &mut self,
        desk: Desk,
        config: (Config, usize),
        own: OwnPorts,
        fallback: Option<String>,
        reports: impl FnMut(Report) + Send + 'static,
    ) -> io::Result<Option<String>> {
        let name = match desk.worker {
            0 => "media-relay".to_owned(),
            worker => format!("media-relay-{worker}"),
        };
        let (started, start) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            // Also when it panics: who holds the handle must see that there is no relay.
            let _member = Member(Arc::clone(&desk.crew));
            run(config, own, desk, fallback, reports, &started);
        })?;
        self.threads.push(thread);
        start.recv().unwrap_or_else(|_| Err(io::Error::other("the relay's thread ended at once")))
    }

    /// Hands a command over; it is executed after those before it. Never blocks. `false`: the relay has ended.
    pub fn send(&self, command: Command) -> bool {
        let sent = if self.crew.len() == 1 {
            self.crew.order(0, Order::Command(command))
        } else {
            // Until all are told: their order is one for all workers.
            let mut router = self.router.lock().unwrap_or_else(PoisonError::into_inner);
            router.route(command).fold(true, |sent, (worker, order)| self.crew.order(worker, order) && sent)
        };
        sent && self.is_running()
    }

    /// Whether the threads run.
    pub fn is_running(&self) -> bool {
        self.crew.is_complete()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.crew.end();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn check(config: &Config) -> io::Result<()> {
    let sides = [config.outside, config.inside];
    let refuse = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    for addresses in sides {
        if addresses.families().next().is_none() {
            return refuse("a side of the relay has no address");
        }
        for address in addresses.families().filter_map(|family| addresses.of(family)) {
            if address.local.is_unspecified() || address.advertised.is_unspecified() {
                return refuse("the relay needs addresses of its own, not 0.0.0.0 or ::");
            }
        }
    }
    if config.workers > MAX_WORKERS {
        return refuse("the relay has 64 workers at most");
    }
    if config.ports.end().saturating_sub(*config.ports.start()) < 2 || *config.ports.start() == 0 {
        return refuse("the port range of the relay holds no pair");
    }
    Ok(())
}

/// Fits the pool to the descriptors: two a pair, and at least half or a quarter of them left for everybody else. Gives up to how
/// many ports and lines there may be more lines: two thirds of all that is ours, so that lines, which are one for two ports, leave
/// others a third of theirs even if all ports are bound after them.
fn limit(config: &mut Config, descriptors: usize) -> usize {
    let others = (descriptors / 4).max(256).min(descriptors / 2);
    config.capacity = config.capacity.min((descriptors - others) / 2);
    if config.pool > config.capacity {
        config.shortage = Some(format!(
            "RLIMIT_NOFILE is {descriptors}: {} of {} port pairs can be bound ahead, {others} descriptors are left for others",
            config.capacity, config.pool
        ));
        config.pool = config.capacity;
    }
    (descriptors - others) / 3 * 2
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::policy::Addresses;

    fn config() -> Config {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        Config::new(ip.into(), ip.into(), [0; 32])
    }

    #[test]
    fn descriptors_limit_the_pool_and_are_named() {
        let mut small = config();
        assert_eq!(limit(&mut small, 256), 84);
        assert_eq!((small.pool, small.capacity), (64, 64));
        assert!(small.shortage.as_deref().is_some_and(|text| text.contains("RLIMIT_NOFILE is 256")));
        let mut usual = config();
        assert_eq!(limit(&mut usual, 1024), 512);
        assert_eq!((usual.pool, usual.capacity, usual.shortage), (256, 384, None));
    }

    #[test]
    fn the_fallback_is_named_with_its_reason() {
        let why = &io::Error::from_raw_os_error(nix::libc::EPERM).to_string();
        let text = "io_uring can't be used (Operation not permitted (os error 1)): packets are carried with epoll, at more cost";
        assert_eq!(fallen_back(None, why), text);
        assert_eq!(fallen_back(Some("few".into()), why), format!("few; {text}"));
    }

    #[test]
    fn what_can_not_run_is_refused() {
        let any: IpAddr = "0.0.0.0".parse().unwrap();
        for broken in [
            Config { outside: any.into(), ..config() },
            Config { inside: Addresses::default(), ..config() },
            Config { ports: 20000..=20001, ..config() },
            Config { workers: MAX_WORKERS + 1, ..config() },
        ] {
            assert!(Relay::spawn(broken, |_| {}).is_err());
        }
    }
}
