//! `spotter man`: the manual pages, made from what `--help` says.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};

use super::Cli;
use spotter_progress::print_message;

/// Write the manual pages
#[derive(Args)]
pub(super) struct Man {
    /// The folder, such as /usr/local/share/man/man1
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let folder = self.output.display();
        std::fs::create_dir_all(&self.output)
            .with_context(|| format!("cannot create the folder {folder}"))?;
        clap_mangen::generate_to(Cli::command(), &self.output)
            .with_context(|| format!("cannot write to {folder}"))?;
        print_message(&format!(
            "Wrote the manual pages to {folder}: read one with `man -l {folder}/spotter.1`"
        ));
        Ok(())
    }
}
