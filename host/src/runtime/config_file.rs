//! The runtime configuration file (`--runtime-config-file`, as in Spin): how an application is run
//! here, as opposed to what it is.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::limits::LimitSettings;

/// A parsed file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    pub limits: LimitSettings,
}

impl ConfigFile {
    /// Reads the file at `path`; an empty one where there is no path.
    ///
    /// # Errors
    /// A file that cannot be read; an unknown key, a bad value, each named.
    pub fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the runtime configuration {}", path.display()))?;
        crate::suggest::parse_toml(&text).with_context(|| format!("in {}", path.display()))
    }
}
