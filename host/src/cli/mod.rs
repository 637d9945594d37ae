//! The command line: one file for each subcommand.

mod bake;
mod bench;
mod build;
mod check;
mod detect;
mod image;
mod log;
mod login;
mod model;
mod new;
mod node;
#[cfg(feature = "shim")]
pub(crate) mod pod;
mod pull;
mod push;
mod shim;
mod up;
mod variables;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};

use crate::app::manifest::Manifest;
use crate::app::models::NnEngine;
use crate::app::variables::{MissingVariable, VariableSources};
use crate::app::{App, Choices};
use crate::progress::say;
use crate::registry;
use crate::server::tls::choose_cryptography;
use variables::Files;

/// Wrong usage (`EX_USAGE` in sysexits.h).
const EX_USAGE: u8 = 64;

/// Runs WebAssembly functions: reads spin.toml, builds, bakes and serves.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(new::New),
    Up(Box<up::Up>),
    Build(build::Build),
    Bake(bake::Bake),
    Detect(detect::Detect),
    Bench(bench::Bench),
    Model(model::Model),
    Check(check::Check),
    Watch(watch::Watch),
    Push(push::Push),
    Pull(pull::Pull),
    Login(login::Login),
    Image(image::Image),
    Shim(shim::Shim),
    Node(node::Node),
}

/// Selects the application that a subcommand works on.
#[derive(Args)]
struct AppArguments {
    /// The manifest, its folder, a component, or an image in a registry [default: the spin.toml in this folder or the
    /// nearest one above]
    #[arg(short, long = "from", alias = "file", value_name = "SPIN_TOML")]
    from: Option<PathBuf>,
    /// Set one of the application's [variables], or several from a file; can be repeated
    #[arg(long, value_name = "NAME=VALUE | NAME=@FILE | @FILE.json | @FILE.toml")]
    variable: Vec<String>,
    /// The profile to apply to each component that has it
    #[arg(long, env = "SPIN_PROFILE", value_name = "NAME")]
    profile: Option<String>,
    /// The folder of a model that `ai_models` grants to a component; can be repeated
    #[arg(long, value_name = "NAME=FOLDER")]
    model: Vec<String>,
    /// What runs these models: `tract`, or `onnxruntime=PATH` of its shared library
    #[arg(long, env = "SPOTTER_NN_ENGINE", default_value = "tract", value_name = "ENGINE")]
    nn_engine: NnEngine,
}

impl AppArguments {
    /// Loads the application to run it in this process's environment.
    fn load(&self) -> anyhow::Result<App> {
        self.load_only(&[])
    }

    /// The same with the triggers of these components only, or of all if there are none.
    fn load_only(&self, components: &[String]) -> anyhow::Result<App> {
        self.load_with(self.variables()?, components)
    }

    /// Loads the application to run it in a pod with this environment.
    #[cfg(feature = "shim")]
    fn load_for(&self, environment: impl Iterator<Item = (String, String)>) -> anyhow::Result<App> {
        let flags = variables::read(&self.variable, Files::Refused)?;
        self.load_with(VariableSources::new(flags, environment), &[])
    }

    /// The values from this process's command line and environment.
    fn variables(&self) -> anyhow::Result<VariableSources> {
        let flags = variables::read(&self.variable, Files::Read)?;
        Ok(VariableSources::new(flags, environment()))
    }

    /// Loads the application and its manifest to package them. Required variables need no values yet.
    fn load_to_ship(&self) -> anyhow::Result<(App, Manifest)> {
        let sources =
            VariableSources { missing: MissingVariable::Placeholder, ..self.variables()? };
        let app = self.load_with(sources, &[])?;
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

    fn load_with(&self, variables: VariableSources, components: &[String]) -> anyhow::Result<App> {
        let models = self.model.iter().map(|entry| {
            let (name, folder) = pair("--model", entry)?;
            Ok((name.to_owned(), PathBuf::from(folder)))
        });
        let models = models.collect::<anyhow::Result<_>>()?;
        let choices = Choices {
            variables,
            profile: self.profile.clone(),
            models,
            nn_engine: self.nn_engine.clone(),
            components: components.to_owned(),
        };
        let mut app = App::load(&self.path()?, &choices)?;
        if registry::is_reference(&self.source()) {
            // All versions of an image share their state, and the cache is no place for it.
            app.state = PathBuf::from(".spotter");
        }
        Ok(app)
    }

    /// What `--from` names, or the nearest manifest.
    fn source(&self) -> PathBuf {
        const MANIFEST: &str = "spin.toml";
        const MAX_FOLDERS: usize = 20;
        let above = |path: &PathBuf| Some(Path::new("..").join(path));
        let manifests = std::iter::successors(Some(PathBuf::from(MANIFEST)), above);
        let nearest = || manifests.take(MAX_FOLDERS).find(|manifest| manifest.is_file());
        self.from.clone().or_else(nearest).unwrap_or_else(|| MANIFEST.into())
    }

    /// The path of the application. An image is pulled first, unless it is in the cache.
    fn path(&self) -> anyhow::Result<PathBuf> {
        let source = self.source();
        if !registry::is_reference(&source) {
            return Ok(source);
        }
        let reference = registry::reference(&source.to_string_lossy())?;
        Ok(block_on(registry::pull(&reference))?.0)
    }
}

/// Splits a flag's `NAME=VALUE`.
fn pair<'a>(flag: &str, text: &'a str) -> anyhow::Result<(&'a str, &'a str)> {
    text.split_once('=').with_context(|| format!("{flag} {text:?} is not of the form NAME=VALUE"))
}

/// This process's environment, without variables that are not valid UTF-8.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Runs a future to completion on a runtime of its own.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the async runtime")?.block_on(future)
}

/// Parses the command line and runs the subcommand. Exits with 0 on success, 64 on wrong usage, and 1 on any
/// other error.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors. A closed pipe does not matter.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    choose_cryptography();
    let result = match cli.command {
        Command::New(command) => command.run(),
        Command::Up(command) => command.run(),
        Command::Build(command) => command.run(),
        Command::Bake(command) => command.run(),
        Command::Detect(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Model(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Watch(command) => command.run(),
        Command::Push(command) => command.run(),
        Command::Pull(command) => command.run(),
        Command::Login(command) => command.run(),
        Command::Image(command) => command.run(),
        Command::Shim(command) => command.run(),
        // Its result is its exit status.
        Command::Node(command) => return command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
