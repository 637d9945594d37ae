//! `spotter check`: validates a manifest and its components without running anything.

use clap::Args;

use super::AppArguments;
use crate::app::check;
use crate::progress::say;

/// Validate a manifest and its components without running anything
#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    app: AppArguments,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let app = self.app.load()?;
        check::application(&app)?;
        say(&format!("{}: {} component(s), no fault found", app.name, app.components.len()));
        Ok(())
    }
}
