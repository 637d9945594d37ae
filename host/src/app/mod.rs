//! An application: what a manifest means once it is checked, valid by construction.

pub mod check;
pub mod manifest;
pub mod routes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use manifest::Manifest;
use routes::{Pattern, RouteTable};

/// An application ready to be built, checked or served.
#[derive(Debug)]
pub struct App {
    pub name: String,
    /// The folder of the manifest; paths in it start from here.
    pub root: PathBuf,
    pub components: BTreeMap<String, Component>,
    /// Routes to names in `components`.
    pub routes: RouteTable,
}

/// One component of an application.
#[derive(Clone, Debug)]
pub struct Component {
    pub id: String,
    /// The WebAssembly component to serve.
    pub source: PathBuf,
    pub environment: BTreeMap<String, String>,
    pub build: Option<Build>,
    pub bake: Option<Bake>,
}

/// How a component is compiled.
#[derive(Clone, Debug)]
pub struct Build {
    /// Shell commands, run in turn.
    pub commands: Vec<String>,
    pub working_directory: PathBuf,
}

/// How a component is baked after it is compiled.
#[derive(Clone, Debug)]
pub struct Bake {
    /// The core module that the build command makes.
    pub module: PathBuf,
    /// The folder of the model.
    pub model: PathBuf,
}

impl App {
    /// Reads the manifest at `path`, or the `spin.toml` in the folder `path`.
    ///
    /// # Errors
    /// Says which key is at fault, and why.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let path = if path.is_dir() { path.join("spin.toml") } else { path.to_owned() };
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("cannot read the manifest {}; name one with -f", path.display())
        })?;
        let root = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::parse(&text, &root).with_context(|| format!("in {}", path.display()))
    }

    /// Checks a manifest's text; `root` is the folder its paths start from.
    ///
    /// # Errors
    /// Says which key is at fault, and why.
    pub fn parse(text: &str, root: &Path) -> anyhow::Result<Self> {
        let manifest = Manifest::parse(text)?;
        let components = manifest
            .component
            .into_iter()
            .map(|(id, raw)| {
                let component = Component::resolve(&id, raw, root)
                    .with_context(|| format!("[component.{id}]"))?;
                Ok((id, component))
            })
            .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        let mut routes = RouteTable::default();
        for trigger in manifest.trigger.http {
            let id = trigger.component;
            ensure!(
                components.contains_key(&id),
                "a trigger names the component `{id}`, and there is no [component.{id}]"
            );
            match trigger.route {
                manifest::Route::Path(path) => routes.insert(Pattern::parse(&path)?, id)?,
                manifest::Route::Private { .. } => {}
            }
        }
        ensure!(!routes.is_empty(), "there is no [[trigger.http]] with a route: nothing to serve");
        Ok(Self { name: manifest.application.name, root: root.to_owned(), components, routes })
    }
}

impl Component {
    fn resolve(id: &str, raw: manifest::Component, root: &Path) -> anyhow::Result<Self> {
        raw.refuse_unsupported()?;
        let manifest::Source::Local(source) = raw.source else {
            bail!("`source` is not a local path; only local components are supported");
        };
        let build = raw.build.map(|build| Build {
            commands: build.command.into_vec(),
            working_directory: build.workdir.map_or(root.to_owned(), |folder| root.join(folder)),
        });
        let bake = raw
            .tool
            .spotter
            .map(|tool| Bake { module: root.join(tool.module), model: root.join(tool.model) });
        Ok(Self {
            id: id.to_owned(),
            source: root.join(source),
            environment: raw.environment,
            build,
            bake,
        })
    }
}
