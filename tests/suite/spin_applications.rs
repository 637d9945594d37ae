//! Applications written for Spin start as they are: what their manifests ask for is granted, or refused by name.

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, stderr};

/// The component of many guests on `/guest/...`; its keys follow.
const GUEST: &str = r#"
[[trigger.http]]
route = "/guest/..."
component = "guest"
[component.guest]
source = "guest.wasm"
"#;

fn text(server: &Server, path: &str) -> String {
    String::from_utf8(client::get(&server.url(path)).body).expect("text")
}

#[test]
fn globs_match_files_beside_the_manifest_however_it_is_named() {
    let application = Application::new(&format!("{GUEST}files = [\"texts/*.txt\"]"))
        .with("texts/one.txt", "a file's text");
    for arguments in [&[] as &[&str], &["-f", "spin.toml"], &["-f", "."]] {
        let server = application.up(arguments);
        assert_eq!(text(&server, "/guest/file"), "a file's text", "{arguments:?}");
    }
}

#[test]
fn a_variables_value_can_be_in_a_file() {
    let manifest = format!(
        "[variables]\nname = {{ required = true }}\n{GUEST}variables = {{ greeting = \"hello {{{{ name }}}}\" }}"
    );
    let application = Application::new(&manifest)
        .with("name.txt", "from text")
        .with("a.json", r#"{"name": "from JSON"}"#)
        .with("b.toml", "name = \"from TOML\"");
    for (variables, greeting) in [
        (["name=@name.txt"].as_slice(), "hello from text"),
        (&["@a.json"], "hello from JSON"),
        // The last one goes before.
        (&["@a.json", "@b.toml"], "hello from TOML"),
        (&["@b.toml", "name=a=b"], "hello a=b"),
    ] {
        let flags: Vec<_> = variables.iter().flat_map(|given| ["--variable", given]).collect();
        assert_eq!(text(&application.up(&flags), "/guest/variable"), greeting, "{variables:?}");
    }
    for (variable, reason) in [
        ("name=@nothing.txt", "cannot read nothing.txt"),
        ("@nothing.json", "cannot read nothing.json"),
        ("@name.txt", "end in .json or .toml"),
        ("@spin.toml", "spin.toml"),
    ] {
        let said = stderr(&application.run(&["check", "--variable", variable]));
        assert!(said.contains(reason), "{said} lacks {reason}");
    }
}
