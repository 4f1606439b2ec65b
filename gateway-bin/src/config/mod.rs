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
    RemoteEndpoint, RouteSettings, SenderLimit, Settings, SipPort, SipServer, SipSettings, TlsGuard,
    Transport, TunnelRow,
};

/// Reads, parses and judges the configuration at `path`.
///
/// # Errors
/// [`Invalid`] lists every reason why this configuration must not run, each with its line and key.
pub fn load(path: &Path) -> Result<(Settings, Vec<Refusal>), Invalid> {
    let text = text(path)?;
    read(&text, path, &folder(path))
}

/// The `state_dir` that a configuration names, whatever is wrong with the rest of it: a gateway may be running on it.
///
/// # Errors
/// [`Invalid`]: it can't be read, or names none.
pub fn state_dir(path: &Path) -> Result<PathBuf, Invalid> {
    let invalid = |message: String| Invalid::unreadable(path, None, message);
    let table: toml::Table = text(path)?
        .parse()
        .map_err(|error: toml::de::Error| invalid(format!("the file is not TOML: {}", error.message())))?;
    match table.get("state_dir").and_then(toml::Value::as_str) {
        Some(name) if !name.is_empty() => Ok(folder(path).join(name)),
        _ => Err(invalid("state_dir: expected a folder".to_owned())),
    }
}

/// What relative names in a configuration start from.
fn folder(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn text(path: &Path) -> Result<String, Invalid> {
    let bytes = source::read(path, source::CONFIGURATION)
        .map_err(|error| Invalid::unreadable(path, None, format!("the file can't be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Invalid::unreadable(path, Some(line), "an octet that is not UTF-8: expected text".to_owned())
    })
}
