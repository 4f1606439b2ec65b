//! One certificate of the configuration through its life: interim at first, issued when the authority has signed, renewed in time.
//! Decisions only; `net::renewer` carries them out.

use std::time::{Duration, SystemTime};

use crate::certificate::Credential;
use crate::key::{Key, KeyError, KeyKind};
use crate::request::{self, Form, INTERIM_LIFETIME, RequestError};
use crate::schedule::Policy;
use crate::store::{Store, StoreError};

/// An interim certificate is made anew when less than this is left of it.
const INTERIM_RESERVE: Duration = Duration::from_secs(10 * 24 * 3600);

/// What the configuration wants under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The name in the configuration and in the store.
    pub name: String,
    /// Subject and names.
    pub form: Form,
    /// The kind of key.
    pub key: KeyKind,
    /// When to renew.
    pub renewal: Policy,
}

/// Where a certificate came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made here just now: the first start, other names, or the stored one is not valid at this time.
    NewInterim,
    /// Made here at an earlier start.
    Interim,
    /// From an authority, stored at an earlier start.
    Stored,
}

/// Why there is nothing to show at start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The store is unusable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The names can't be certified.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Why an order is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Only the self-signed certificate is there.
    Interim,
    /// The certificate lacks a name of the configuration.
    Names,
    /// The configuration asks for another kind of key.
    KeyKind,
    /// Its time has come.
    Age,
}

/// The certificate to show from the first handshake on, without any network: the stored one if it is valid at `now`, else an interim
/// one. Key and interim certificate are stored before they are returned, so that no restart loses them; a stored certificate of an
/// authority is never overwritten here, because it may be the clock that is wrong.
///
/// # Errors
/// [`PrepareError`]; a damaged file is an error that names it.
pub fn prepare(
    store: &dyn Store,
    plan: &Plan,
    now: SystemTime,
) -> Result<(Credential, Origin), PrepareError> {
    plan.form.alternative_names()?;
    let (key, keep) = match store.credential(&plan.name)? {
        Some(stored) if stored.details().is_self_signed_leaf() => {
            if interim_serves(&stored, plan, now) {
                return Ok((stored, Origin::Interim));
            }
            let right_key = stored.key().kind() == Some(plan.key);
            (right_key.then(|| stored.key().clone()), false)
        }
        Some(stored) if stored.details().valid_at(now) => return Ok((stored, Origin::Stored)),
        Some(stored) => (Some(stored.key().clone()), true),
        None => (None, false),
    };
    let key = match key {
        Some(key) => key,
        None => Key::generate(plan.key)?,
    };
    let interim = request::self_signed(&key, &plan.form, now, INTERIM_LIFETIME)?;
    if !keep {
        store.save_credential(&plan.name, &interim)?;
    }
    Ok((interim, Origin::NewInterim))
}

/// [`prepare`] for a process that already shows `shown` under this name, at a reload: a valid certificate of an authority stays even if
/// the store does not have it (the disk was full when it came), so that no interim one takes its place.
///
/// # Errors
/// [`PrepareError`].
pub fn prepare_again(
    store: &dyn Store,
    plan: &Plan,
    shown: &Credential,
    now: SystemTime,
) -> Result<(Credential, Origin), PrepareError> {
    let (prepared, origin) = prepare(store, plan, now)?;
    let keep = !shown.details().is_self_signed_leaf() && shown.details().valid_at(now);
    let better = |stored: &Credential| stored.details().not_after >= shown.details().not_after;
    if keep && !(origin == Origin::Stored && better(&prepared)) {
        return Ok((shown.clone(), Origin::Stored));
    }
    Ok((prepared, origin))
}

/// Does this self-signed certificate still serve: right names and kind of key, valid, and for some time to come?
pub fn interim_serves(interim: &Credential, plan: &Plan, now: SystemTime) -> bool {
    let reserve = now.checked_add(INTERIM_RESERVE).unwrap_or(now);
    interim.details().valid_at(now)
        && interim.details().not_after > reserve
        && interim.key().kind() == Some(plan.key)
        && plan.form.alternative_names().is_ok_and(|names| interim.names_all(&names))
}

/// When the next order is due for what is shown now, and why.
pub fn due(shown: &Credential, plan: &Plan, now: SystemTime) -> (SystemTime, Reason) {
    let details = shown.details();
    if details.is_self_signed_leaf() {
        return (now, Reason::Interim);
    }
    if !plan.form.alternative_names().is_ok_and(|names| shown.names_all(&names)) {
        return (now, Reason::Names);
    }
    if shown.key().kind() != Some(plan.key) {
        return (now, Reason::KeyKind);
    }
    (plan.renewal.due(details.not_before, details.not_after), Reason::Age)
}
