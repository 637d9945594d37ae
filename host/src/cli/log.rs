//! Log lines on standard error: for people, or as JSON for machines.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people, in colour on a terminal
    Pretty,
    /// A JSON object a line
    Json,
}

impl LogFormat {
    /// Starts logging of all but the `silent` target; `RUST_LOG` says what is logged, from `info`
    /// up by default.
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
        // A second start in one process keeps the first.
        let _ = match self {
            Self::Pretty => lines.try_init(),
            Self::Json => lines.json().flatten_event(true).try_init(),
        };
        Ok(())
    }
}
