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

/// A line for the person who waits; standard output is for what was asked for.
#[allow(clippy::print_stderr, reason = "this is the one place that speaks to the person")]
pub fn say(message: &str) {
    eprintln!("{message}");
}
