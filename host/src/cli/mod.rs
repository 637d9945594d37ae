//! The command line: one file for each subcommand.

mod bake;
mod build;
mod check;
mod detect;
mod image;
mod log;
mod login;
mod pull;
mod push;
mod up;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::app::manifest::Manifest;
use crate::app::variables::Given;
use crate::app::{App, Choices};
use crate::progress::say;
use crate::registry;
use crate::server::tls::choose_cryptography;

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
    Up(Box<up::Up>),
    Build(build::Build),
    Bake(bake::Bake),
    Detect(detect::Detect),
    Check(check::Check),
    Watch(watch::Watch),
    Push(push::Push),
    Pull(pull::Pull),
    Login(login::Login),
    Image(image::Image),
}

/// Which application a subcommand is about.
#[derive(Args)]
struct AppArguments {
    /// The manifest, the folder it is in, a component, or an image in a registry
    #[arg(
        short,
        long = "from",
        alias = "file",
        default_value = "spin.toml",
        value_name = "SPIN_TOML"
    )]
    from: PathBuf,
    /// A value for one of the application's [variables]; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    variable: Vec<String>,
    /// Which profile of the components to use, where they have one of that name
    #[arg(long, env = "SPIN_PROFILE", value_name = "NAME")]
    profile: Option<String>,
}

impl AppArguments {
    fn load(&self) -> anyhow::Result<App> {
        let variables = Given::read(&self.variable)?;
        let choices = Choices { variables, profile: self.profile.clone() };
        if !registry::is_reference(&self.from) {
            return App::load(&self.from, &choices);
        }
        let reference = registry::reference(&self.from.to_string_lossy())?;
        let (folder, _) = block_on(registry::pull(&reference))?;
        let mut app = App::load(&folder, &choices)?;
        // Every version of an image has the same state, and none is kept in the cache.
        app.state = PathBuf::from(".spotter");
        Ok(app)
    }

    /// The manifest as it is written, for what keeps its templates.
    fn manifest(&self) -> anyhow::Result<Manifest> {
        App::manifest(&self.from)
    }
}

/// Runs what waits for the network, where nothing else goes on.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(future)
}

/// Parses the command line and runs it; the exit status says how it went: 0 well, 64 wrong usage,
/// 1 anything else.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed pipe is nobody's concern.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    choose_cryptography();
    let result = match cli.command {
        Command::Up(command) => command.run(),
        Command::Build(command) => command.run(),
        Command::Bake(command) => command.run(),
        Command::Detect(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Watch(command) => command.run(),
        Command::Push(command) => command.run(),
        Command::Pull(command) => command.run(),
        Command::Login(command) => command.run(),
        Command::Image(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
