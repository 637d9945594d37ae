//! The syntax of `[component.ID]` in `spin.toml`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::files::FileEntry;
use super::remote_source::{DownloadsFolder, RemoteSource};

/// `[component.ID]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentManifest {
    #[serde(default)]
    pub description: String,
    pub source: ComponentSource,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    pub files: Vec<FileEntry>,
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
    /// Whether all of them may use what the component is granted.
    #[serde(default)]
    pub dependencies_inherit_configuration: bool,
    /// For other programs: the environments to run in.
    #[serde(default)]
    pub targets: Vec<toml::Value>,
    pub build: Option<BuildManifest>,
    /// Overrides for `--profile NAME`.
    #[serde(default)]
    pub profile: BTreeMap<String, Profile>,
    #[serde(default)]
    pub tool: Tool,
}

/// `[component.ID.profile.NAME]`: overrides of the component's own settings, such as an unoptimised build.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub source: Option<ComponentSource>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    pub build: Option<BuildManifest>,
}

/// A component's source: a local path, or a table that names a URL or a package.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`source` must be a path, or a table { url = \"…\", digest = \"sha256:…\" }"
)]
pub enum ComponentSource {
    Local(PathBuf),
    Remote(BTreeMap<String, String>),
}

impl ComponentSource {
    /// The component's file: below `root`, or in the folder of downloads, with its URL.
    ///
    /// # Errors
    /// If the table is invalid or names a package in a registry, or the folder of downloads cannot be used.
    pub fn file(
        &self,
        root: &Path,
        downloads: Option<DownloadsFolder>,
    ) -> anyhow::Result<(PathBuf, Option<RemoteSource>)> {
        match self {
            Self::Local(path) => Ok((root.join(path), None)),
            Self::Remote(keys) => {
                let remote = RemoteSource::parse(keys)?;
                let folder = downloads.with_context(|| {
                    format!(
                        "the source {} is a URL, but a pod downloads no components; make the image with `spotter push` \
                         or `spotter image`, which include the component",
                        remote.url
                    )
                })?;
                Ok((folder()?.join(remote.file_name()), Some(remote)))
            }
        }
    }
}

/// `[component.ID.build]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildManifest {
    pub command: Commands,
    #[serde(default)]
    pub workdir: Option<PathBuf>,
    #[serde(default)]
    pub watch: Vec<String>,
}

/// One shell command, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`command` must be a shell command, or a list of shell commands")]
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

/// `[component.ID.tool.*]`: settings of other tools, which Spin ignores.
#[derive(Debug, Default, Deserialize)]
pub struct Tool {
    pub spotter: Option<SpotterTool>,
}

/// `[component.ID.tool.spotter]`: how the core module becomes the component, and how its instances are limited.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpotterTool {
    /// The core module that the build command produces.
    pub module: Option<PathBuf>,
    #[serde(default)]
    pub interruption: Interruption,
    /// Whether `GET` of its root is served, `on` or `off`; a template.
    pub page: Option<String>,
    /// The other origins whose pages may read its replies; a template.
    pub cross_origin: Option<String>,
    /// How many of its instances may exist at once.
    pub max_instances: Option<NonZeroUsize>,
    /// The folder of the model to bake in: `model.toml`, `model.onnx`, `labels.txt`. Without a model, the module
    /// is only wrapped.
    pub model: Option<PathBuf>,
    /// The folders of the models that `ai_models` grants, by name.
    #[serde(default)]
    pub models: BTreeMap<String, PathBuf>,
    /// Overrides for `--profile NAME`, in addition to the component's own.
    #[serde(default)]
    pub profile: BTreeMap<String, ToolProfile>,
}

/// `[component.ID.tool.spotter.profile.NAME]`: overrides of these settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolProfile {
    pub module: Option<PathBuf>,
    pub interruption: Option<Interruption>,
}

/// How an instance that exceeds its limit on CPU time is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Interruption {
    /// Its code checks wasmtime's epoch in every loop and function, and traps.
    #[default]
    Epoch,
    /// Its code has no checks, which makes arithmetic a quarter faster or more. A watchdog answers the client and
    /// leaves the instance to finish at the lowest priority. It is for components that their operator trusts.
    Watchdog,
}

impl ComponentManifest {
    /// Replaces the component's source, build and baking with the profile's, and adds the profile's environment. Does
    /// nothing if the component does not have this profile.
    pub(super) fn apply_profile(&mut self, name: &str) {
        let Some(profile) = self.profile.remove(name) else { return };
        if let Some(tool) = &mut self.tool.spotter {
            tool.apply_profile(name);
        }
        if let Some(source) = profile.source {
            self.source = source;
        }
        if profile.build.is_some() {
            self.build = profile.build;
        }
        self.environment.extend(profile.environment);
    }
}

impl SpotterTool {
    fn apply_profile(&mut self, name: &str) {
        let Some(profile) = self.profile.remove(name) else { return };
        if profile.module.is_some() {
            self.module = profile.module;
        }
        self.interruption = profile.interruption.unwrap_or(self.interruption);
    }
}
