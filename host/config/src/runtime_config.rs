//! The runtime configuration file (`--runtime-config-file`, as in Spin): settings of the host, as opposed to
//! those of the application.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::key_value_stores::KeyValueStores;
use super::limits::LimitSettings;
use super::outbound_http::OutboundHttp;
use super::providers::VariablesProvider;
use super::sqlite_databases::SqliteDatabase;

/// A parsed runtime configuration file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeConfig {
    pub limits: LimitSettings,
    /// The folder of the application's persistent state.
    pub state_dir: Option<PathBuf>,
    /// Where variables' values come from. The first provider that has a value wins.
    #[serde(alias = "config_provider")]
    pub variables_provider: Vec<VariablesProvider>,
    /// Where key-value stores are kept, if not below `state_dir`.
    pub key_value_store: KeyValueStores,
    /// The files of SQLite databases, by name, if they are not below `state_dir`.
    pub sqlite_database: BTreeMap<String, SqliteDatabase>,
    pub outbound_http: OutboundHttp,
    /// The folder of the files with what components write to their standard streams.
    pub log_dir: Option<PathBuf>,
}

/// Spin's keys that are not supported, and what to do instead.
const UNSUPPORTED_KEYS: [(&str, &str); 3] = [
    ("blob_store", "there are no blob stores; use a key-value store"),
    (
        "client_tls",
        "outgoing requests use Mozilla's certificate authorities, and no client certificate",
    ),
    ("llm_compute", "this host runs no language models; call a model server over HTTP"),
];

impl RuntimeConfig {
    /// Reads the file at `path`. Without a path, returns the defaults.
    ///
    /// # Errors
    /// If the file cannot be read, or has an unknown or unsupported key or an invalid value.
    pub fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the runtime configuration {}", path.display()))?;
        Self::parse(&text, path)
    }

    /// Parses the text of the file at `path`.
    ///
    /// # Errors
    /// If it has an unknown or unsupported key or an invalid value.
    pub fn parse(text: &str, path: &Path) -> anyhow::Result<Self> {
        Self::parse_text(text).with_context(|| format!("in {}", path.display()))
    }

    fn parse_text(text: &str) -> anyhow::Result<Self> {
        // If the text is not TOML, `parse_secret_toml` below reports the line.
        let keys: toml::Table = toml::from_str(text).unwrap_or_default();
        if let Some((key, instead)) =
            UNSUPPORTED_KEYS.iter().find(|(key, _)| keys.contains_key(*key))
        {
            bail!(
                "`{key}` is not supported: {instead}; remove it, or run the application with Spin"
            );
        }
        crate::suggest::parse_secret_toml(text)
    }
}
