//! Logging to standard error, as text or as JSON.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use spotter_runtime::guest_log::LOG_TARGET;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::component_output::{OutputFilter, OutputLayer};

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
    /// Also writes what components write to files, once it has some.
    pub(crate) output: OutputLayer,
}

impl LogFormat {
    /// Starts logging what the filter shows. `RUST_LOG` sets the level, `info` by default.
    pub(crate) fn start(self, filter: OutputFilter) -> Log {
        let level = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(MAX_WAITING_LINES)
            .thread_name("log")
            .finish(std::io::stderr());
        let dropped = writer.error_counter();
        let lines = fmt::layer()
            .with_writer(writer)
            .with_ansi(AutoStream::choice(&std::io::stderr()) != ColorChoice::Never);
        let lines = match self {
            Self::Pretty => lines.boxed(),
            Self::Json => lines.json().flatten_event(true).boxed(),
        };
        let output = OutputLayer::default();
        let is_output = Targets::new().with_target(LOG_TARGET, LevelFilter::INFO);
        let logged = tracing_subscriber::registry()
            .with(lines.with_filter(level.and(filter)))
            .with(output.clone().with_filter(is_output))
            .try_init();
        // If logging has already been started in this process, that stays in effect.
        drop(logged);
        Log { dropped, writer: Some(guard), output }
    }
}

impl Log {
    /// The metric of dropped lines.
    pub(crate) fn metric(&self) -> DroppedLines {
        DroppedLines { log: self.dropped.clone(), files: Arc::clone(&self.output.lost) }
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
pub(crate) struct DroppedLines {
    log: ErrorCounter,
    files: Arc<AtomicU64>,
}

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        const HELP: &str = "Log lines dropped because standard error was not read in time, or a \
                            component's log file could not be written";
        let lost = self.files.load(Ordering::Relaxed);
        let dropped = ConstCounter::new(self.log.dropped_lines() as u64 + lost);
        let metric =
            encoder.encode_descriptor("log_lines_dropped", HELP, None, dropped.metric_type())?;
        dropped.encode(metric)
    }
}
