//! `spotter registry`: the commands for registries, spelled as `spin registry` spells them.

use clap::{Args, Subcommand};

use super::{login, pull, push};

/// Push, pull and log in, under Spin's command names; the same as `spotter push`, `pull` and `login`
#[derive(Args)]
pub(super) struct Registry {
    #[command(subcommand)]
    command: RegistryCommand,
}

#[derive(Subcommand)]
enum RegistryCommand {
    Push(Box<push::Push>),
    Pull(pull::Pull),
    Login(login::Login),
}

impl Registry {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            RegistryCommand::Push(command) => command.run(),
            RegistryCommand::Pull(command) => command.run(),
            RegistryCommand::Login(command) => command.run(),
        }
    }
}
