//! An application: a manifest after validation.

pub mod allowed_hosts;
pub mod browsers;
pub mod check;
pub mod cidr;
pub mod component_manifest;
pub mod dependencies;
pub mod files;
pub mod manifest;
mod manifest_size;
pub mod models;
pub mod mounts;
pub mod nn_engine;
pub mod remote_source;
pub mod routes;
pub mod runtime_options;
pub mod triggers;
pub mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use allowed_hosts::AllowedHosts;
use browsers::Browsers;
use component_manifest::{ComponentManifest, Interruption};
use dependencies::{ComponentFiles, Dependency};
use files::FileEntry;
use manifest::Manifest;
use models::ModelFolders;
use nn_engine::NnEngine;
use remote_source::{DownloadsFolder, RemoteSource};
use routes::{Pattern, RouteTable, StaticReply, Target};
use runtime_options::RuntimeOptions;
use triggers::{Executor, HttpTrigger, Route};
use variables::{MissingVariable, VariableSources};

/// Settings from outside the manifest.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    pub variables: VariableSources,
    /// The profile to apply to each component that has it.
    pub profile: Option<String>,
    /// The folders of models that components may use through `wasi:nn`.
    pub models: ModelFolders,
    /// What runs these models.
    pub nn_engine: NnEngine,
    /// The components whose triggers are served; empty for all triggers.
    pub components: Vec<String>,
    /// Finds the folder for components from URLs. Without it, such components are refused.
    pub downloads: Option<DownloadsFolder>,
}

/// An application ready to be built, checked or served.
#[derive(Debug)]
pub struct App {
    pub name: String,
    pub version: String,
    /// The folder of the manifest. Paths in the manifest are relative to it.
    pub root: PathBuf,
    /// The folder of the application's persistent state.
    pub state: PathBuf,
    /// How its components are run.
    pub options: RuntimeOptions,
    /// The components that requests can reach.
    pub components: BTreeMap<String, Component>,
    /// The other components. They are built and pushed, but never loaded.
    pub idle: BTreeMap<String, Component>,
    pub routes: RouteTable,
    /// What runs the models that components use through `wasi:nn`.
    pub nn_engine: NnEngine,
    /// The parts of the manifest that are not served, and why, for the user to read.
    pub notes: Vec<String>,
}

/// One component of an application.
#[derive(Clone, Debug)]
pub struct Component {
    pub id: String,
    /// The folder of the manifest.
    pub root: PathBuf,
    /// The WebAssembly component to serve.
    pub source: PathBuf,
    /// Where `source` is downloaded from, if it is not the user's own file.
    pub remote: Option<RemoteSource>,
    /// How requests reach it.
    pub executor: Executor,
    /// The components that provide imports of it.
    pub dependencies: Vec<Dependency>,
    /// Its compiled code, if it has been compiled in advance.
    pub compiled: Option<PathBuf>,
    pub environment: BTreeMap<String, String>,
    /// The component's variables, with their templates expanded.
    pub variables: BTreeMap<String, String>,
    pub allowed_hosts: AllowedHosts,
    /// The stores the component may open.
    pub key_value_stores: Vec<String>,
    /// The SQLite databases the component may open.
    pub sqlite_databases: Vec<String>,
    /// The models it may use through `wasi:nn`, and the folder of each, if one is given.
    pub models: BTreeMap<String, Option<PathBuf>>,
    pub files: Vec<FileEntry>,
    pub exclude_files: Vec<String>,
    pub interruption: Interruption,
    pub browsers: Browsers,
    /// How many of its instances may exist at once, if it has a limit of its own.
    pub max_instances: Option<usize>,
    pub build: Option<Build>,
    pub bake: Option<Bake>,
}

/// How a component is compiled.
#[derive(Clone, Debug)]
pub struct Build {
    /// Shell commands, run in order.
    pub commands: Vec<String>,
    pub working_directory: PathBuf,
    /// Globs of its source files, relative to the working directory.
    pub watch: Vec<String>,
}

/// How a core module becomes a component after it is compiled.
#[derive(Clone, Debug)]
pub struct Bake {
    /// The core module that the build command produces.
    pub module: PathBuf,
    /// The folder of the model to bake in, if any.
    pub model: Option<PathBuf>,
}

impl App {
    /// Reads the manifest at `path`, or the `spin.toml` in the folder `path`. A `.wasm` file becomes an
    /// application with that component on every route.
    ///
    /// # Errors
    /// If the manifest is invalid. The error names the key.
    pub fn load(path: &Path, choices: &LoadOptions) -> anyhow::Result<Self> {
        let (text, root) = read(path)?;
        Self::parse(&text, &root, choices).with_context(|| format!("in {}", path.display()))
    }

    /// The manifest that [`App::load`] finds at `path`, without further validation.
    ///
    /// # Errors
    /// If the manifest is invalid. The error names the key.
    pub fn manifest(path: &Path) -> anyhow::Result<Manifest> {
        Manifest::parse(&read(path)?.0).with_context(|| format!("in {}", path.display()))
    }

    /// Parses and validates a manifest. Its paths are relative to `root`.
    ///
    /// # Errors
    /// If the manifest is invalid. The error names the key.
    pub fn parse(text: &str, root: &Path, choices: &LoadOptions) -> anyhow::Result<Self> {
        let mut manifest = Manifest::parse(text)?;
        if let Some(profile) = &choices.profile {
            manifest.apply_profile(profile)?;
        }
        manifest.keep_triggers_of(&choices.components)?;
        let values = variables::resolve(&manifest.variables, &choices.variables)?;
        let reachable = reachable(&manifest, &values);
        let others = manifest.trigger.other;
        let unserved =
            |kind| format!("triggers of the type `{kind}` never fire: only http is supported");
        let mut notes: Vec<String> = others.iter().map(unserved).collect();
        let (mut components, mut idle) = (BTreeMap::new(), BTreeMap::new());
        let files = ComponentFiles::new(&manifest.component, root, choices.downloads);
        let mut executors = triggers::executors(&manifest.trigger.http)?;
        for (id, raw) in manifest.component {
            let executor = executors.remove(&id).unwrap_or_default();
            let component = dependencies::resolve(&raw, &files)
                .and_then(|dependencies| {
                    let component = Component::resolve(&id, raw, root, &values, choices)?;
                    Ok(Component { executor, dependencies, ..component })
                })
                .with_context(|| format!("[component.{id}]"));
            match (component, reachable.contains(&id)) {
                (Ok(component), true) => drop(components.insert(id, component)),
                (Ok(component), false) => drop(idle.insert(id, component)),
                (Err(error), true) => return Err(error),
                (Err(error), false) => {
                    notes.push(format!("`{id}` is invalid, and is left out because no request reaches it: {error:#}"));
                }
            }
        }
        let mut routes = RouteTable::default();
        for trigger in manifest.trigger.http {
            if let Some((pattern, target)) = route(trigger, &components)? {
                routes.insert(pattern, target)?;
            }
        }
        ensure!(
            !routes.is_empty(),
            "there is no [[trigger.http]] with a route: nothing to serve; {}",
            if notes.is_empty() { "add one".to_owned() } else { notes.join("; ") }
        );
        Ok(Self {
            name: manifest.application.name,
            version: manifest.application.version,
            root: root.to_owned(),
            state: root.join(".spotter"),
            options: RuntimeOptions::default(),
            components,
            idle,
            routes,
            nn_engine: choices.nn_engine.clone(),
            notes,
        })
    }

    /// The files of the SQLite databases that its components use, by name.
    pub fn sqlite_files(&self) -> BTreeMap<String, PathBuf> {
        let file = |name: &str| match self.options.sqlite_files.get(name) {
            Some(file) => file.clone(),
            None => self.state.join("sqlite").join(format!("{name}.sqlite")),
        };
        self.sqlite_databases().map(|name| (name.to_owned(), file(name))).collect()
    }

    /// Whether any component uses a key-value store in the folder of the application's state.
    pub fn has_state(&self) -> bool {
        self.key_value_stores().any(|store| !self.options.redis_stores.contains_key(store))
    }

    /// The names of the key-value stores that its components use.
    pub fn key_value_stores(&self) -> impl Iterator<Item = &str> + Clone {
        let components = self.components.values();
        components.flat_map(|component| &component.key_value_stores).map(String::as_str)
    }

    /// The names of the SQLite databases that its components use.
    pub fn sqlite_databases(&self) -> impl Iterator<Item = &str> + Clone {
        let components = self.components.values();
        components.flat_map(|component| &component.sqlite_databases).map(String::as_str)
    }
}

/// Checks the name of a SQLite database, which becomes a file's.
fn check_database_label(label: &str) -> anyhow::Result<()> {
    const MAX_LABEL_CHARACTERS: usize = 64;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    ensure!(
        (1..=MAX_LABEL_CHARACTERS).contains(&label.len()) && label.chars().all(is_allowed),
        "`sqlite_databases` has {label:?}; use up to {MAX_LABEL_CHARACTERS} letters, digits, `-` and `_`"
    );
    Ok(())
}

/// A manifest's text, and the folder that its paths are relative to.
fn read(path: &Path) -> anyhow::Result<(String, PathBuf)> {
    if path.extension().is_some_and(|extension| extension == "wasm") {
        return Ok(single_component(path));
    }
    let path = if path.is_dir() { path.join("spin.toml") } else { path.to_owned() };
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read the manifest {}; name one with --from, or make an application with `spotter new`",
            path.display()
        )
    })?;
    Ok((text, folder_of(&path)))
}

/// A manifest with a single component on every route.
fn single_component(path: &Path) -> (String, PathBuf) {
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    let text = format!(
        "spin_manifest_version = 2\n[application]\nname = {name:?}\n[[trigger.http]]\n\
         route = \"/...\"\ncomponent = {name:?}\n[component.{name:?}]\nsource = {:?}\n",
        path.file_name().unwrap_or(path.as_os_str())
    );
    (text, folder_of(path))
}

/// The folder that contains a file. It is never the empty path, which no program can list.
fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// The components that have a trigger, or that another component may call.
fn reachable(manifest: &Manifest, values: &BTreeMap<String, String>) -> BTreeSet<String> {
    let triggers = manifest.trigger.http.iter();
    let mut reachable: BTreeSet<String> =
        triggers.filter_map(|trigger| Some(trigger.component.as_ref()?.id.clone())).collect();
    for host in manifest.component.values().flat_map(|caller| &caller.allowed_outbound_hosts) {
        // An invalid host is reported with its component.
        let host = variables::expand(host, values).and_then(|host| AllowedHosts::parse(&[host]));
        let called = manifest
            .component
            .keys()
            .filter(|id| host.as_ref().is_ok_and(|host| host.permits_calling(id)));
        reachable.extend(called.cloned());
    }
    reachable
}

/// Validates a trigger. Returns `None` for a private component, which only other components call.
fn route(
    trigger: HttpTrigger,
    components: &BTreeMap<String, Component>,
) -> anyhow::Result<Option<(Pattern, Target)>> {
    let target = match (trigger.component.map(|component| component.id), trigger.static_response) {
        (Some(id), None) => {
            ensure!(
                components.contains_key(&id),
                "a trigger names the component `{id}`, but there is no [component.{id}]"
            );
            Target::Component(id)
        }
        (None, Some(reply)) => Target::Static(StaticReply::new(reply)?),
        _ => bail!(
            "the trigger of {} must have either a `component` or a `static_response`",
            trigger.route
        ),
    };
    Ok(match trigger.route {
        Route::Path(path) => Some((Pattern::parse(&path)?, target)),
        Route::Private { private: true } => None,
        Route::Private { private: false } => {
            bail!(
                "a trigger has `route = {{ private = false }}`; write `private = true`, or a path such as \
                 `route = \"/...\"`"
            )
        }
    })
}

impl Component {
    fn resolve(
        id: &str,
        raw: ComponentManifest,
        root: &Path,
        values: &BTreeMap<String, String>,
        choices: &LoadOptions,
    ) -> anyhow::Result<Self> {
        raw.sqlite_databases.iter().try_for_each(|label| check_database_label(label))?;
        let (source, remote) = raw.source.file(root, choices.downloads)?;
        ensure!(
            remote.is_none() || raw.build.is_none(),
            "`source` is a URL, so there is nothing for `build` to build; remove one of them"
        );
        let build = raw.build.map(|build| Build {
            commands: build.command.into_vec(),
            watch: build.watch,
            working_directory: build.workdir.map_or(root.to_owned(), |folder| root.join(folder)),
        });
        let tool = raw.tool.spotter.unwrap_or_default();
        ensure!(
            tool.module.is_some() || tool.model.is_none(),
            "`tool.spotter.model` needs a `module` to bake the model into"
        );
        let browsers = Browsers::resolve(&tool, values, choices.variables.missing)?;
        let models = models::resolve(&raw.ai_models, &choices.models, &tool, root);
        let bake = tool.module.map(|module| Bake {
            module: root.join(module),
            model: tool.model.map(|folder| root.join(folder)),
        });
        let variables = raw
            .variables
            .into_iter()
            .map(|(name, template)| Ok((name, variables::expand(&template, values)?)))
            .collect::<anyhow::Result<_>>()?;
        let mut hosts = Vec::new();
        for host in &raw.allowed_outbound_hosts {
            let expanded = variables::expand(host, values)?;
            // A placeholder need not be a valid host.
            if choices.variables.missing == MissingVariable::Error || expanded == *host {
                hosts.push(expanded);
            }
        }
        Ok(Self {
            id: id.to_owned(),
            root: root.to_owned(),
            source,
            remote,
            executor: Executor::Http,
            dependencies: Vec::new(),
            compiled: None,
            environment: raw.environment,
            variables,
            allowed_hosts: AllowedHosts::parse(&hosts)?,
            key_value_stores: raw.key_value_stores,
            sqlite_databases: raw.sqlite_databases,
            models,
            files: raw.files,
            exclude_files: raw.exclude_files,
            interruption: tool.interruption,
            browsers,
            max_instances: tool.max_instances.map(NonZeroUsize::get),
            build,
            bake,
        })
    }
}
