//! The relay and its one guest: a signalling process.

use std::time::{Duration, Instant};

use sdp_core::net::{Handle, Relay};
use sdp_core::relay::wire::{FromRelay, Instance, Setup, ToRelay, Welcome};
use sdp_core::relay::{Command, Report};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{error, info, warn};

use super::census::Census;
use super::door::{Caller, Door, Found};
use crate::compose::media_process::{deliver, instance, receive, relay};
use crate::report;

/// Messages that wait for the guest, at most; more, and it is taken for dead.
const WAITING: usize = 8_192;
/// Commands of the guest that wait for us; then it waits.
const UNREAD: usize = 1_024;
/// Sessions without signalling are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// A guest that says nothing for so long hangs (it asks every 3 s whether we are there): who comes then takes its place.
const HANGS: Duration = Duration::from_secs(10);
/// So long, and up to a [`TICK`] more, somebody waits at the door while the guest is there: one that was killed just now may
/// not be known to be gone. He himself waits five seconds for an answer.
const AT_THE_DOOR: Duration = Duration::from_secs(1);

/// What a signalling process says, with the number of its visit.
type Said = (u64, Option<ToRelay>);

/// The relay, once somebody has said which.
pub(super) struct Host {
    relay: Option<(Setup, Handle)>,
    guest: Option<Guest>,
    /// Who comes while the guest is there.
    waiting: Option<(Instant, Caller)>,
    /// What was said last of the socket that nobody finds.
    unreachable: Option<Found>,
    census: Census,
    spawned: bool,
    visits: u64,
    said: mpsc::Sender<Said>,
    reports: mpsc::UnboundedSender<Report>,
}

struct Guest {
    visit: u64,
    instance: Instance,
    /// Its process as the kernel knows it.
    pid: Option<i32>,
    /// When it said something last.
    heard: Instant,
    messages: mpsc::Sender<FromRelay>,
    /// Whether what the relay says is for it: not before the snapshot that it asked for, or it would hear of leases of others.
    hears: bool,
    reader: AbortHandle,
}

impl Guest {
    /// Whether it says something now and then.
    fn is_there(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < HANGS
    }
}

/// Says no.
fn decline(caller: Caller, reason: String) {
    let Instance { process, program: version } = caller.hello.instance;
    warn!(process, version, reason, "a signalling process is refused");
    let (_, write) = caller.stream.into_split();
    let (messages, queue) = mpsc::channel(1);
    let _ = messages.try_send(FromRelay::Declined { reason });
    tokio::spawn(deliver(write, queue));
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The writer ends when all is written.
        self.reader.abort();
    }
}

impl Host {
    /// Serves until it is told to end (`stop`), or has nothing more to do.
    ///
    /// # Errors
    /// The relay ended by itself.
    pub(super) async fn serve(
        mut door: Door,
        spawned: bool,
        stop: impl Future<Output = ()>,
    ) -> Result<(), super::MediaProcessError> {
        let (said, mut saying) = mpsc::channel(UNREAD);
        let (reports, mut reported) = mpsc::unbounded_channel();
        let (came, mut callers) = mpsc::channel(4);
        let mut host = Self {
            relay: None,
            guest: None,
            waiting: None,
            unreachable: None,
            census: Census::new(clock()),
            spawned,
            visits: 0,
            said,
            reports,
        };
        let mut tick = tokio::time::interval(TICK);
        let places = Door::places();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => {
                    info!(sessions = host.census.len(), "the media process ends");
                    return Ok(());
                }
                Ok((stream, _)) = door.listener.accept() => Door::greet(stream, &places, &came),
                Some(caller) = callers.recv() => host.receive(caller),
                Some(report) = reported.recv() => host.report(report),
                Some((visit, message)) = saying.recv() => {
                    if host.hear(visit, message) {
                        info!("the media process has nothing more to do");
                        return Ok(());
                    }
                }
                _ = tick.tick() => {
                    if host.relay.as_ref().is_some_and(|(_, relay)| !relay.is_running()) {
                        return Err(super::MediaProcessError::Relay);
                    }
                    host.tick();
                    if host.look(door.watch()) {
                        return Err(door.taken());
                    }
                    if spawned && host.census.is_idle(clock()) {
                        info!("the media process has nothing more to do");
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Somebody new. While the guest is there he waits a moment, and is sent away: two gateways have one socket by mistake, and
    /// each would end the other's calls. A guest that hangs makes way, and so does the connection that he himself had before.
    fn receive(&mut self, caller: Caller) {
        let same = |guest: &&Guest| guest.instance == caller.hello.instance && guest.pid == caller.pid;
        match self.guest.as_ref().filter(|guest| !same(guest) && guest.is_there(clock())) {
            None => self.admit(caller),
            Some(_) if self.waiting.is_none() => self.waiting = Some((clock(), caller)),
            Some(_) => self.send_away(caller),
        }
    }

    /// He who waits at the door comes in when the guest is gone, and is sent away when it stays.
    fn look_at_the_door(&mut self) {
        let there = self.guest.as_ref().is_some_and(|guest| guest.is_there(clock()));
        let due = |(since, _): &mut (Instant, Caller)| !there || clock() >= *since + AT_THE_DOOR;
        match self.waiting.take_if(due) {
            Some((_, caller)) if there => self.send_away(caller),
            Some((_, caller)) => self.admit(caller),
            None => {}
        }
    }

    fn send_away(&self, caller: Caller) {
        let Some(guest) = &self.guest else { return };
        let Instance { process, program } = &guest.instance;
        decline(
            caller,
            format!(
                "it serves the gateway of process {process} (version {program}): end that one, or give each its own media.socket"
            ),
        );
    }

    /// Somebody comes in, in the place of who was there; but not with another relay while there are sessions.
    fn admit(&mut self, caller: Caller) {
        if let Err(reason) = self.furnish(&caller.hello.setup) {
            return decline(caller, reason);
        }
        let Caller { stream, hello, pid } = caller;
        let (read, write) = stream.into_split();
        let (messages, queue) = mpsc::channel(WAITING);
        tokio::spawn(deliver(write, queue));
        if let Some(old) = self.guest.take() {
            warn!(
                process = old.instance.process,
                by = hello.instance.process,
                "another signalling process takes over"
            );
            let _ = old.messages.try_send(FromRelay::Replaced { by: hello.instance.clone() });
        }
        let sessions = self.census.len();
        info!(
            process = hello.instance.process,
            version = hello.instance.program,
            sessions,
            "a signalling process has come"
        );
        self.visits += 1;
        let (visit, said) = (self.visits, self.said.clone());
        let reader = tokio::spawn(async move {
            let (heard, mut hearing) = mpsc::channel(1);
            let pass = async {
                while let Some(message) = hearing.recv().await {
                    let _ = said.send((visit, Some(message))).await;
                }
            };
            tokio::join!(receive(read, heard), pass);
            let _ = said.send((visit, None)).await;
        });
        let _ =
            messages.try_send(FromRelay::Welcome(Welcome { instance: instance(), spawned: self.spawned }));
        let (instance, reader) = (hello.instance, reader.abort_handle());
        let heard = clock();
        self.guest = Some(Guest { visit, instance, pid, heard, messages, hears: false, reader });
        self.census.joined();
        self.tell(Command::Release);
        self.tell(Command::Snapshot);
    }

    /// Has the relay that is asked for.
    fn furnish(&mut self, setup: &Setup) -> Result<(), String> {
        if let Some((old, _)) = &self.relay {
            let Some(difference) = old.difference(setup) else { return Ok(()) };
            if self.census.len() > 0 {
                let sessions = self.census.len();
                return Err(format!(
                    "{sessions} sessions run on another relay ({difference}): go back to those settings, or end the media process and with it their audio"
                ));
            }
            info!(difference, "another relay, since nobody needs the old one");
            self.relay = None;
        }
        let reports = self.reports.clone();
        let started =
            relay(setup).and_then(|config| Relay::spawn(config, move |report| drop(reports.send(report))));
        self.relay =
            Some((setup.clone(), started.map_err(|error| format!("the relay can't be started: {error}"))?));
        Ok(())
    }

    /// The relay says something: to the guest, else to the log.
    fn report(&mut self, report: Report) {
        self.census.report(clock(), &report);
        let Some(guest) = &mut self.guest else { return report::media::log(&report) };
        guest.hears |= matches!(report, Report::Snapshot { .. });
        if !guest.hears {
            return report::media::log(&report);
        }
        if guest.messages.try_send(FromRelay::Report(report)).is_err() {
            error!(
                process = guest.instance.process,
                "the signalling process takes nothing any more: it is given up"
            );
            self.lose();
        }
    }

    /// The guest says something, or is gone. `true`: there is nothing more to do.
    fn hear(&mut self, visit: u64, message: Option<ToRelay>) -> bool {
        let Some(guest) = self.guest.as_mut().filter(|guest| guest.visit == visit) else { return false };
        guest.heard = clock();
        match message {
            Some(ToRelay::Command(command)) => {
                self.census.command(clock(), &command);
                self.tell(command);
            }
            Some(ToRelay::Ask) => drop(guest.messages.try_send(FromRelay::Here)),
            Some(ToRelay::Finish) => return self.spawned && self.census.len() == 0,
            Some(_) => {}
            None => {
                info!(
                    process = guest.instance.process,
                    sessions = self.census.len(),
                    "the signalling process is gone: what runs goes on"
                );
                self.lose();
            }
        }
        false
    }

    fn lose(&mut self) {
        self.guest = None;
        self.census.left(clock());
        self.tell(Command::Release);
        self.look_at_the_door();
    }

    /// Says of the socket what is new. `true`: nobody will find us any more, and there is nobody whom we serve.
    fn look(&mut self, found: Found) -> bool {
        let found = match found {
            Found::Ours => None,
            Found::Anew => {
                warn!("the socket of the media process was removed: it is made anew");
                None
            }
            found => Some(found),
        };
        if found != self.unreachable {
            match &found {
                Some(Found::Superseded) => {
                    let sessions = self.census.len();
                    error!(
                        sessions,
                        "the socket of the media process was removed, and another one serves it now: no gateway can come here any more"
                    );
                }
                Some(Found::Barred(why)) => {
                    error!(
                        why,
                        "the socket of the media process was removed, and can't be made anew: no gateway can come any more"
                    );
                }
                _ => {}
            }
            self.unreachable = found;
        }
        self.unreachable == Some(Found::Superseded) && self.guest.is_none() && self.census.len() == 0
    }

    fn tick(&mut self) {
        self.look_at_the_door();
        for (session, over) in self.census.overdue(clock()) {
            warn!(session, why = over.words(), "a session is ended");
            self.tell(Command::End { session });
        }
    }

    fn tell(&self, command: Command) {
        if let Some((_, relay)) = &self.relay {
            relay.send(command);
        }
    }
}

fn clock() -> Instant {
    Instant::now()
}
