//! Every promise in SPECIFICATION.md names tests that exist.

use std::path::Path;

use spotter_tests::root;

/// The text of every Rust file below a folder; empty if there is no such folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &std::fs::read_to_string(&path).expect("a source");
        }
    }
    text
}

/// The cells of a table's row; `None` for a header, the rule below it, or any other line.
fn cells(line: &str) -> Option<(&str, &str)> {
    let (promise, enforced_by) = line.strip_prefix('|')?.strip_suffix('|')?.rsplit_once('|')?;
    let is_row = !promise.starts_with('-') && enforced_by.trim() != "Enforced by";
    is_row.then_some((promise, enforced_by))
}

#[test]
fn every_promise_names_tests_or_modules_that_are_there() {
    let specification =
        std::fs::read_to_string(root().join("SPECIFICATION.md")).expect("the specification");
    let folders = ["tests/suite", "tests/system", "function/kernels/tests"];
    let tests = folders.map(|folder| sources(&root().join(folder))).concat();
    let promises: Vec<_> = specification.lines().filter_map(cells).collect();
    assert!(promises.len() > 30, "{promises:?}");
    for (promise, enforced_by) in promises {
        let names: Vec<&str> = enforced_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test enforces that Spotter{promise}");
        for name in names {
            let is_there =
                tests.contains(&format!("fn {name}(")) || tests.contains(&format!("mod {name};"));
            assert!(is_there, "there is no test or module `{name}`");
        }
    }
}
