//! `spotter detect`: the same component on local pictures, in process, with no server.

use clap::Args;

/// Detect objects in pictures
#[derive(Args)]
pub struct Detect {}

impl Detect {
    pub fn run(self) -> anyhow::Result<()> {
        Ok(())
    }
}
