//! Tells the user about long steps: as plain lines, or through a display that the program has set up.
//!
//! Libraries report their steps here. Only `spotter` has a display, so the shim and its pods link no progress bars.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Instant;

/// How a program shows steps.
pub trait Display: Send + Sync {
    /// Shows a step that begins.
    fn start(&self, message: &str, length: Length) -> Box<dyn Bar>;
}

/// A step that a [`Display`] shows. Dropping it removes it.
pub trait Bar: Send + Sync {
    /// Advances the bar by a number of bytes or items.
    fn advance(&self, amount: u64);
}

/// How long a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Unknown,
    Bytes(u64),
    Items(u64),
}

static DISPLAY: OnceLock<Box<dyn Display>> = OnceLock::new();

/// Shows all further steps of this process in this display. The first one that is set stays.
pub fn set_display(display: Box<dyn Display>) {
    let _ = DISPLAY.set(display);
}

/// A long step in progress.
pub struct Step {
    bar: Option<Box<dyn Bar>>,
    started: Instant,
}

impl Step {
    /// Starts a step of unknown length.
    pub fn start(message: impl AsRef<str>) -> Self {
        Self::show(message.as_ref(), Length::Unknown)
    }

    /// Starts a step that processes a known number of bytes.
    pub fn of_bytes(message: impl AsRef<str>, bytes: u64) -> Self {
        Self::show(message.as_ref(), Length::Bytes(bytes))
    }

    /// Starts a step that processes a known number of items.
    pub fn of_items(message: impl AsRef<str>, items: u64) -> Self {
        Self::show(message.as_ref(), Length::Items(items))
    }

    fn show(message: &str, length: Length) -> Self {
        let bar = DISPLAY.get().map(|display| display.start(message, length));
        if bar.is_none() {
            say(&format!("{message}..."));
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
        say(&format!("{} in {:.1} s", message.as_ref(), self.started.elapsed().as_secs_f64()));
    }
}

/// Prints a message for the user to standard error. Standard output is for a command's result.
pub fn say(message: &str) {
    // Whoever reads it may have closed the pipe, which is no reason to end.
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Prints lines of a command's result to standard output. It is not an error if the reader stops reading early.
pub fn print(lines: &str) {
    let _ = writeln!(std::io::stdout(), "{lines}");
}
