//! Applications written for Spin start as they are: what their manifests ask for is granted, or refused by name.

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::client;

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
