//! `[component.ID.dependencies]`: the components that provide a component's imports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::component_manifest::{ComponentManifest, ComponentSource};
use super::remote_source::{DownloadsFolder, RemoteSource};

/// A component that provides imports of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Which imports: a name such as `log`, or a package such as `a:b`, `a:b/interface` or `a:b/interface@1.0.0`.
    pub name: String,
    /// The component's file.
    pub source: PathBuf,
    /// Where `source` is downloaded from, if it is not the user's own file.
    pub remote: Option<RemoteSource>,
    /// Its export that provides the import, if that has another name.
    pub export: Option<String>,
    /// Whether it may use what the component is granted: environment, files, networks, stores.
    pub inherits: bool,
}

/// How a dependency is declared. A string is a version, to be fetched from a registry.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DependencyManifest {
    path: Option<PathBuf>,
    component: Option<String>,
    export: Option<String>,
    inherit_configuration: Option<toml::Value>,
    // From elsewhere:
    version: Option<String>,
    registry: Option<String>,
    package: Option<String>,
    url: Option<String>,
    digest: Option<String>,
}

/// Where the components that an application consists of are.
pub struct ComponentFiles<'a> {
    /// The folder of the manifest.
    root: &'a Path,
    /// Finds the folder for components from URLs, if they may be used.
    downloads: Option<DownloadsFolder>,
    /// The sources of `[component.ID]`, by their ids.
    sources: BTreeMap<String, (PathBuf, Option<RemoteSource>)>,
}

impl<'a> ComponentFiles<'a> {
    pub fn new(
        components: &BTreeMap<String, ComponentManifest>,
        root: &'a Path,
        downloads: Option<DownloadsFolder>,
    ) -> Self {
        // An invalid source is reported with its component.
        let file = |component: &ComponentManifest| component.source.file(root, downloads).ok();
        let sources = components.iter();
        let sources =
            sources.filter_map(|(id, component)| Some((id.clone(), file(component)?))).collect();
        Self { root, downloads, sources }
    }
}

/// Validates a component's dependencies.
///
/// # Errors
/// If a dependency is malformed, or in a registry. The error names it.
pub fn resolve(
    component: &ComponentManifest,
    files: &ComponentFiles,
) -> anyhow::Result<Vec<Dependency>> {
    let all = component.dependencies_inherit_configuration;
    let declared = component.dependencies.iter();
    let resolved = declared.map(|(name, value)| {
        dependency(name, value, files, all).with_context(|| format!("`{name}` in `dependencies`"))
    });
    resolved.collect()
}

fn dependency(
    name: &str,
    value: &toml::Value,
    files: &ComponentFiles,
    all_inherit: bool,
) -> anyhow::Result<Dependency> {
    const REMOTE: &str =
        "only local files and URLs are supported: download it, and name the file with `path`";
    if let toml::Value::String(version) = value {
        bail!("version {version:?} would come from a registry; {REMOTE}");
    }
    let declared: DependencyManifest = value.clone().try_into()?;
    let DependencyManifest { version, registry, package, .. } = &declared;
    if version.is_some() || registry.is_some() || package.is_some() {
        bail!("it would come from a registry; {REMOTE}");
    }
    let inherits = match declared.inherit_configuration {
        None => all_inherit,
        Some(toml::Value::Boolean(own)) => own || all_inherit,
        Some(other) => bail!(
            "`inherit_configuration` is {other}; a dependency inherits all of the component's configuration (`true`) \
             or none (`false`)"
        ),
    };
    let (source, remote) = match (declared.path, declared.component, declared.url, declared.digest)
    {
        (Some(path), None, None, None) => (files.root.join(path), None),
        (None, Some(id), None, None) => {
            let source = files.sources.get(&id);
            source
                .with_context(|| {
                    format!("[component.{id}] does not exist, or its source cannot be used")
                })?
                .clone()
        }
        (None, None, Some(url), digest) => {
            let mut keys = BTreeMap::from([("url".to_owned(), url)]);
            keys.extend(digest.map(|digest| ("digest".to_owned(), digest)));
            ComponentSource::Remote(keys).file(files.root, files.downloads)?
        }
        _ => bail!("it needs a `path`, a `component`, or a `url` with its `digest`"),
    };
    ensure!(!name.is_empty(), "the name is empty; write the name of an import");
    Ok(Dependency { name: name.to_owned(), source, remote, export: declared.export, inherits })
}

impl Dependency {
    /// Whether it provides an import of this name.
    pub fn provides(&self, import: &str) -> bool {
        let (own, own_version) = split_version(&self.name);
        let (imported, version) = split_version(import);
        let package = imported.split('/').next().unwrap_or_default();
        let is_named = own == imported || imported.contains(':') && own == package;
        is_named && own_version.is_none_or(|own| version == Some(own))
    }
}

/// A name without its version, and its version.
fn split_version(name: &str) -> (&str, Option<&str>) {
    name.split_once('@').map_or((name, None), |(name, version)| (name, Some(version)))
}

#[cfg(test)]
mod tests {
    use super::{Dependency, PathBuf};

    #[test]
    fn a_dependency_provides_the_imports_that_its_name_covers() {
        let provides = |name: &str, import: &str| {
            let dependency = Dependency {
                name: name.into(),
                source: PathBuf::new(),
                remote: None,
                export: None,
                inherits: false,
            };
            dependency.provides(import)
        };
        for (name, import) in [
            ("foo:bar/baz@0.1.0", "foo:bar/baz@0.1.0"),
            ("foo:bar/baz", "foo:bar/baz@0.1.0"),
            ("foo:bar/baz", "foo:bar/baz"),
            ("foo:bar", "foo:bar/baz@0.1.0"),
            ("foo:bar@0.1.0", "foo:bar/baz@0.1.0"),
            ("foo-bar", "foo-bar"),
        ] {
            assert!(provides(name, import), "{name} {import}");
        }
        for (name, import) in [
            ("foo:bar/baz@0.1.0", "foo:bar/baz"),
            ("foo:bar@0.1.0", "foo:bar/baz@0.2.0"),
            ("foo:bar/baz", "foo:bar/bub@0.1.0"),
            ("foo:bar", "foo:barn/baz"),
            ("foo:bar/baz", "foo-bar"),
            ("foo", "foo-bar"),
        ] {
            assert!(!provides(name, import), "{name} {import}");
        }
    }
}
