//! `spotter completions`: prints a script that lets a shell complete `spotter`'s arguments.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;

/// Print a script that completes arguments in a shell
#[derive(Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<()> {
        // `generate` panics if its writer fails, such as a pipe that is closed.
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "spotter", &mut script);
        std::io::Write::write_all(&mut std::io::stdout(), &script)?;
        Ok(())
    }
}
