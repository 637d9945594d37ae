//! The syntax of `spin.toml`: Spin's manifest, version 2
//! (<https://spinframework.dev/manifest-reference>).

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::files::FileEntry;
use super::triggers::Triggers;
use super::variables::Declaration;
use spotter_config::suggest;

/// A whole manifest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub spin_manifest_version: i64,
    pub application: Application,
    #[serde(default)]
    pub variables: BTreeMap<String, Declaration>,
    #[serde(default)]
    pub trigger: Triggers,
    #[serde(default)]
    pub component: BTreeMap<String, ComponentManifest>,
}

/// `[application]`.
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
    /// For other programs: the environments to run in, triggers' settings, tools' settings.
    #[serde(default)]
    pub targets: Vec<toml::Value>,
    #[serde(default)]
    pub trigger: BTreeMap<String, toml::Value>,
    #[serde(default)]
    pub tool: BTreeMap<String, toml::Value>,
}

/// `[component.ID]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentManifest {
    #[serde(default)]
    pub description: String,
    pub source: Source,
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
    pub source: Option<Source>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    pub build: Option<BuildManifest>,
}

/// A component's source: a local path, or a table that names a URL or a package.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Source {
    Local(PathBuf),
    Remote(BTreeMap<String, String>),
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
    /// Overrides for `--profile NAME`, beside the component's own.
    #[serde(default)]
    pub profile: BTreeMap<String, ToolProfile>,
}

/// `[component.ID.tool.spotter.profile.NAME]`: overrides of the settings beside it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolProfile {
    pub module: Option<PathBuf>,
    pub interruption: Option<Interruption>,
}

/// How an instance that exceeds its limit on processor time is stopped.
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

impl Manifest {
    /// Applies a profile to every component that has it.
    ///
    /// # Errors
    /// If no component has this profile.
    pub fn apply_profile(&mut self, name: &str) -> anyhow::Result<()> {
        let profiles = self.component.values().flat_map(|component| component.profile.keys());
        let profiles: Vec<String> = profiles.cloned().collect();
        if !profiles.iter().any(|profile| profile == name) {
            let near = suggest::nearest(name, profiles.iter().map(String::as_str));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            bail!("no component has the profile `{name}`{hint}");
        }
        self.component.values_mut().for_each(|component| component.apply_profile(name));
        Ok(())
    }

    /// Removes the HTTP triggers of other components and the static ones; of none, if `components` is empty.
    ///
    /// # Errors
    /// If there is no component of a name.
    pub fn keep_triggers_of(&mut self, components: &[String]) -> anyhow::Result<()> {
        for id in components {
            let ids = self.component.keys().map(String::as_str);
            let near = suggest::nearest(id, ids).map(|near| format!("; did you mean `{near}`?"));
            ensure!(
                self.component.contains_key(id),
                "--component-id names `{id}`, but there is no [component.{id}]{}",
                near.unwrap_or_default()
            );
        }
        self.trigger.http.retain(|trigger| {
            let own = trigger.component.as_ref().map(|component| &component.id);
            components.is_empty() || own.is_some_and(|id| components.contains(id))
        });
        Ok(())
    }

    /// Parses a manifest.
    ///
    /// # Errors
    /// If the text is not a valid manifest. For an unknown key, the error suggests the nearest valid one.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        check_version(text)?;
        let mut manifest: Self = suggest::parse_toml(text)?;
        manifest.trigger.move_inline_components(&mut manifest.component);
        Ok(manifest)
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

/// Refuses other versions before the rest is parsed, which would fail at the first key that they write differently.
fn check_version(text: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Version {
        Number(i64),
        Text(String),
    }
    #[derive(Deserialize)]
    struct Versioned {
        spin_manifest_version: Option<Version>,
        /// The key of the oldest manifests.
        spin_version: Option<Version>,
    }
    // What is no TOML at all is reported with its line when the whole is parsed.
    let Ok(found) = toml::from_str::<Versioned>(text) else { return Ok(()) };
    let version = found.spin_manifest_version.or(found.spin_version);
    let written = match version.context("there is no version; write `spin_manifest_version = 2`")? {
        Version::Number(2) => return Ok(()),
        Version::Number(number) => number.to_string(),
        Version::Text(text) => format!("{text:?}"),
    };
    ensure!(
        written.trim_matches('"') != "1",
        "the manifest is of version 1; only version 2 is supported: convert it with `spin doctor`"
    );
    bail!(
        "`spin_manifest_version` is {written}; write `spin_manifest_version = 2`, the only one supported"
    )
}

impl ComponentManifest {
    /// Replaces the component's source, build and baking with the profile's, and adds the profile's environment. Does
    /// nothing if the component does not have this profile.
    fn apply_profile(&mut self, name: &str) {
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
