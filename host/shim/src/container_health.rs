//! Whether a container serves requests, and what it waits for if it does not.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use spotter_up::health::ensure_ready;

use super::pending_code::CompilationStep;

/// What the shim knows about a container's server.
pub(super) struct ContainerHealth {
    /// The address of its admin listener, in the pod's network.
    admin: SocketAddr,
    /// The pod's network namespace.
    network: File,
    /// What its compiler does.
    compilation: Option<Arc<CompilationStep>>,
}

/// How long to wait for the server's answer.
const TIMEOUT: Duration = Duration::from_secs(2);

impl ContainerHealth {
    pub(super) fn new(
        admin: SocketAddr,
        network: File,
        compilation: Option<Arc<CompilationStep>>,
    ) -> Self {
        Self { admin, network, compilation }
    }

    /// Asks the server. The calling thread stays in the pod's network.
    ///
    /// # Errors
    /// If the code is still being compiled, or the server is not ready.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if let Some(step) = self.compilation.as_ref().and_then(|compilation| compilation.get()) {
            bail!("{step}");
        }
        move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter the pod's network")?;
        spotter_up::block_on(ensure_ready(self.admin, TIMEOUT))
    }
}
