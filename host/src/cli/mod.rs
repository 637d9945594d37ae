//! The command line: one file for each subcommand.

mod attestations;
mod bake;
mod bench;
mod build;
mod check;
mod completions;
mod detect;
mod health;
mod image;
mod login;
mod manual;
mod model;
mod new;
mod node;
mod pull;
mod push;
mod registry;
mod shim;
mod standalone;
mod terminal;
mod up;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use spotter_progress::print_message;
use spotter_server::connection::tls::choose_cryptography;
use spotter_up::EX_USAGE;

/// What `--help` prints last.
const EXIT_STATUS: &str = "\
Exit status:
  0   success
  1   an error, or a picture that failed
  64  wrong usage

With NO_COLOR set, nothing is printed in colour.";

/// Build, bake and serve the WebAssembly functions that a spin.toml describes
#[derive(Parser)]
#[command(version, about, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Keep compiled code and downloads in the subfolder `spotter` of this folder [default: XDG_CACHE_HOME, or
    /// ~/.cache]
    #[arg(long, global = true, env = CACHE_VARIABLE, value_name = "FOLDER")]
    cache_dir: Option<PathBuf>,
}

/// The environment variable that sets `--cache-dir`.
const CACHE_VARIABLE: &str = "SPOTTER_CACHE_DIR";

#[derive(Subcommand)]
enum Command {
    New(new::New),
    Up(Box<up::Up>),
    Build(build::Build),
    Bake(bake::Bake),
    Detect(detect::Detect),
    Health(health::Health),
    Bench(bench::Bench),
    Model(model::Model),
    Check(check::Check),
    Watch(watch::Watch),
    Push(push::Push),
    Pull(pull::Pull),
    Login(login::Login),
    Registry(registry::Registry),
    Image(image::Image),
    Shim(shim::Shim),
    Node(node::Node),
    Completions(completions::Completions),
    Man(manual::Man),
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
    terminal::show_bars();
    if let Some(folder) = cli.cache_dir {
        spotter_cache::use_instead(folder);
    }
    let result = match cli.command {
        Command::New(command) => command.run(),
        Command::Up(command) => command.run(),
        Command::Build(command) => command.run(),
        Command::Bake(command) => command.run(),
        Command::Detect(command) => command.run(),
        Command::Health(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Model(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Watch(command) => command.run(),
        Command::Push(command) => command.run(),
        Command::Pull(command) => command.run(),
        Command::Login(command) => command.run(),
        Command::Registry(command) => command.run(),
        Command::Image(command) => command.run(),
        Command::Shim(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
        // Its result is its exit status.
        Command::Node(command) => return command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_message(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
