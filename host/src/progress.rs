//! Shows the progress of long steps: a spinner or a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A long step in progress.
pub struct Step {
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Step {
    /// Starts a step of unknown length.
    pub fn start(message: impl Into<String>) -> Self {
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self::show(message.into(), spinner, "{spinner} {msg} [{elapsed}]")
    }

    /// Starts a step that processes a known number of bytes.
    pub fn of_bytes(message: String, bytes: u64) -> Self {
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}";
        Self::show(message, ProgressBar::new(bytes), template)
    }

    /// Starts a step that processes a known number of items.
    pub fn of_items(message: String, items: u64) -> Self {
        Self::show(message, ProgressBar::new(items), "{msg} {wide_bar} {pos}/{len} {eta} left")
    }

    fn show(message: String, bar: ProgressBar, template: &str) -> Self {
        let started = Instant::now();
        if !std::io::stderr().is_terminal() {
            say(&format!("{message}..."));
            return Self { bar: None, started };
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(message);
        Self { bar: Some(bar), started }
    }

    /// Advances the bar by a number of bytes or items.
    pub fn advance(&self, amount: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(amount);
        }
    }

    /// Ends the step with a message and the time that it took.
    pub fn done(self, message: impl AsRef<str>) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        say(&format!("{} in {:.1} s", message.as_ref(), self.started.elapsed().as_secs_f64()));
    }
}

/// Prints a message for the user to standard error. Standard output is for a command's result.
#[allow(clippy::print_stderr, reason = "the only place that prints messages for the user")]
pub fn say(message: &str) {
    eprintln!("{message}");
}
