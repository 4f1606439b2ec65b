//! The task that keeps one certificate: order when due, check, store, publish. Whatever fails, what is shown stays.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};

use crate::certificate::Credential;
use crate::key::Key;
use crate::lifecycle::{self, Origin, Plan, Reason};
use crate::order::{self, Authority, Tokens};
use crate::publish::Certificate;
use crate::schedule::{Retry, Urgency, urgency};
use crate::store::Store;

/// The clock on the wall is looked at this often, so that a jump is noticed soon.
const LOOK: Duration = Duration::from_secs(60);
/// A whole order, from the account to the chain.
const ORDER_TIMEOUT: Duration = Duration::from_secs(600);

/// The time of day; `SystemTime::now` in the product.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What happens to a certificate; `name` is that of the [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An order begins.
    Ordering {
        /// Which certificate.
        name: String,
        /// Why.
        reason: Reason,
    },
    /// A certificate of the authority (new, or from the store after the clock was put right) is shown from the next handshake on.
    Activated {
        /// Which certificate.
        name: String,
        /// Its serial number, hexadecimal.
        serial: String,
        /// Its end.
        not_after: SystemTime,
        /// The next order.
        due: SystemTime,
    },
    /// An order failed; what was shown is still shown.
    Failed {
        /// Which certificate.
        name: String,
        /// Why.
        error: String,
        /// Failures in a row.
        failures: u32,
        /// The next attempt.
        retry_in: Duration,
    },
    /// The new certificate is in use but could not be written; it is tried again every minute.
    NotStored {
        /// Which certificate.
        name: String,
        /// Why.
        error: String,
    },
    /// The certificate grows old and renewals fail.
    Urgent {
        /// Which certificate.
        name: String,
        /// How urgent.
        urgency: Urgency,
        /// Its end.
        not_after: SystemTime,
    },
}

/// What a renewer works with.
pub struct Work<A> {
    /// What is wanted.
    pub plan: Plan,
    /// The cell that listeners show, holding what [`lifecycle::prepare`] returned.
    pub certificate: Arc<Certificate>,
    /// Who signs.
    pub authority: A,
    /// The answers on port 80.
    pub tokens: Tokens,
    /// What survives.
    pub store: Arc<dyn Store>,
    /// The time of day.
    pub clock: Clock,
    /// For the spread of waits.
    pub seed: [u8; 32],
    /// Where events go; when it is full they are dropped.
    pub events: mpsc::Sender<Event>,
}

impl<A> fmt::Debug for Work<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("plan", &self.plan)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// A running renewer. Dropping it ends the task at once; a certificate in use is not touched.
#[derive(Debug)]
pub struct Renewer {
    nudge: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Renewer {
    /// Starts the task on the current tokio runtime.
    pub fn start<A: Authority + 'static>(work: Work<A>) -> Self {
        let (nudge, nudged) = mpsc::channel(1);
        let retry = Retry::new(work.seed);
        let state = State { work, retry, wait_until: None, unsaved: None, told: Urgency::None };
        Self { nudge, task: tokio::spawn(state.run(nudged)) }
    }

    /// Orders now, whatever the schedule says.
    pub fn renew_now(&self) {
        // A full channel means that it is already asked for.
        let _ = self.nudge.try_send(());
    }
}

struct State<A> {
    work: Work<A>,
    retry: Retry,
    /// After a failure: not before this.
    wait_until: Option<Instant>,
    unsaved: Option<Credential>,
    told: Urgency,
}

impl<A: Authority + 'static> State<A> {
    async fn run(mut self, mut nudged: mpsc::Receiver<()>) {
        loop {
            self.save_again().await;
            self.better_than_interim().await;
            self.tell_urgency();
            let (wake, reason) = self.next();
            if wake > Instant::now() {
                tokio::select! {
                    nudge = nudged.recv() => if nudge.is_none() { return },
                    () = sleep_until(wake.min(Instant::now() + LOOK)) => continue,
                }
            }
            self.order(reason).await;
        }
    }

    /// While the self-signed certificate is shown: the stored one when it is valid after all (the clock of the machine was wrong at start),
    /// or a new self-signed one before the old one ends.
    async fn better_than_interim(&mut self) {
        let shown = self.work.certificate.current();
        if !shown.details().is_self_signed_leaf() || self.unsaved.is_some() {
            return;
        }
        let (store, plan, now) = (Arc::clone(&self.work.store), self.work.plan.clone(), (self.work.clock)());
        let prepared = spawn_blocking(move || lifecycle::prepare(&*store, &plan, now)).await;
        let Ok(Ok((credential, origin))) = prepared else { return };
        match origin {
            Origin::Stored => self.show(credential),
            Origin::NewInterim if !lifecycle::interim_serves(&shown, &self.work.plan, now) => {
                self.work.certificate.publish(credential);
            }
            _ => {}
        }
    }

    /// When to order by the clock on the wall and the wait after a failure, as an instant; at most a minute of it is slept.
    fn next(&self) -> (Instant, Reason) {
        let now = (self.work.clock)();
        let (due, reason) = lifecycle::due(&self.work.certificate.current(), &self.work.plan, now);
        let by_clock =
            Instant::now() + due.duration_since(now).unwrap_or_default().min(Duration::from_secs(1 << 30));
        (self.wait_until.map_or(by_clock, |wait| wait.max(by_clock)), reason)
    }

    async fn order(&mut self, reason: Reason) {
        let name = self.work.plan.name.clone();
        self.tell(Event::Ordering { name: name.clone(), reason });
        match self.attempt().await {
            Ok(credential) => self.activate(credential).await,
            Err((error, asked)) => {
                let shown = self.work.certificate.current();
                let now = (self.work.clock)();
                let left = (!shown.details().is_self_signed_leaf())
                    .then(|| shown.details().not_after.duration_since(now).unwrap_or_default());
                let retry_in = self.retry.failed(left, asked);
                self.wait_until = Some(Instant::now() + retry_in);
                self.tell(Event::Failed { name, error, failures: self.retry.failures(), retry_in });
            }
        }
    }

    async fn attempt(&mut self) -> Result<Credential, (String, Option<Duration>)> {
        let plain = |error: &dyn fmt::Display| (error.to_string(), None);
        let names = self.work.plan.form.alternative_names().map_err(|error| plain(&error))?;
        let shown = self.work.certificate.current();
        let kind = self.work.plan.key;
        let key = if shown.key().kind() == Some(kind) {
            shown.key().clone()
        } else {
            let made = spawn_blocking(move || Key::generate(kind)).await.map_err(|error| plain(&error))?;
            made.map_err(|error| plain(&error))?
        };
        let clock = Arc::clone(&self.work.clock);
        let order = order::issue(&mut self.work.authority, &self.work.tokens, &key, &names, move || clock());
        match timeout(ORDER_TIMEOUT, order).await {
            Ok(Ok(credential)) => Ok(credential),
            Ok(Err(error)) => Err((error.to_string(), error.retry_after())),
            Err(_) => Err(("the order took longer than ten minutes".to_owned(), None)),
        }
    }

    /// Stores first: what is shown should survive a crash. If the disk fails it is shown all the same.
    async fn activate(&mut self, credential: Credential) {
        self.unsaved = Some(credential.clone());
        self.save_again().await;
        self.show(credential);
    }

    fn show(&mut self, credential: Credential) {
        let (details, name) = (credential.details().clone(), self.work.plan.name.clone());
        self.work.certificate.publish(credential);
        self.retry.succeeded();
        self.wait_until = None;
        self.told = Urgency::None;
        let due = self.work.plan.renewal.due(details.not_before, details.not_after);
        self.tell(Event::Activated { name, serial: details.serial, not_after: details.not_after, due });
        if due <= (self.work.clock)() {
            // Shorter-lived than our clocks differ: don't turn in circles.
            self.wait_until = Some(Instant::now() + Duration::from_secs(600));
        }
    }

    async fn save_again(&mut self) {
        let Some(credential) = self.unsaved.take() else { return };
        let (store, name) = (Arc::clone(&self.work.store), self.work.plan.name.clone());
        let saving = credential.clone();
        let saved = spawn_blocking(move || store.save_credential(&name, &saving)).await;
        let error = match saved {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.unsaved = Some(credential);
        self.tell(Event::NotStored { name: self.work.plan.name.clone(), error });
    }

    fn tell_urgency(&mut self) {
        let shown = self.work.certificate.current();
        if shown.details().is_self_signed_leaf() {
            return;
        }
        let not_after = shown.details().not_after;
        let urgency = urgency(shown.details().not_before, not_after, (self.work.clock)());
        if urgency > self.told {
            self.tell(Event::Urgent { name: self.work.plan.name.clone(), urgency, not_after });
        }
        self.told = urgency;
    }

    fn tell(&self, event: Event) {
        let _ = self.work.events.try_send(event);
    }
}
