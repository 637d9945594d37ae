//! `spotter login`: stores credentials for a registry.

use std::io::BufRead;

use anyhow::{Context, ensure};
use clap::Args;

use spotter_progress::say;
use spotter_registry::{self as registry, credentials};
use spotter_up::block_on;

/// Log in to an OCI registry; the password is read from standard input
#[derive(Args)]
pub(super) struct Login {
    /// The registry, such as ghcr.io
    registry: String,
    /// The user's name in the registry
    #[arg(short, long, value_name = "NAME")]
    username: String,
    /// Accepted for compatibility with Docker: the password always comes from standard input
    #[arg(long)]
    password_stdin: bool,
}

impl Login {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if !self.password_stdin {
            say(&format!("Password for {} at {}:", self.username, self.registry));
        }
        let mut password = String::new();
        std::io::stdin().lock().read_line(&mut password).context("cannot read the password")?;
        let password = password.trim_end_matches(['\r', '\n']);
        ensure!(!password.is_empty(), "the password is empty; pass it on standard input");
        block_on(registry::check_login(&self.registry, &self.username, password))?;
        let file = credentials::store(&self.registry, &self.username, password)?;
        say(&format!("Logged in to {}; credentials stored in {}", self.registry, file.display()));
        Ok(())
    }
}
