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

/// One that lasted no longer is no reason to start the next one at once: it may end for the same cause.
const LASTING: Duration = Duration::from_secs(10);

/// Keeps the media process for as long as there is a plane.
pub(super) struct Keeper {
    pub(super) plane: Faint,
    pub(super) socket: Socket,
    /// Dropped when no media process will do, true when that is no fault of ours.
    pub(super) alive: watch::Sender<bool>,
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

/// Milliseconds before each attempt; the first ones are left out after so many processes that ended soon.
fn waits(hasty: usize) -> impl Iterator<Item = u64> {
    let [.., last] = WAITS;
    WAITS.into_iter().skip(hasty).chain(std::iter::repeat(last))
}

impl Keeper {
    /// Takes messages of this connection, and of those after it, until the gateway ends.
    pub(super) async fn keep(self, mut connection: Connection) {
        let mut hasty = 0;
        loop {
            let began = Instant::now();
            match self.listen(&mut connection).await {
                Ended::Gateway => return,
                Ended::Replaced => {
                    error!(
                        "another process has taken over the media process: this one can't go on. Two gateways must not have one media.socket"
                    );
                    return self.give_up();
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
            hasty = if began.elapsed() < LASTING { hasty + 1 } else { 0 };
            connection = match self.again(spawned, hasty).await {
                Some(connection) => connection,
                None => return self.give_up(),
            };
        }
    }

    /// No media process will do, and the log has said why.
    fn give_up(self) {
        self.alive.send_replace(true);
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
    /// ours out of the way. `hasty`: so many ended soon, one after the other; then the first waits are left out. `None`: the
    /// gateway has ended, or none will ever do.
    async fn again(&self, spawned: bool, hasty: usize) -> Option<Connection> {
        let [.., last] = WAITS;
        for wait in waits(hasty) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_again_and_again_is_started_ever_more_slowly() {
        let first: Vec<u64> = (0..12).filter_map(|hasty| waits(hasty).next()).collect();
        assert_eq!(first, [0, 50, 100, 100, 200, 500, 1_000, 1_000, 5_000, 5_000, 5_000, 5_000]);
        assert_eq!(
            waits(0).take(10).collect::<Vec<_>>(),
            [0, 50, 100, 100, 200, 500, 1_000, 1_000, 5_000, 5_000]
        );
        assert_eq!(waits(usize::MAX).next(), Some(5_000));
    }
}
