//! Shows the progress of long steps on a terminal: a spinner or a bar.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::ProgressStyle;
use spotter_progress::{ProgressBar, ProgressReporter, ProgressTotal};

/// Shows steps as bars, if standard error is a terminal.
pub(super) fn show_bars() {
    if std::io::stderr().is_terminal() {
        spotter_progress::set_reporter(Box::new(Terminal));
    }
}

struct Terminal;

impl ProgressReporter for Terminal {
    fn start(&self, message: &str, total: ProgressTotal) -> Box<dyn ProgressBar> {
        let (bar, template) = match total {
            ProgressTotal::Unknown => {
                let spinner = indicatif::ProgressBar::new_spinner();
                spinner.enable_steady_tick(Duration::from_millis(100));
                (spinner, "{spinner} {msg} [{elapsed}]")
            }
            ProgressTotal::Bytes(bytes) => (
                indicatif::ProgressBar::new(bytes),
                "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}",
            ),
            ProgressTotal::Items(items) => {
                (indicatif::ProgressBar::new(items), "{msg} {wide_bar} {pos}/{len} {eta} left")
            }
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(message.to_owned());
        Box::new(TerminalBar(bar))
    }
}

struct TerminalBar(indicatif::ProgressBar);

impl ProgressBar for TerminalBar {
    fn advance(&self, amount: u64) {
        self.0.inc(amount);
    }
}

impl Drop for TerminalBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
