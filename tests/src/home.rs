//! `spotter` as another user would run it: with a cache and a configuration of its own.

use std::path::Path;
use std::process::{Command, Output};

use crate::{root, spotter, stderr};

/// `spotter` with a cache and a configuration of its own.
pub fn run_in(home: &Path, arguments: &[&str]) -> Output {
    command_in(home).args(arguments).output().expect("spotter starts")
}

/// The same, to be given arguments.
pub fn command_in(home: &Path) -> Command {
    let mut command = Command::new(spotter());
    command.current_dir(root());
    command.env("XDG_CACHE_HOME", home.join("cache")).env("XDG_CONFIG_HOME", home.join("config"));
    command
}

/// Asserts that a command ended well.
pub fn assert_ran(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}
