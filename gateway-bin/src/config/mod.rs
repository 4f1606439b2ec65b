//! Configuration: `file` is what was written, `check` judges it, [`Settings`] is what the gateway
//! runs on.
//!
//! A configuration is taken whole or refused whole, with every refusal named at once.

mod check;
mod file;
mod refusal;
mod settings;
mod source;

use std::path::{Path, PathBuf};

pub use check::read;
pub use refusal::{Invalid, Refusal};
pub use settings::{
    AcmeDomain, CertificateOrigin, Connections, Endpoint, FileRepository, GuardSettings, HttpFile, InsideTls,
    Interface, ListenTls, LocalEndpoint, LogSettings, MediaSettings, NetSettings, PolicyError,
    RemoteEndpoint, SenderLimit, Settings, SipPort, SipServer, SipSettings, TlsGuard, Transport, TunnelRow,
};

/// Reads, parses and judges the configuration at `path`.
///
/// # Errors
/// [`Invalid`] lists every reason why this configuration must not run, each with its line and key.
pub fn load(path: &Path) -> Result<(Settings, Vec<Refusal>), Invalid> {
    let bytes = source::read(path, source::CONFIGURATION)
        .map_err(|error| Invalid::unreadable(path, None, format!("the file can't be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Invalid::unreadable(path, Some(line), "an octet that is not UTF-8: expected text".to_owned())
    })?;
    let base = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    read(&text, path, &base)
}
