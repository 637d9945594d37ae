//! The application that a command works on, and the flags for what its manifest leaves open.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use spotter_app::manifest::Manifest;
use spotter_app::nn_engine::NnEngine;
use spotter_app::remote_source::DownloadsFolder;
use spotter_app::variables::{MissingVariable, VariableSources};
use spotter_app::{App, Component, LoadOptions};
use spotter_config::providers::VariablesProvider;
use spotter_registry::downloads;
use spotter_runtime::compile::code_cache;

use crate::block_on;
use crate::registry_arguments::RegistryArguments;
use crate::variable_providers;
use crate::variables::{self, FilePolicy};

/// Selects the application that a subcommand works on.
#[derive(Args)]
pub struct AppArguments {
    /// The manifest, its folder, a component, or an image in a registry [default: the spin.toml in this folder or the
    /// nearest one above]
    #[arg(short, long = "from", alias = "file", value_name = "APPLICATION")]
    pub from: Option<PathBuf>,
    /// Set one of the application's [variables], or several from a file; can be repeated
    #[arg(long, value_name = "NAME=VALUE | NAME=@FILE | @FILE.json | @FILE.toml")]
    pub variable: Vec<String>,
    /// The profile to apply to each component that has it
    #[arg(long, env = "SPIN_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// The folder of a model that `ai_models` grants to a component; can be repeated
    #[arg(long, value_name = "NAME=FOLDER")]
    pub model: Vec<String>,
    /// The engine that runs the models of `ai_models`: `tract`, or `onnxruntime=PATH` with the path of its shared
    /// library
    #[arg(long, env = "SPOTTER_NN_ENGINE", default_value = "tract", value_name = "ENGINE")]
    pub nn_engine: NnEngine,
    /// How many threads the engine `tract` uses for a request; it uses only one if another request is using the same model
    #[arg(long, env = "SPOTTER_NN_THREADS", default_value = "1", value_name = "NUMBER")]
    pub nn_threads: NonZeroU16,
    #[command(flatten)]
    pub registry: RegistryArguments,
    /// The folder of the compiled code that came with the application; as trusted as this program
    #[arg(long, env = "SPOTTER_COMPILED", value_name = "FOLDER", hide = true)]
    compiled: Option<PathBuf>,
}

impl AppArguments {
    /// Loads the application to run it in this process's environment.
    pub fn load(&self) -> anyhow::Result<App> {
        self.load_only(&[], &[])
    }

    /// The same with the triggers of these components only, or of all if there are none, and with further providers of
    /// variables.
    pub fn load_only(
        &self,
        components: &[String],
        providers: &[VariablesProvider],
    ) -> anyhow::Result<App> {
        let mut sources = self.variables()?;
        if !providers.is_empty() {
            self.ask(providers, &mut sources)?;
        }
        let mut app = self.load_with(sources, components, Some(downloads::folder))?;
        if let Some(folder) = &self.compiled {
            // The variant of an image for another architecture has no such folder.
            if folder.exists() {
                code_cache::ensure_trusted(folder)?;
            }
            for component in app.components.values_mut() {
                // A component that cannot be read is reported when it is loaded.
                let name = code_cache::file_name(&component.source).ok();
                component.compiled = name.map(|name| folder.join(name));
            }
        }
        Ok(app)
    }

    /// Loads the application to run it in a pod with this environment, with the triggers of these components only, or
    /// of all if there are none.
    pub(crate) fn load_for(
        &self,
        environment: impl Iterator<Item = (String, String)>,
        components: &[String],
        missing: MissingVariable,
    ) -> anyhow::Result<App> {
        let flags = variables::read(&self.variable, FilePolicy::Refused)?;
        let sources = VariableSources { missing, ..VariableSources::new(flags, environment) };
        // An image contains all components, so a pod downloads nothing.
        self.load_with(sources, components, None)
    }

    /// Adds the providers' values for the variables that have none.
    fn ask(
        &self,
        providers: &[VariablesProvider],
        sources: &mut VariableSources,
    ) -> anyhow::Result<()> {
        let declared = App::manifest(&self.path()?)?.variables;
        let is_set =
            |name: &str| sources.flags.contains_key(name) || sources.environment.contains_key(name);
        let names: Vec<&str> =
            declared.keys().map(String::as_str).filter(|name| !is_set(name)).collect();
        sources.environment.extend(block_on(variable_providers::values(providers, &names))?);
        Ok(())
    }

    fn nn_engine(&self) -> anyhow::Result<NnEngine> {
        if let NnEngine::OnnxRuntime(_) = self.nn_engine {
            ensure!(
                self.nn_threads == NonZeroU16::MIN,
                "--nn-threads {} (SPOTTER_NN_THREADS): only the engine `tract` divides a computation among \
                 threads; leave it out, or use --nn-engine tract",
                self.nn_threads
            );
            return Ok(self.nn_engine.clone());
        }
        Ok(NnEngine::Tract { threads: self.nn_threads })
    }

    /// The values from this process's command line and environment.
    fn variables(&self) -> anyhow::Result<VariableSources> {
        let flags = variables::read(&self.variable, FilePolicy::Read)?;
        Ok(VariableSources::new(flags, environment()))
    }

    /// Loads the application and its manifest to package them. Required variables need no values yet.
    pub fn load_to_ship(&self) -> anyhow::Result<(App, Manifest)> {
        let sources =
            VariableSources { missing: MissingVariable::Placeholder, ..self.variables()? };
        let app = self.load_with(sources, &[], Some(downloads::folder))?;
        ensure!(
            app.notes.is_empty(),
            "an image would lack a part of the application: {}; remove it from the manifest, or push with Spin",
            app.notes.join("; ")
        );
        let mut manifest = App::manifest(&self.path()?)?;
        if let Some(profile) = &self.profile {
            manifest.apply_profile(profile)?;
        }
        Ok((app, manifest))
    }

    fn load_with(
        &self,
        variables: VariableSources,
        components: &[String],
        downloads: Option<DownloadsFolder>,
    ) -> anyhow::Result<App> {
        let models = self.model.iter().map(|entry| {
            let (name, folder) = pair("--model", entry)?;
            Ok((name.to_owned(), PathBuf::from(folder)))
        });
        let models = models.collect::<anyhow::Result<_>>()?;
        let choices = LoadOptions {
            variables,
            profile: self.profile.clone(),
            models,
            nn_engine: self.nn_engine()?,
            components: components.to_owned(),
            downloads,
        };
        let mut app = App::load(&self.path()?, &choices)?;
        app.components.values().chain(app.idle.values()).try_for_each(download)?;
        if spotter_registry::is_reference(&self.source()) {
            // All versions of an image share their state, and it does not belong in the cache.
            app.state = PathBuf::from(".spotter");
        }
        Ok(app)
    }

    /// What `--from` names, or the nearest manifest.
    pub fn source(&self) -> PathBuf {
        self.from.clone().unwrap_or_else(nearest_manifest)
    }

    /// The path of the application. An image is pulled first, unless it is in the cache.
    fn path(&self) -> anyhow::Result<PathBuf> {
        let source = self.source();
        if !spotter_registry::is_reference(&source) {
            return Ok(source);
        }
        let reference = spotter_registry::reference(&source.to_string_lossy())?;
        Ok(block_on(spotter_registry::pull(&reference, self.registry.transport()))?.0)
    }
}

/// Downloads a component and its dependencies, as far as they are not local files.
fn download(component: &Component) -> anyhow::Result<()> {
    let dependencies = component.dependencies.iter();
    let dependencies = dependencies.map(|dependency| (&dependency.remote, &dependency.source));
    for (remote, file) in
        std::iter::once((&component.remote, &component.source)).chain(dependencies)
    {
        let Some(remote) = remote else { continue };
        block_on(downloads::fetch(remote, file))
            .with_context(|| format!("[component.{}]", component.id))?;
    }
    Ok(())
}

/// The manifest in this folder or the nearest one above; the one in this folder, if there is none.
#[must_use]
pub fn nearest_manifest() -> PathBuf {
    const MANIFEST: &str = "spin.toml";
    const MAX_PARENT_FOLDERS: usize = 20;
    let above = |path: &PathBuf| Some(Path::new("..").join(path));
    let mut manifests = std::iter::successors(Some(PathBuf::from(MANIFEST)), above);
    let nearest = manifests.by_ref().take(MAX_PARENT_FOLDERS).find(|manifest| manifest.is_file());
    nearest.unwrap_or_else(|| MANIFEST.into())
}

/// Splits a flag's `NAME=VALUE`.
pub(crate) fn pair<'a>(flag: &str, text: &'a str) -> anyhow::Result<(&'a str, &'a str)> {
    text.split_once('=')
        .with_context(|| format!("{flag} {text:?} has no `=` between the name and the value"))
}

/// This process's environment, without variables that are not valid UTF-8.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
