//! Which row of an endpoint answers a file request, and with what.
//!
//! Rows are tried in order. Within a row: the exact path of a local file, then an automatic `.sha256`, then the
//! remote endpoint.

use std::sync::Arc;

use http::Method;

use crate::files::{File, FileGroup};
use crate::path::CleanPath;

/// One repository row.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Local files.
    pub files: Option<Arc<FileGroup>>,
    /// Where everything else comes from.
    pub remote: Option<Arc<Remote>>,
    /// What may be asked.
    pub methods: Methods,
}

/// A remote endpoint: servers inside that hold the same files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name in the configuration.
    pub name: String,
    /// The server name: the `Host` sent, and what the certificate must match.
    pub server_name: String,
    /// The servers in the order they are tried.
    pub servers: Vec<Server>,
}

/// One server of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// The methods of a repository: a subset of GET and HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Methods {
    get: bool,
    head: bool,
}

/// A method list that names something a repository can't do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected DEFAULT, or a list of GET and HEAD")]
pub struct MethodsError;

impl Default for Methods {
    /// GET and HEAD.
    fn default() -> Self {
        Self { get: true, head: true }
    }
}

impl Methods {
    /// Reads `DEFAULT` (GET and HEAD) or a comma-separated list of GET and HEAD.
    ///
    /// # Errors
    /// Any other word, or none.
    pub fn parse(text: &str) -> Result<Self, MethodsError> {
        let mut methods = Self { get: false, head: false };
        for word in text.split(',') {
            match word.trim() {
                "DEFAULT" => methods = Self::default(),
                "GET" => methods.get = true,
                "HEAD" => methods.head = true,
                _ => return Err(MethodsError),
            }
        }
        Ok(methods)
    }

    /// Whether `method` is allowed.
    pub fn allow(self, method: &Method) -> bool {
        (self.get && *method == Method::GET) || (self.head && *method == Method::HEAD)
    }
}

/// What answers a request.
#[derive(Debug, Clone)]
pub enum Answer<'a> {
    /// A local file or checksum.
    Local(&'a Arc<File>),
    /// Ask this remote endpoint.
    Remote(&'a Arc<Remote>),
    /// 404.
    NotFound,
    /// 405, with this `Allow`.
    MethodNotAllowed(&'static str),
}

/// The answer to `method` on `path` from rows in their order. The method is judged first, so that a refused
/// method does not tell which files there are.
pub fn answer<'a>(rows: &'a [Row], method: &Method, path: &CleanPath) -> Answer<'a> {
    if !rows.iter().any(|row| row.methods.allow(method)) {
        return Answer::MethodNotAllowed(allow(rows));
    }
    let mut rows = rows.iter().filter(|row| row.methods.allow(method));
    let found = rows.find_map(|row| {
        let local = row.files.as_ref().and_then(|files| files.file(path)).map(Answer::Local);
        local.or_else(|| row.remote.as_ref().map(Answer::Remote))
    });
    found.unwrap_or(Answer::NotFound)
}

pub(crate) fn allow(rows: &[Row]) -> &'static str {
    let any = |method| rows.iter().any(|row| row.methods.allow(method));
    match (any(&Method::GET), any(&Method::HEAD)) {
        (true, true) => "GET, HEAD",
        (true, false) => "GET",
        (false, true) => "HEAD",
        (false, false) => "",
    }
}

#[cfg(test)]
mod tests;
