//! What happened, step by step, in lines a person can follow.

use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::mac::Mac;

/// One step of the play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name, as `--break` and the summary use it.
    pub name: &'static str,
    /// The phone it concerns; `None` for the site as a whole.
    pub mac: Option<Mac>,
    /// What was seen, or why it did not work.
    pub outcome: Result<String, String>,
    /// Time since the start.
    pub at: Duration,
}

/// Collects steps and prints each as it ends.
pub struct Timeline {
    start: Instant,
    steps: Vec<Step>,
    writer: Box<dyn Write + Send>,
}

impl Timeline {
    /// A timeline that starts now and prints to `writer`.
    pub fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { start: Instant::now(), steps: Vec::new(), writer }
    }

    /// Records and prints a step; says whether it held.
    pub fn record(&mut self, name: &'static str, mac: Option<Mac>, outcome: Result<String, String>) -> bool {
        let step = Step { name, mac, outcome, at: self.start.elapsed() };
        self.line(&step.to_string());
        self.steps.push(step);
        self.steps.last().is_some_and(|step| step.outcome.is_ok())
    }

    /// Prints a heading.
    pub fn heading(&mut self, text: &str) {
        self.line(&format!("\n── {text}"));
    }

    /// Prints a line as it stands.
    pub fn line(&mut self, text: &str) {
        // A reader who closed the pipe does not stop the play: the verdict is in the report.
        let _ = writeln!(self.writer, "{text}").and_then(|()| self.writer.flush());
    }

    /// The steps so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The first step that failed.
    pub fn failed(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.outcome.is_err())
    }

    /// Prints how many steps held and each one that did not.
    pub fn summary(&mut self) {
        let held = self.steps.iter().filter(|step| step.outcome.is_ok()).count();
        let total = self.steps.len();
        let seconds = self.start.elapsed().as_secs_f64();
        self.heading(&format!("{held} of {total} steps held, {seconds:.1} s"));
        let failed: Vec<String> =
            self.steps.iter().filter(|step| step.outcome.is_err()).map(ToString::to_string).collect();
        for line in &failed {
            self.line(line);
        }
        match self.failed().map(|step| step.name) {
            Some(name) => self.line(&format!("✗ failed at step '{name}'")),
            None => self.line("✓ every step held"),
        }
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, text) = match &self.outcome {
            Ok(text) => ('✓', text),
            Err(text) => ('✗', text),
        };
        let who = self.mac.map_or_else(|| "site".to_owned(), |mac| mac.to_string());
        write!(f, "{:7.3}s {sign} {who:12} {:12} {text}", self.at.as_secs_f64(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("one writer").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn prints_signs_and_names_the_first_failure() {
        let paper = Shared::default();
        let mut timeline = Timeline::new(Box::new(paper.clone()));
        assert!(timeline.record("file", Some(Mac([8, 0, 15, 0, 0, 1])), Ok("82 bytes".to_owned())));
        assert!(timeline.failed().is_none());
        assert!(!timeline.record("tunnel", None, Err("CONNECT: 403".to_owned())));
        assert!(!timeline.record("relay", None, Err("no call".to_owned())));
        timeline.summary();
        let text = String::from_utf8(paper.0.lock().expect("one writer").clone()).expect("text");
        assert!(text.contains("✓ 08000F000001 file         82 bytes"), "{text}");
        assert!(text.contains("1 of 3 steps held"), "{text}");
        assert!(text.ends_with("✗ failed at step 'tunnel'\n"), "{text}");
        assert_eq!(timeline.failed().map(|step| step.name), Some("tunnel"));
    }
}
