//! The relay and its one guest: a signalling process.

use std::time::{Duration, Instant};

use sdp_core::net::{Handle, Relay};
use sdp_core::relay::wire::{FromRelay, Instance, Setup, ToRelay, Welcome};
use sdp_core::relay::{Command, Report};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{error, info, warn};

use super::census::Census;
use super::door::{Caller, Door};
use crate::compose::media_process::{deliver, instance, receive, relay};
use crate::report;

/// Messages that wait for the guest, at most; more, and it is taken for dead.
const WAITING: usize = 8_192;
/// Commands of the guest that wait for us; then it waits.
const UNREAD: usize = 1_024;
/// Sessions without signalling are looked at this often.
const TICK: Duration = Duration::from_secs(1);

/// What a signalling process says, with the number of its visit.
type Said = (u64, Option<ToRelay>);

/// The relay, once somebody has said which.
pub(super) struct Host {
    relay: Option<(Setup, Handle)>,
    guest: Option<Guest>,
    census: Census,
    spawned: bool,
    visits: u64,
    said: mpsc::Sender<Said>,
    reports: mpsc::UnboundedSender<Report>,
}

struct Guest {
    visit: u64,
    instance: Instance,
    messages: mpsc::Sender<FromRelay>,
    /// Whether what the relay says is for it: not before the snapshot that it asked for, or it would hear of leases of others.
    hears: bool,
    reader: AbortHandle,
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
        door: Door,
        spawned: bool,
        stop: impl Future<Output = ()>,
    ) -> Result<(), super::MediaProcessError> {
        let (said, mut saying) = mpsc::channel(UNREAD);
        let (reports, mut reported) = mpsc::unbounded_channel();
        let (came, mut callers) = mpsc::channel(4);
        let mut host = Self {
            relay: None,
            guest: None,
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
                Some(caller) = callers.recv() => host.admit(caller),
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
                    if spawned && host.census.is_idle(clock()) {
                        info!("the media process has nothing more to do");
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Somebody new. He takes the place of who was there, which may hang; but not with another relay while there are sessions.
    fn admit(&mut self, caller: Caller) {
        let Caller { stream, hello } = caller;
        let (read, write) = stream.into_split();
        let (messages, queue) = mpsc::channel(WAITING);
        tokio::spawn(deliver(write, queue));
        if let Err(reason) = self.furnish(&hello.setup) {
            warn!(
                process = hello.instance.process,
                version = hello.instance.program,
                reason,
                "a signalling process is refused"
            );
            let _ = messages.try_send(FromRelay::Declined { reason });
            return;
        }
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
        self.guest = Some(Guest { visit, instance, messages, hears: false, reader });
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
        let Some(guest) = self.guest.as_ref().filter(|guest| guest.visit == visit) else { return false };
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
    }

    fn tick(&mut self) {
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
