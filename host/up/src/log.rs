//! Logging to standard error, as text or as JSON.

use std::fmt;
use std::sync::mpsc;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// How many lines may wait to be written. Further ones are dropped, so that a reader of standard error that stops
/// reading does not stop the server.
const MAX_WAITING_LINES: usize = 8192;

/// How long the end of the process waits for the last lines.
const MAX_EXIT_DELAY: Duration = Duration::from_secs(2);

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Readable text, in colour on a terminal
    Pretty,
    /// One JSON object per line
    Json,
}

/// A log that has been started. Dropping it writes the lines that are waiting, if that does not take long.
pub(crate) struct Log {
    dropped: ErrorCounter,
    writer: Option<WorkerGuard>,
}

impl LogFormat {
    /// Starts logging all targets but `silent`. `RUST_LOG` sets the level, `info` by default.
    pub(crate) fn start(self, silent: Option<&str>) -> anyhow::Result<Log> {
        let mut filter =
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        if let Some(target) = silent {
            filter = filter.add_directive(format!("{target}=off").parse()?);
        }
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(MAX_WAITING_LINES)
            .thread_name("log")
            .finish(std::io::stderr());
        let dropped = writer.error_counter();
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(writer)
            .with_ansi(AutoStream::choice(&std::io::stderr()) != ColorChoice::Never);
        // If logging has already been started in this process, that stays in effect.
        let _ = match self {
            Self::Pretty => lines.try_init(),
            Self::Json => lines.json().flatten_event(true).try_init(),
        };
        Ok(Log { dropped, writer: Some(guard) })
    }
}

impl Log {
    /// The metric of dropped lines.
    pub(crate) fn metric(&self) -> DroppedLines {
        DroppedLines(self.dropped.clone())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (writer, (done, is_done)) = (self.writer.take(), mpsc::channel());
        // The guard may write to standard output, which may be blocked as well.
        std::thread::spawn(move || {
            drop(writer);
            let _ = done.send(());
        });
        let _ = is_done.recv_timeout(MAX_EXIT_DELAY);
    }
}

/// Counts the lines that were dropped.
#[derive(Debug)]
pub(crate) struct DroppedLines(ErrorCounter);

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        const HELP: &str = "Log lines dropped because standard error was not read in time";
        let dropped = ConstCounter::new(self.0.dropped_lines() as u64);
        let metric =
            encoder.encode_descriptor("log_lines_dropped", HELP, None, dropped.metric_type())?;
        dropped.encode(metric)
    }
}
