//! The relay's sockets and the thread that pumps packets between them.
//!
//! A plain thread: a packet meets no executor, no lock and no channel. Commands cross by a queue with an event descriptor to
//! wake the thread; reports leave by a callback on that thread. Packets are carried by one of two engines, chosen when the
//! thread starts: io_uring where the kernel has what it takes (`uring`), else epoll (`epoll`), which the `Ready` report then
//! names with the reason.
//!
//! `unsafe` is in `uring` and `buffers` only: memory that is shared with the kernel.
//!
//! The thread ends when its [`Handle`] is dropped, and its ports close with it.

mod buffers;
mod epoll;
mod headers;
mod pump;
mod socket;
mod uring;

use std::io;
use std::sync::mpsc;
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::thread::JoinHandle;

use nix::sys::resource::{Resource, getrlimit};

use self::epoll::Epoll;
use self::pump::{Pump, Wake, clock};
use self::uring::Uring;
use crate::relay::table::Table;
pub use crate::relay::table::{Config, Engine};
use crate::relay::{Command, Report};

/// Starts relays.
#[derive(Debug)]
pub struct Relay;

/// A running relay. Dropping it ends the relay.
#[derive(Debug)]
pub struct Handle {
    commands: Option<mpsc::Sender<Command>>,
    wake: Arc<Wake>,
    running: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts the thread. `reports` runs on it: it must hand over and return. The first report is `Ready`; it names
    /// RLIMIT_NOFILE when that is too small for the pool, which is then smaller.
    ///
    /// # Errors
    /// An address that is unspecified, no address at all, an empty port range, or no descriptor for the thread's own needs.
    pub fn spawn(mut config: Config, reports: impl FnMut(Report) + Send + 'static) -> io::Result<Handle> {
        check(&config)?;
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        limit(&mut config, usize::try_from(soft).unwrap_or(usize::MAX));
        let (commands, inbox) = mpsc::channel();
        let wake = Arc::new(Wake::new()?);
        let running = Arc::new(AtomicBool::new(true));
        let (flag, bell) = (Arc::clone(&running), Arc::clone(&wake));
        let (started, start) = mpsc::channel();
        let thread = std::thread::Builder::new().name("media-relay".into()).spawn(move || {
            // Also when it panics: who holds the handle must see that there is no relay.
            let _ended = Ended(flag);
            run(config, bell, inbox, reports, &started);
        })?;
        match start.recv() {
            Ok(Ok(())) => Ok(Handle { commands: Some(commands), wake, running, thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the relay's thread ended at once")),
        }
    }
}

/// The thread. Its engine is made on it: a ring belongs to the thread that made it.
fn run(
    mut config: Config,
    wake: Arc<Wake>,
    inbox: mpsc::Receiver<Command>,
    reports: impl FnMut(Report),
    started: &mpsc::Sender<io::Result<()>>,
) {
    match ring(&config, &wake) {
        Ok(Some(engine)) => {
            let _ = started.send(Ok(()));
            return Pump::new(Table::new(clock(), config), engine, inbox, reports).run();
        }
        Ok(None) => {}
        Err(why) if config.engine == Engine::Uring => {
            let _ = started.send(Err(why));
            return;
        }
        Err(why) => {
            config.shortage = Some(fallen_back(config.shortage.take(), &why));
        }
    }
    match Epoll::new(wake) {
        Ok(engine) => {
            let _ = started.send(Ok(()));
            Pump::new(Table::new(clock(), config), engine, inbox, reports).run();
        }
        Err(error) => drop(started.send(Err(error.into()))),
    }
}

/// The words of the `Ready` report that say why the fallback is used.
fn fallen_back(shortage: Option<String>, why: &io::Error) -> String {
    let text = format!("io_uring can't be used ({why}): packets are carried with epoll, at more cost");
    match shortage {
        Some(other) => format!("{other}; {text}"),
        None => text,
    }
}

/// The ring, unless it is not wanted.
fn ring(config: &Config, wake: &Arc<Wake>) -> io::Result<Option<Uring>> {
    if config.engine == Engine::Epoll { Ok(None) } else { Uring::new(Arc::clone(wake)).map(Some) }
}

impl Handle {
    /// Hands a command over; it is executed after those before it. Never blocks. `false`: the relay has ended.
    pub fn send(&self, command: Command) -> bool {
        let sent = self.commands.as_ref().is_some_and(|commands| commands.send(command).is_ok());
        self.wake.ring();
        sent && self.is_running()
    }

    /// Whether the thread runs.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.commands = None;
        self.wake.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
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
    if config.ports.end().saturating_sub(*config.ports.start()) < 2 || *config.ports.start() == 0 {
        return refuse("the port range of the relay holds no pair");
    }
    Ok(())
}

/// Fits the pool to the descriptors: two a pair, and at least half or a quarter of them left for everybody else.
fn limit(config: &mut Config, descriptors: usize) {
    let others = (descriptors / 4).max(256).min(descriptors / 2);
    config.capacity = config.capacity.min((descriptors - others) / 2);
    if config.pool > config.capacity {
        config.shortage = Some(format!(
            "RLIMIT_NOFILE is {descriptors}: {} of {} port pairs can be bound ahead, {others} descriptors are left for others",
            config.capacity, config.pool
        ));
        config.pool = config.capacity;
    }
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
        limit(&mut small, 256);
        assert_eq!((small.pool, small.capacity), (64, 64));
        assert!(small.shortage.as_deref().is_some_and(|text| text.contains("RLIMIT_NOFILE is 256")));
        let mut usual = config();
        limit(&mut usual, 1024);
        assert_eq!((usual.pool, usual.capacity, usual.shortage), (256, 384, None));
    }

    #[test]
    fn the_fallback_is_named_with_its_reason() {
        let why = io::Error::from_raw_os_error(nix::libc::EPERM);
        let text = "io_uring can't be used (Operation not permitted (os error 1)): packets are carried with epoll, at more cost";
        assert_eq!(fallen_back(None, &why), text);
        assert_eq!(fallen_back(Some("few".into()), &why), format!("few; {text}"));
    }

    #[test]
    fn what_can_not_run_is_refused() {
        let any: IpAddr = "0.0.0.0".parse().unwrap();
        for broken in [
            Config { outside: any.into(), ..config() },
            Config { inside: Addresses::default(), ..config() },
            Config { ports: 20000..=20001, ..config() },
        ] {
            assert!(Relay::spawn(broken, |_| {}).is_err());
        }
    }
}
