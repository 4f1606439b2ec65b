//! `farend status`: asks the gateway that runs on a `state_dir`.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ANSWER, Answer, Ask, Request, SOCKET, Said, VERSION};

/// How long the gateway may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No gateway runs on this folder.
    #[error("no gateway answers at {}: {}", path.display(), hint(error))]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The gateway's answer did not come whole.
    #[error("the gateway's answer can't be read: {0}")]
    Broken(String),
    /// The gateway is of another version.
    #[error(
        "the gateway speaks version {0}, this program {VERSION}: use the program that it was started with"
    )]
    Version(u32),
    /// The gateway says no.
    #[error("the gateway answers: {0}")]
    Refused(String),
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "none runs on this state_dir, or it is of a version without status".to_owned()
        }
        io::ErrorKind::PermissionDenied => "ask as the user that it runs as, or as root".to_owned(),
        _ => error.to_string(),
    }
}

/// Asks the gateway that runs on `state_dir`. The answer as it came, and what it says.
///
/// # Errors
/// [`AskError`].
pub fn ask(state_dir: &Path, ask: Ask) -> Result<(String, Said), AskError> {
    let path = state_dir.join(SOCKET);
    let mut stream =
        UnixStream::connect(&path).map_err(|error| AskError::Nobody { path: path.clone(), error })?;
    let broken = |error: io::Error| AskError::Broken(error.to_string());
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut line = serde_json::to_vec(&Request { version: VERSION, ask })
        .map_err(|error| AskError::Broken(error.to_string()))?;
    line.push(b'\n');
    // A gateway that has too many clients answers before it is asked, and hangs up.
    let written = stream.write_all(&line);
    let mut text = String::new();
    BufReader::new(stream.take(ANSWER)).read_line(&mut text).map_err(broken)?;
    if text.is_empty() {
        written.map_err(broken)?;
    }
    read(&text).map(|said| (text, said))
}

fn read(text: &str) -> Result<Said, AskError> {
    let value: serde_json::Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) if text.is_empty() => return Err(AskError::Broken("it closed the connection".into())),
        Err(error) => return Err(AskError::Broken(error.to_string())),
    };
    let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if version != u64::from(VERSION) {
        return Err(AskError::Version(u32::try_from(version).unwrap_or(u32::MAX)));
    }
    match serde_json::from_value::<Answer>(value) {
        Ok(Answer { said: Said::Refused(why), .. }) => Err(AskError::Refused(why)),
        Ok(answer) => Ok(answer.said),
        Err(error) => Err(AskError::Broken(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_there() {
        let error = ask(Path::new("/nonexistent/farend"), Ask::Calls).unwrap_err().to_string();
        assert_eq!(
            error,
            "no gateway answers at /nonexistent/farend/status.sock: none runs on this state_dir, or it is of a version \
             without status"
        );
    }

    #[test]
    fn answers_that_are_none() {
        for (text, expected) in [
            ("", "the gateway's answer can't be read: it closed the connection"),
            ("{\"version\":2,\"pages\":[]}\n", "the gateway speaks version 2, this program 1"),
            ("{\"version\":1,\"refused\":\"busy\"}\n", "the gateway answers: busy"),
            ("{\"version\":1,\"calls\":", "the gateway's answer can't be read: EOF"),
            ("{\"version\":1}", "the gateway's answer can't be read: "),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        let none = "{\"version\":1,\"calls\":{\"calls\":[],\"left_out\":0,\"past\":[]}}";
        assert_eq!(read(none).unwrap(), Said::Calls(super::super::Calls::default()));
    }
}
