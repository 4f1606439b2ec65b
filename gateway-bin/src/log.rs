//! Structured logs on standard error: one line an event, as text or JSON.

mod sparing;

use std::io::BufWriter;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogSettings;

/// Lines that wait for whoever reads standard error; those beyond are lost. A reader that stands still must not stop
/// the signalling thread.
const WAITING: usize = 16_384;

/// The log of the process. Dropping it writes what waits.
#[must_use]
#[derive(Debug)]
pub struct Log {
    _writer: WorkerGuard,
}

/// The level, for our own crates alone where it is below `info`: name servers and TLS would fill the log.
fn directives(level: &str) -> String {
    if !["debug", "trace"].contains(&level) {
        return level.to_owned();
    }
    let ours = ["farend", "sip_core", "sdp_core", "tunnel", "acme_store"];
    ours.iter().fold("info".to_owned(), |all, name| format!("{all},{name}={level}"))
}

/// Installs the log of the process. A second call changes nothing.
pub fn install(settings: &LogSettings) -> Log {
    let filter = EnvFilter::new(directives(&settings.level));
    let (lines, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING)
        .lossy(true)
        .thread_name("log")
        // Lines that wait together are written together: the thread flushes when no more wait.
        .finish(BufWriter::new(std::io::stderr()));
    let builder = fmt().with_env_filter(filter).with_writer(lines).with_target(false).with_ansi(false);
    // It fails only when a log is installed already, which then stays.
    let sparing = sparing::Sparing::default();
    let _ = if settings.json {
        builder.json().flatten_event(true).finish().with(sparing).try_init()
    } else {
        builder.finish().with(sparing).try_init()
    };
    Log { _writer: writer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_stay_at_info() {
        assert_eq!(directives("warn"), "warn");
        let directives = directives("debug");
        assert!(directives.starts_with("info,farend=debug,") && directives.parse::<EnvFilter>().is_ok());
    }
}
