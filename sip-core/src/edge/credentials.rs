//! Phones that must say who they are before the Routes they bring along are followed
//! (`sip.preloaded_routes = "authenticate"`, RFC 3261 §22.3).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::Edge;
use super::config::PreloadedRoutes;
use super::event::Reason;
use super::exchange::{Incoming, Refusal};
use super::register::user_of;
use super::uri_codec::host_of;
use crate::auth::{Account, Question, Settings, Verdict, Verifier};
use crate::flow::Side;
use crate::header::{From, ProxyAuthorization, Route};

/// The realm of the accounts here.
pub const REALM: &str = "farend";

/// The accounts by user: `[[sip.users]]`.
pub type Users = Arc<HashMap<String, Account>>;

impl Edge {
    /// Challenges a request that brings Routes along which only its user's credentials open.
    pub(super) fn authenticate(&mut self, now: Instant, incoming: &Incoming) -> Result<(), Refusal> {
        if incoming.peer.side == Side::Inside
            || self.preloaded(incoming) != PreloadedRoutes::Authenticate
            || !self.brings_routes(incoming)
        {
            return Ok(());
        }
        let settings = self.credentials();
        let random = &mut self.random;
        let verifier = self.verifier.get_or_insert_with(|| {
            let mut seed = [0; 32];
            for part in seed.chunks_mut(8) {
                part.copy_from_slice(&random.number().to_be_bytes());
            }
            Box::new(Verifier::new(now, settings.clone(), seed))
        });
        verifier.reconfigure(settings);
        let message = &incoming.message;
        let malformed = |what: &str| {
            let reason = Reason::Malformed("Proxy-Authorization".to_owned());
            Refusal::new(400, format!("Bad Request (Proxy-Authorization: {what})"), reason)
        };
        let rows: Result<Vec<_>, _> = message.headers::<ProxyAuthorization>().collect();
        let rows = rows.map_err(|_| malformed("syntax"))?;
        let user = user_of(message.header::<From>());
        let question = Question {
            method: incoming.method().as_bytes(),
            uri: message.request_uri().unwrap_or_default(),
            body: message.body(),
            user: user.as_deref(),
        };
        let users = self.config.users.clone();
        match verifier.verify(now, &question, rows, |user| users.get(user).cloned()) {
            Verdict::Granted(_) => Ok(()),
            Verdict::Malformed(what) => Err(malformed(what)),
            Verdict::Forbidden => Err(Refusal::forbidden(Reason::Credentials { stale: false })),
            Verdict::Challenge { stale } => {
                let reason = Reason::Credentials { stale };
                let refusal = Refusal::new(407, "Proxy Authentication Required", reason);
                let rows = verifier.challenges(now, stale);
                Err(rows.into_iter().fold(refusal, |refusal, row| refusal.with("Proxy-Authenticate", row)))
            }
        }
    }

    fn credentials(&self) -> Settings {
        let mut settings = Settings::new(REALM);
        settings.rfc2069 = self.config.interop.headers.rfc2069;
        settings.loose_username = self.config.interop.contacts.loose_username;
        settings
    }

    fn brings_routes(&self, incoming: &Incoming) -> bool {
        let own =
            |route: &crate::header::Address<'_>| route.uri().is_ok_and(|uri| self.is_own(&host_of(&uri)));
        incoming.message.headers::<Route>().flatten().any(|route| !own(&route))
    }
}
