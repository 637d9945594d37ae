//! Shell completions and manual pages, made from what `--help` says.

use std::process::Command;

use spotter_tests::{run, stderr, stdout};

#[test]
fn bash_completes_subcommands_and_their_flags() {
    let script = run(&["completions", "bash"]);
    assert!(script.status.success(), "{}", stderr(&script));
    let complete = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let ask = format!(
            "{}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_spotter spotter {} ''\necho \"${{COMPREPLY[@]}}\"\n",
            stdout(&script),
            words.join(" "),
            words.len() - 1,
            words[words.len() - 1],
        );
        let output = Command::new("bash").args(["-c", &ask]).output().expect("bash");
        stdout(&output).trim().to_owned()
    };
    assert_eq!(complete(&["spotter", "det"]), "detect");
    assert_eq!(complete(&["spotter", "model", "insp"]), "inspect");
    assert_eq!(complete(&["spotter", "detect", "--min-c"]), "--min-confidence");
}

#[test]
fn every_shell_has_a_script_and_an_unknown_one_is_wrong_usage() {
    for (shell, word) in
        [("zsh", "#compdef spotter"), ("fish", "complete -c spotter"), ("elvish", "spotter")]
    {
        let script = run(&["completions", shell]);
        assert!(script.status.success(), "{shell}: {}", stderr(&script));
        assert!(stdout(&script).contains(word), "{shell}");
    }
    assert_eq!(run(&["completions", "command.com"]).status.code(), Some(64));
}

#[test]
fn every_subcommand_has_a_manual_page_that_says_what_its_help_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(&["man", "-o", folder.path().to_str().expect("a path")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let page = |name: &str| {
        let path = folder.path().join(format!("{name}.1"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert!(page("spotter").contains("wrong usage"), "the exit status");
    assert!(page("spotter-detect").contains("Detect objects in pictures"));
    assert!(page("spotter-model-check").contains("The model\\*(Aqs folder"));
    let help = stdout(&run(&["--help"]));
    assert!(help.contains("64  wrong usage"), "{help}");
    let commands = help.split_once("Commands:\n").expect("commands").1;
    let commands = commands.lines().take_while(|line| line.starts_with("  "));
    let names: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names.iter().filter(|name| **name != "help") {
        page(&format!("spotter-{name}"));
    }
}
