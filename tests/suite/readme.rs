//! The README's commands.

use std::process::Command;

use serde_json::Value;
use spotter_tests::root;

#[test]
fn cargo_run_has_one_program_to_run() {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let defaults = list(&metadata["workspace_default_members"]);
    let packages = list(&metadata["packages"]).into_iter();
    let targets = packages
        .filter(|package| defaults.contains(&package["id"]))
        .flat_map(|package| list(&package["targets"]));
    let programs: Vec<Value> = targets
        .filter(|target| list(&target["kind"]).contains(&"bin".into()))
        .map(|target| target["name"].clone())
        .collect();
    assert_eq!(programs, ["spotter"], "`cargo run` would not know which one to run");
}
