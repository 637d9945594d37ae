//! `spin.toml` as it is written: Spin's manifest, version 2
//! (<https://spinframework.dev/manifest-reference>), key for key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{anyhow, bail, ensure};
use serde::Deserialize;

use crate::suggest::nearest;

/// A whole manifest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub spin_manifest_version: i64,
    pub application: Application,
    #[serde(default)]
    pub variables: BTreeMap<String, toml::Value>,
    #[serde(default)]
    pub trigger: Triggers,
    #[serde(default)]
    pub component: BTreeMap<String, Component>,
}

/// `[application]`: what the application is called.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    pub name: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub authors: Vec<String>,
}

/// `[[trigger.*]]`: what starts a component. Only HTTP does here.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triggers {
    #[serde(default)]
    pub http: Vec<HttpTrigger>,
}

/// `[[trigger.http]]`: a route, and the component that answers it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    #[serde(default)]
    pub id: Option<String>,
    pub route: Route,
    pub component: String,
}

/// A path pattern, or `{ private = true }` for a component that other components call.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Route {
    Path(String),
    Private { private: bool },
}

/// `[component.ID]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    #[serde(default)]
    pub description: String,
    pub source: Source,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    pub files: Vec<toml::Value>,
    #[serde(default)]
    pub exclude_files: Vec<String>,
    #[serde(default)]
    pub key_value_stores: Vec<String>,
    #[serde(default)]
    pub sqlite_databases: Vec<String>,
    #[serde(default)]
    pub ai_models: Vec<String>,
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    #[serde(default)]
    pub dependencies: BTreeMap<String, toml::Value>,
    pub build: Option<Build>,
    #[serde(default)]
    pub tool: Tool,
}

/// Where a component's bytes are: a local path, or a table that names a URL or a package.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Source {
    Local(PathBuf),
    Remote(BTreeMap<String, String>),
}

/// `[component.ID.build]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    pub command: Commands,
    #[serde(default)]
    pub workdir: Option<PathBuf>,
    #[serde(default)]
    pub watch: Vec<String>,
}

/// One shell command, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Commands {
    One(String),
    Several(Vec<String>),
}

impl Commands {
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(command) => vec![command],
            Self::Several(commands) => commands,
        }
    }
}

/// `[component.ID.tool.*]`: what tools other than Spin read; Spin passes over it.
#[derive(Debug, Default, Deserialize)]
pub struct Tool {
    pub spotter: Option<SpotterTool>,
}

/// `[component.ID.tool.spotter]`: how the component is baked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpotterTool {
    /// The core module that the build command makes.
    pub module: PathBuf,
    /// The folder of the model: `model.toml`, `model.onnx`, `labels.txt`.
    pub model: PathBuf,
}

impl Manifest {
    /// Parses a manifest.
    ///
    /// # Errors
    /// Names an unknown key, and the nearest valid one.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let manifest: Self = toml::from_str(text).map_err(|error| with_suggestion(&error))?;
        ensure!(
            manifest.spin_manifest_version == 2,
            "`spin_manifest_version` is {}; only version 2 is supported",
            manifest.spin_manifest_version
        );
        ensure!(
            manifest.variables.is_empty(),
            "[variables] is not supported yet; take it out, or set values in `environment`"
        );
        Ok(manifest)
    }
}

impl Component {
    /// Refuses what would be granted by other runtimes and is not here, rather than run without it.
    pub fn refuse_unsupported(&self) -> anyhow::Result<()> {
        let asked = [
            ("allowed_outbound_hosts", !self.allowed_outbound_hosts.is_empty()),
            ("files", !self.files.is_empty()),
            ("exclude_files", !self.exclude_files.is_empty()),
            ("key_value_stores", !self.key_value_stores.is_empty()),
            ("sqlite_databases", !self.sqlite_databases.is_empty()),
            ("ai_models", !self.ai_models.is_empty()),
            ("variables", !self.variables.is_empty()),
            ("dependencies", !self.dependencies.is_empty()),
        ];
        for (key, is_asked) in asked {
            if is_asked {
                bail!("`{key}` is not supported; take it out, or run the application elsewhere");
            }
        }
        Ok(())
    }
}

/// Adds the nearest valid key to serde's "unknown field `x`, expected one of `a`, `b`".
fn with_suggestion(error: &toml::de::Error) -> anyhow::Error {
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            let hint = nearest(unknown, known.iter().copied())
                .map(|name| format!("\ndid you mean `{name}`?"))
                .unwrap_or_default();
            anyhow!("{error}{hint}")
        }
        _ => anyhow!("{error}"),
    }
}
