//! The flag for how registries are reached, of all commands that pull or push images.

use clap::Args;
use spotter_registry::Transport;

/// The flag for how registries are reached.
#[derive(Args)]
pub struct RegistryArguments {
    /// Accept any certificate of a registry, and use plain HTTP if no connection over HTTPS can be made
    #[arg(long, short = 'k')]
    insecure: bool,
}

impl RegistryArguments {
    /// How to reach the registry.
    pub fn transport(&self) -> Transport {
        match self.insecure {
            true => Transport::Insecure,
            false => Transport::Secure,
        }
    }
}
