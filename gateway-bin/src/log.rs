//! Structured logs on standard error: one line an event, as text or JSON.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::LogSettings;

/// Installs the log of the process. A second call changes nothing.
pub fn install(settings: &LogSettings) {
    let filter = EnvFilter::new(&settings.level);
    let builder =
        fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).with_ansi(false);
    // It fails only when a log is installed already, which then stays.
    let _ = if settings.json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
}
