//! Tells the user about long steps: as plain lines, or through a reporter that the program has set up.
//!
//! Libraries report their steps here. Only `spotter` sets a reporter, so the shim and its pods link no progress bars.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Instant;

/// How a program shows steps.
pub trait ProgressReporter: Send + Sync {
    /// Shows a step that begins.
    fn start(&self, message: &str, total: ProgressTotal) -> Box<dyn ProgressBar>;
}

/// A step that a [`ProgressReporter`] shows. Dropping it removes it.
pub trait ProgressBar: Send + Sync {
    /// Advances the bar by a number of bytes or items.
    fn advance(&self, amount: u64);
}

/// How much a step has to process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressTotal {
    Unknown,
    Bytes(u64),
    Items(u64),
}

static REPORTER: OnceLock<Box<dyn ProgressReporter>> = OnceLock::new();

/// Sets the reporter for all further steps of this process. Later calls have no effect.
pub fn set_reporter(reporter: Box<dyn ProgressReporter>) {
    let _ = REPORTER.set(reporter);
}

/// A long step in progress.
pub struct ProgressStep {
    bar: Option<Box<dyn ProgressBar>>,
    started: Instant,
}

impl ProgressStep {
    /// Starts a step of unknown length.
    pub fn start(message: impl AsRef<str>) -> Self {
        Self::show(message.as_ref(), ProgressTotal::Unknown)
    }

    /// Starts a step that processes a known number of bytes.
    pub fn for_bytes(message: impl AsRef<str>, bytes: u64) -> Self {
        Self::show(message.as_ref(), ProgressTotal::Bytes(bytes))
    }

    /// Starts a step that processes a known number of items.
    pub fn for_items(message: impl AsRef<str>, items: u64) -> Self {
        Self::show(message.as_ref(), ProgressTotal::Items(items))
    }

    fn show(message: &str, total: ProgressTotal) -> Self {
        let bar = REPORTER.get().map(|reporter| reporter.start(message, total));
        if bar.is_none() {
            print_message(&format!("{message}..."));
        }
        Self { bar, started: Instant::now() }
    }

    /// Advances the bar by a number of bytes or items.
    pub fn advance(&self, amount: u64) {
        if let Some(bar) = &self.bar {
            bar.advance(amount);
        }
    }

    /// Ends the step with a message and the time that it took.
    pub fn done(self, message: impl AsRef<str>) {
        drop(self.bar);
        let seconds = self.started.elapsed().as_secs_f64();
        print_message(&format!("{} in {seconds:.1} s", message.as_ref()));
    }
}

/// Prints a message for the user to standard error. Standard output is for a command's result.
pub fn print_message(message: &str) {
    // The reader may have closed the pipe, which is not an error.
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Prints lines of a command's result to standard output. It is not an error if the reader stops reading early.
pub fn print(lines: &str) {
    let _ = writeln!(std::io::stdout(), "{lines}");
}
