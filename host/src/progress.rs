//! Long steps, shown as they go: a spinner or a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A long step under way.
pub struct Step {
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Step {
    /// Says what begins; nobody knows how long it takes.
    pub fn start(message: impl Into<String>) -> Self {
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self::show(message.into(), spinner, "{spinner} {msg} [{elapsed}]")
    }

    /// Says what begins, and of how many bytes.
    pub fn of_bytes(message: String, bytes: u64) -> Self {
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}";
        Self::show(message, ProgressBar::new(bytes), template)
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

    /// So many bytes further.
    pub fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// Says what came of it, and how long it took.
    pub fn done(self, message: impl AsRef<str>) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        say(&format!("{} in {:.1} s", message.as_ref(), self.started.elapsed().as_secs_f64()));
    }
}

/// A line for the person who waits; standard output is for what was asked for.
#[allow(clippy::print_stderr, reason = "this is the one place that speaks to the person")]
pub fn say(message: &str) {
    eprintln!("{message}");
}
