//! containerd's request to create a container, as far as the shim needs it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A request to create a container.
#[derive(Clone, Deserialize, Serialize)]
pub struct ContainerRequest {
    pub id: String,
    /// containerd's namespace.
    pub namespace: String,
    /// The path of containerd's socket.
    pub containerd: String,
    /// The folder of the container's configuration and root file system.
    pub bundle: PathBuf,
    /// Paths of pipes, or URLs of files; empty for none.
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
}

impl ContainerRequest {
    /// The container's name, unique on the node.
    pub(super) fn unique_name(&self) -> String {
        unique_name(&self.namespace, &self.id)
    }
}

/// The unique name of a container on its node.
pub(super) fn unique_name(namespace: &str, id: &str) -> String {
    format!("{namespace}-{id}")
}
