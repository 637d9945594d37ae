//! Every promise in SPECIFICATION.md, and every defence in SECURITY.md, names tests that exist, and the maps of the
//! code name files that exist.

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
    let is_row =
        !promise.starts_with('-') && !["Enforced by", "Test"].contains(&enforced_by.trim());
    is_row.then_some((promise, enforced_by))
}

/// Checks that each row names at least one test, and that all of them are in `tests`.
fn check<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>, tests: &str) -> usize {
    let mut count = 0;
    for (promise, enforced_by) in rows {
        let names: Vec<&str> = enforced_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test enforces that Spotter{promise}");
        for name in names {
            let is_there = tests.contains(&format!("fn {name}("))
                || tests.contains(&format!("mod {name};"))
                || root().join(name).is_file();
            assert!(is_there, "there is no test or module `{name}`");
        }
        count += 1;
    }
    count
}

fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).expect("a document")
}

#[test]
fn every_promise_names_tests_or_modules_that_are_there() {
    let folders = ["tests/suite", "tests/system", "function/kernels"];
    let tests = folders.map(|folder| sources(&root().join(folder))).concat();
    let rows = check(text("SPECIFICATION.md").lines().filter_map(cells), &tests);
    assert!(rows > 30, "{rows}");
}

#[test]
fn every_defence_names_tests_that_are_there() {
    let folders = ["tests/suite", "tests/system", "host", "function/src"];
    let tests = folders.map(|folder| sources(&root().join(folder))).concat();
    let text = text("SECURITY.md");
    let (_, table) = text.split_once("| Spotter … | Test |").expect("the table of defences");
    let rows = check(table.lines().filter_map(cells), &tests);
    assert!(rows > 40, "{rows}");
}

/// The first file that a table's row names and that does not exist. A name without a folder means a file in, or next
/// to, the previous one in the row.
fn missing_file(row: &str) -> Option<&str> {
    let mut folder = root().to_owned();
    let is_path =
        |name: &&str| name.ends_with(".rs") || (name.contains('/') && !name.starts_with('/'));
    for name in row.split('`').skip(1).step_by(2).filter(is_path) {
        let paths = [root(), &folder].map(|folder| folder.join(name));
        let Some(path) = paths.into_iter().find(|path| path.exists()) else { return Some(name) };
        folder = if path.is_dir() { path } else { path.parent().expect("a folder").to_owned() };
    }
    None
}

#[test]
fn the_maps_of_the_code_name_files_that_exist() {
    for (map, least) in [("ARCHITECTURE.md", 15), ("docs/code-map.md", 60)] {
        let text = std::fs::read_to_string(root().join(map)).expect("a map");
        let rows: Vec<_> = text.lines().filter(|line| cells(line).is_some()).collect();
        assert!(rows.len() >= least, "{map} has {} rows", rows.len());
        for row in rows {
            assert_eq!(missing_file(row), None, "in {map}: {row}");
        }
    }
    assert_eq!(missing_file(" `host/src/lib.rs`, `no_such_file.rs` "), Some("no_such_file.rs"));
}
