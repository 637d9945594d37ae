//! `spotter` as another user would run it: with a separate cache and configuration.

use std::path::Path;
use std::process::{Command, Output};

use crate::{root, spotter, stderr};

/// Runs `spotter` with a separate cache and configuration.
pub fn run_in(home: &Path, arguments: &[&str]) -> Output {
    command_in(home).args(arguments).output().expect("spotter starts")
}

/// The command without arguments.
pub fn command_in(home: &Path) -> Command {
    let mut command = Command::new(spotter());
    command.current_dir(root());
    command.env("XDG_CACHE_HOME", home.join("cache")).env("XDG_CONFIG_HOME", home.join("config"));
    command
}

/// Asserts that a command succeeded.
pub fn assert_ran(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}
