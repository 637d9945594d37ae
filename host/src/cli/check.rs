//! `spotter check`: validates a manifest and its components without running them.

use clap::Args;

use spotter_progress::print_message;
use spotter_runtime::compile::prepare;
use spotter_up::AppArguments;

/// Validate a manifest and its components without running them
#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    app: AppArguments,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let app = self.app.load()?;
        app.notes.iter().for_each(|note| print_message(&format!("warning: {note}")));
        prepare::application(&app)?;
        print_message(&format!("{}: no errors (components: {})", app.name, app.components.len()));
        Ok(())
    }
}
