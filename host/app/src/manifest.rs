//! The syntax of `spin.toml`: Spin's manifest, version 2
//! (<https://spinframework.dev/manifest-reference>).

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::component_manifest::ComponentManifest;
use super::manifest_size;
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
        manifest_size::check(&manifest)?;
        Ok(manifest)
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
    // Text that is not TOML is reported with its line when the whole is parsed.
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
