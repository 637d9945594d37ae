//! The README keeps its word: every promise names a test that is there.

use spotter_tests::root;

fn suite() -> String {
    let folder = std::fs::read_dir(root().join("tests/suite")).expect("the suite");
    let read = |path| std::fs::read_to_string(path).expect("a module of the suite");
    folder.flatten().map(|entry| read(entry.path())).collect()
}

#[test]
fn every_promise_names_a_test_or_a_module_that_is_there() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let (_, promises) = readme.split_once("## What is promised").expect("promises");
    let table = promises.split("\n## ").next().expect("a table");
    let held_by = table.lines().filter_map(|line| line.trim_end_matches('|').rsplit_once('|'));
    let names: Vec<&str> =
        held_by.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2)).collect();
    assert!(names.len() > 15, "{names:?}");
    let suite = suite();
    for name in names {
        let is_there =
            suite.contains(&format!("fn {name}()")) || suite.contains(&format!("mod {name};"));
        assert!(is_there, "there is no test or module `{name}`");
    }
}
