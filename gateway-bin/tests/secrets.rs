//! Nothing secret reaches the log, whatever its level: a whole demonstration runs under a layer that keeps
//! every line.
#![cfg(feature = "demo")]

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_secret_reaches_the_log() {
    let kept = Kept::default();
    let writer = kept.clone();
    tracing_subscriber::fmt()
        // The twin traces the messages of its phones; it is no part of the gateway.
        .with_env_filter(tracing_subscriber::EnvFilter::new("trace,twin=off"))
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    // ExitCode can't be compared; its text can.
    assert_eq!(format!("{:?}", farend::demo::run(None, false)), format!("{:?}", ExitCode::SUCCESS));
    let log = String::from_utf8_lossy(&kept.0.lock().unwrap()).into_owned();
    assert!(log.contains("registered") && log.contains("tunnel opened"), "the log is not this run's");
    // SRTP keys, private keys, routing tokens, digest credentials.
    for secret in ["inline:", "PRIVATE KEY", "crt=", "ft=", "Authorization"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} is in the log");
    }
}
