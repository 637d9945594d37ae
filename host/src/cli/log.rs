//! Logging to standard error, as text or as JSON.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Readable text, in colour on a terminal
    Pretty,
    /// One JSON object per line
    Json,
}

impl LogFormat {
    /// Starts logging all targets but `silent`. `RUST_LOG` sets the level, `info` by default.
    pub(crate) fn start(self, silent: Option<&str>) -> anyhow::Result<()> {
        use std::io::IsTerminal;
        let mut filter =
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        if let Some(target) = silent {
            filter = filter.add_directive(format!("{target}=off").parse()?);
        }
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        // If logging has already been started in this process, that stays in effect.
        let _ = match self {
            Self::Pretty => lines.try_init(),
            Self::Json => lines.json().flatten_event(true).try_init(),
        };
        Ok(())
    }
}
