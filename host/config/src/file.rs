//! The runtime configuration file (`--runtime-config-file`, as in Spin): settings of the host, as opposed to
//! those of the application.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::limits::LimitSettings;

/// A parsed runtime configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    pub limits: LimitSettings,
}

impl ConfigFile {
    /// Reads the file at `path`. Without a path, returns the defaults.
    ///
    /// # Errors
    /// If the file cannot be read, or has an unknown key or an invalid value.
    pub fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the runtime configuration {}", path.display()))?;
        crate::suggest::parse_toml(&text).with_context(|| format!("in {}", path.display()))
    }
}
