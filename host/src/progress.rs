//! Long steps, shown as they go: a spinner on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A long step under way.
pub struct Step {
    spinner: Option<ProgressBar>,
    started: Instant,
}

impl Step {
    /// Says what begins.
    pub fn start(message: impl Into<String>) -> Self {
        let message = message.into();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner.set_message(message.clone());
            spinner
        });
        if spinner.is_none() {
            say(&format!("{message}..."));
        }
        Self { spinner, started: Instant::now() }
    }

    /// Says what came of it, and how long it took.
    pub fn done(self, message: impl AsRef<str>) {
        if let Some(spinner) = self.spinner {
            spinner.finish_and_clear();
        }
        say(&format!("{} in {:.1} s", message.as_ref(), self.started.elapsed().as_secs_f64()));
    }
}

/// Bytes on their way: a bar on a terminal, plain lines elsewhere.
pub struct Bar {
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Bar {
    /// Says what begins, and of how many bytes.
    pub fn start(message: String, bytes: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(bytes);
            let template = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(message.clone());
            bar
        });
        if bar.is_none() {
            say(&format!("{message}..."));
        }
        Self { bar, started: Instant::now() }
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
