//! Components' files: copies in a temporary folder, copies that can be changed, and folders in place.

use std::fs::{read_dir, read_to_string, write};
use std::os::unix::fs::symlink;

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, stderr};

const MANIFEST: &str = r#"
[[trigger.http]]
route = "/..."
component = "guest"
[component.guest]
source = "guest.wasm"
files = [{ source = "texts", destination = "/texts" }, { source = "more", destination = "more/a" }]
"#;

fn application() -> Application {
    Application::new(MANIFEST).with("texts/one.txt", "one").with("more/two.txt", "two")
}

/// What the component reads from this path.
fn read(server: &Server, path: &str) -> String {
    let reply = client::send("POST", &server.url("/read"), &[], path.as_bytes());
    String::from_utf8(reply.body).expect("text")
}

/// What the component says of the file that it tries to create.
fn canary(server: &Server) -> String {
    let reply = client::get(&server.url("/canary"));
    String::from_utf8(reply.body).expect("text")
}

#[test]
fn copies_are_made_in_the_named_folder_and_removed_at_the_end() {
    let application = application();
    let temporary = application.folder().join("temporary");
    let mut server = application.up(&["--temp", "temporary"]);
    assert_eq!(read_dir(&temporary).expect("a folder").count(), 1);
    write(application.folder().join("texts/one.txt"), "changed").expect("a file");
    assert_eq!(read(&server, "/texts/one.txt"), "one");
    assert_eq!(read(&server, "/more/a/two.txt"), "two");
    assert!(canary(&server).ends_with("file false written false"));
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(read_dir(&temporary).expect("a folder").count(), 0);
}

#[test]
fn folders_that_are_mounted_directly_show_changes_and_cannot_be_changed() {
    let application = application();
    let server = application.up(&["--direct-mounts"]);
    let texts = application.folder().join("texts");
    write(texts.join("one.txt"), "changed").expect("a file");
    write(texts.join("new.txt"), "new").expect("a file");
    symlink(application.folder().join("spin.toml"), texts.join("out.txt")).expect("a link");
    symlink("../spin.toml", texts.join("up.txt")).expect("a link");
    symlink("new.txt", texts.join("within.txt")).expect("a link");
    assert_eq!(read(&server, "/texts/one.txt"), "changed");
    assert_eq!(read(&server, "/texts/within.txt"), "new");
    assert_eq!(read(&server, "/more/a/two.txt"), "two");
    for path in ["/texts/out.txt", "/texts/up.txt", "/texts/../spin.toml", "/spin.toml"] {
        let found = read(&server, path);
        assert!(found.starts_with("failed: "), "{path}: {found}");
    }
    let write = client::send("POST", &server.url("/write"), &[], b"/texts/one.txt").body;
    assert!(String::from_utf8_lossy(&write).starts_with("failed: "), "{write:?}");
    assert_eq!(read(&server, "/texts/one.txt"), "changed");
}

#[test]
fn files_that_cannot_be_mounted_directly_are_named() {
    let files = r#"files = ["texts/*.txt"]"#;
    let (head, _) = MANIFEST.split_once("files").expect("files");
    let application = Application::new(&format!("{head}{files}")).with("texts/one.txt", "one");
    let said = stderr(&application.run(&["up", "--direct-mounts"]));
    assert!(said.contains("`guest`") && said.contains("the pattern \"texts/*.txt\""), "{said}");
    let both = application.run(&["up", "--direct-mounts", "--allow-transient-write"]);
    assert_eq!(both.status.code(), Some(64));
}

#[test]
fn what_a_component_writes_is_seen_by_its_next_instance_and_gone_at_the_end() {
    let (head, _) = MANIFEST.split_once("files").expect("files");
    let files = r#"files = [{ source = "texts", destination = "/" }]"#;
    let application = Application::new(&format!("{head}{files}")).with("texts/one.txt", "one");
    let up = || application.up(&["--allow-transient-write", "--temp", "temporary"]);
    let mut server = up();
    assert!(canary(&server).ends_with("file false written true"));
    assert!(canary(&server).ends_with("file true written true"));
    assert!(!application.folder().join("texts/canary").exists());
    server.signal("TERM");
    assert!(server.wait().success());
    let left = read_dir(application.folder().join("temporary")).expect("a folder").count();
    assert_eq!(left, 0);
    assert!(canary(&up()).ends_with("file false written true"));
    assert_eq!(read_to_string(application.folder().join("texts/one.txt")).expect("a file"), "one");
}
