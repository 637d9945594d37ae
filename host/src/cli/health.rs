//! `spotter health`: asks a server whether it is ready, for container runtimes that probe with a command.

use std::net::SocketAddr;

use clap::Args;

use spotter_config::units::HumanDuration;
use spotter_progress::print;
use spotter_up::block_on;
use spotter_up::health::ensure_ready;

/// Ask a server on this machine, through its admin listener, whether it is ready
#[derive(Args)]
pub(super) struct Health {
    /// The address that was given to `spotter up --admin`
    #[arg(long, env = "SPOTTER_ADMIN", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// How long to wait for the answer
    #[arg(long, default_value = "2s", value_name = "TIME")]
    timeout: HumanDuration,
}

impl Health {
    pub(super) fn run(self) -> anyhow::Result<()> {
        block_on(ensure_ready(self.admin, self.timeout.0))?;
        print("ready");
        Ok(())
    }
}
