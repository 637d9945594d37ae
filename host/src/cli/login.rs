//! `spotter login`: stores credentials for a registry.

use std::io::{BufRead, IsTerminal, stdin};

use anyhow::{Context, ensure};
use clap::Args;

use spotter_progress::print_message;
use spotter_registry::{self as registry, credentials};
use spotter_up::{RegistryArguments, block_on};

/// Log in to an OCI registry; prompt for the password on a terminal, or read it from standard input
#[derive(Args)]
pub(super) struct Login {
    /// The registry, such as ghcr.io
    registry: String,
    /// The user's name in the registry
    #[arg(short, long, value_name = "NAME")]
    username: String,
    /// Read the password from standard input without asking for it, as Docker does
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    connection: RegistryArguments,
}

impl Login {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let password = self.password()?;
        ensure!(!password.is_empty(), "the password is empty; pass it on standard input");
        let transport = self.connection.transport();
        block_on(registry::check_login(&self.registry, transport, &self.username, &password))?;
        let file = credentials::store(&self.registry, &self.username, &password)?;
        print_message(&format!(
            "Logged in to {}; credentials stored in {}",
            self.registry,
            file.display()
        ));
        Ok(())
    }

    /// The password: typed without an echo, or the first line of standard input.
    fn password(&self) -> anyhow::Result<String> {
        const UNREADABLE: &str = "cannot read the password";
        if !self.password_stdin && stdin().is_terminal() {
            let prompt = format!("Password for {} at {}: ", self.username, self.registry);
            return rpassword::prompt_password(prompt).context(UNREADABLE);
        }
        let mut password = String::new();
        stdin().lock().read_line(&mut password).context(UNREADABLE)?;
        Ok(password.trim_end_matches(['\r', '\n']).to_owned())
    }
}
