//! Flags of `spin up` that `spotter up` spells the same, and where it finds the manifest.

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, stderr};

const TWO: &str = r#"
[[trigger.http]]
route = "/guest/..."
component = "guest"
[[trigger.http]]
route = "/hello"
component = "hello"
[component.guest]
source = "guest.wasm"
[component.hello]
source = "hello.wasm"
"#;

fn text(server: &Server, path: &str) -> String {
    String::from_utf8(client::get(&server.url(path)).body).expect("text")
}

#[test]
fn the_manifest_of_a_folder_above_is_found() {
    let application = Application::new(TWO).with("src/api/main.rs", "");
    let below = application.folder().join("src/api");
    let mut command = application.command(&["up", "--listen", "127.0.0.1:0"]);
    command.current_dir(&below);
    assert_eq!(text(&Server::spawn(command), "/hello"), "hello");
    // A manifest that is named must be there.
    let mut named = application.command(&["check", "-f", "spin.toml"]);
    let said = stderr(&named.current_dir(&below).output().expect("spotter starts"));
    assert!(said.contains("cannot read the manifest spin.toml"), "{said}");
}
