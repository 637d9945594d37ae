//! Both tiers of tests share one build of the host's crates and their dependencies: `--features system` changes none of
//! their features.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use spotter_tests::root;

/// Each package with its features, and what it depends on.
type Tree = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_second_tier_compiles_nothing_large_a_second_time() {
    let first = tree(&[]);
    let second = tree(&["--workspace", "--features", "system"]);
    for package in ["hyper", "opentelemetry-otlp", "redis", "reqwest", "tract-onnx", "wasmtime"] {
        let (first, second) = (closure(&first, package), closure(&second, package));
        assert!(first.len() > 10, "{package} depends on more: {first:?}");
        let changed: Vec<_> = second.difference(&first).collect();
        assert!(
            changed.is_empty(),
            "{package} is compiled again: list the features in tests/Cargo.toml: {changed:#?}"
        );
    }
    let (first, second) = (own_libraries(&first), own_libraries(&second));
    assert!(first.len() > 10, "{first:?}");
    let changed: Vec<_> = second.difference(&first).collect();
    assert!(changed.is_empty(), "libraries of the host are compiled again: {changed:#?}");
}

/// The host's libraries, with their features: all but `spotter` itself, which has the tiers' own.
fn own_libraries(tree: &Tree) -> BTreeSet<&String> {
    let is_own = |package: &&String| {
        package.starts_with("spotter-") && !package.starts_with("spotter-tests")
    };
    tree.keys().filter(is_own).collect()
}

fn tree(arguments: &[&str]) -> Tree {
    let mut command = Command::new("cargo");
    command.args(["tree", "--locked", "--prefix", "depth", "--format", " {p} [{f}]"]);
    let output = command.args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut tree = Tree::new();
    let mut ancestors: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // `2 hyper v1.12.0 [client,http1] (*)`; sections such as `[dev-dependencies]` have no depth.
        let Some((depth, package)) = line.split_once(' ') else { continue };
        let Ok(depth) = depth.parse::<usize>() else { continue };
        let package = package.trim_end_matches(" (*)").to_owned();
        ancestors.truncate(depth);
        if let Some(parent) = ancestors.last() {
            tree.entry(parent.clone()).or_default().insert(package.clone());
        }
        tree.entry(package.clone()).or_default();
        ancestors.push(package);
    }
    tree
}

/// All packages that this one depends on, and itself, in each combination of features.
fn closure(tree: &Tree, name: &str) -> BTreeSet<String> {
    let start = format!("{name} v");
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = tree.keys().filter(|key| key.starts_with(&start)).collect();
    while let Some(package) = open.pop() {
        if found.insert(package.clone()) {
            open.extend(&tree[package]);
        }
    }
    found
}
