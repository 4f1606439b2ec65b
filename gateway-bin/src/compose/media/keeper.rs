//! Keeping the media process: its reports, its silence, its loss.

use std::time::{Duration, Instant};

use sdp_core::relay::wire::{FromRelay, ToRelay};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};

use super::socket::{Connection, LinkError, Socket};
use super::{Faint, TICK};

/// It is asked so often whether it is there.
const ASK: Duration = Duration::from_secs(3);
/// A media process that says nothing for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two attempts to have one again: the first at once.
const WAITS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// Keeps the media process for as long as there is a plane.
pub(super) struct Keeper {
    pub(super) plane: Faint,
    pub(super) socket: Socket,
    /// Dropped when no media process will do.
    pub(super) alive: watch::Sender<()>,
}

/// Why a connection ended.
enum Ended {
    /// The gateway has.
    Gateway,
    /// Somebody else has the relay.
    Replaced,
    /// Said by the operating system, or by silence.
    Lost(&'static str),
}

impl Keeper {
    /// Takes messages of this connection, and of those after it, until the gateway ends.
    pub(super) async fn keep(self, mut connection: Connection) {
        loop {
            match self.listen(&mut connection).await {
                Ended::Gateway => return,
                Ended::Replaced => {
                    error!("another process has taken over the media process: this one can't go on");
                    return drop(self.alive);
                }
                Ended::Lost(why) => {
                    let Some(plane) = self.plane.plane() else { return };
                    if plane.is_leaving() {
                        return plane.lose();
                    }
                    error!(why, "the media process is lost");
                }
            }
            let Some(plane) = self.plane.plane() else { return };
            plane.lose();
            drop((plane, connection));
            connection = match self.again().await {
                Some(connection) => connection,
                None => return drop(self.alive),
            };
        }
    }

    async fn listen(&self, connection: &mut Connection) -> Ended {
        let mut tick = interval(TICK);
        let mut ask = interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let message = tokio::select! {
                message = connection.messages.recv() => match message {
                    Some(message) => Some(message),
                    None => return Ended::Lost("the connection ended"),
                },
                _ = tick.tick() => None,
                _ = ask.tick() => {
                    let Some(plane) = self.plane.plane() else { return Ended::Gateway };
                    plane.tell(ToRelay::Ask);
                    None
                }
            };
            let Some(plane) = self.plane.plane() else { return Ended::Gateway };
            match message {
                Some(FromRelay::Report(report)) => plane.take(report),
                Some(FromRelay::Replaced { by }) => {
                    warn!(
                        process = by.process,
                        version = by.program,
                        "the media process follows another process"
                    );
                    return Ended::Replaced;
                }
                Some(_) => {}
                None if heard.elapsed() > SILENCE => return Ended::Lost("it is silent"),
                None => {
                    plane.tick();
                    continue;
                }
            }
            heard = Instant::now();
        }
    }

    /// A media process again, with all our sessions. `None`: the gateway has ended, or none will ever do.
    async fn again(&self) -> Option<Connection> {
        for wait in WAITS.into_iter().chain(std::iter::repeat(WAITS[WAITS.len() - 1])) {
            sleep(wait).await;
            let reached = self.socket.reach().await;
            let plane = self.plane.plane()?;
            match reached {
                Ok((connection, left)) => {
                    let (streams, sessions) = plane.regain(&connection, &left);
                    let process = connection.welcome.instance.process;
                    info!(
                        process,
                        sessions, streams, "a media process again: streams start anew on their ports"
                    );
                    return Some(connection);
                }
                Err(error @ LinkError::Wire { .. }) => {
                    error!(%error, "the media process can't be used");
                    return None;
                }
                Err(error) => error!(%error, "no media process: calls are silent, and new ones are refused"),
            }
        }
        None
    }
}
