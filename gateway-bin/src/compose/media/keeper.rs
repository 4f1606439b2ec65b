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
/// Between attempts to have one again, in milliseconds: the first at once.
const WAITS: [u64; 9] = [0, 50, 100, 100, 200, 500, 1_000, 1_000, 5_000];

/// Keeps the media process for as long as there is a plane.
pub(super) struct Keeper {
    pub(super) plane: Faint,
    pub(super) socket: Socket,
    /// Dropped when no media process will do.
    pub(super) alive: watch::Sender<()>,
}

/// Why a media process is lost that hangs.
const SILENT: &str = "it is silent";

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
                    if why == SILENT {
                        connection.end_by_force();
                    }
                    let Some(plane) = self.plane.plane() else { return };
                    if plane.is_leaving() {
                        return plane.lose();
                    }
                    error!(why, "the media process is lost");
                }
            }
            let Some(plane) = self.plane.plane() else { return };
            plane.lose();
            let spawned = connection.welcome.spawned;
            drop((plane, connection));
            connection = match self.again(spawned).await {
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
                None if heard.elapsed() > SILENCE => return Ended::Lost(SILENT),
                None => {
                    plane.tick();
                    continue;
                }
            }
            heard = Instant::now();
        }
    }

    /// A media process again, with all our sessions. A service is waited for: its manager starts it, and would not get one of
    /// ours out of the way. `None`: the gateway has ended, or none will ever do.
    async fn again(&self, spawned: bool) -> Option<Connection> {
        let [.., last] = WAITS;
        for wait in WAITS.into_iter().chain(std::iter::repeat(last)) {
            sleep(Duration::from_millis(wait)).await;
            let reached = if spawned { self.socket.reach().await } else { self.socket.connect().await };
            let plane = self.plane.plane()?;
            match reached {
                Ok((mut connection, left)) => {
                    let (streams, sessions) = plane.regain(&mut connection, &left);
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
                Err(LinkError::Nobody(_)) if wait < last => {}
                Err(error) => error!(%error, "no media process: calls are silent, and new ones are refused"),
            }
        }
        None
    }
}
