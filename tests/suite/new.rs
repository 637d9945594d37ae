//! `spotter new`: a folder that serves a detector, outside the repository, and folders from other templates.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use spotter_tests::server::Server;
use spotter_tests::{client, component, elf, guests, pictures, spotter, stderr};
use tempfile::TempDir;

fn new(folder: &TempDir, name: &str) -> Output {
    component();
    let mut command = Command::new(spotter());
    command.args(["new", name]).current_dir(folder.path()).output().expect("spotter starts")
}

#[test]
fn a_new_application_serves_a_detector_outside_the_repository() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = new(&folder, "door-bell");
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stderr(&made).contains("cd door-bell && spotter up"), "{}", stderr(&made));
    let mut command = Command::new(spotter());
    command.args(["up", "--listen", "127.0.0.1:0"]).current_dir(folder.path().join("door-bell"));
    let server = Server::spawn(command);
    let cat = pictures::bytes("skimage_chelsea.png");
    let reply = client::post_picture(&server.url("/detect"), &cat);
    assert_eq!(reply.json()["detections"][0]["label"], "cat");
}

#[test]
fn a_program_that_carries_a_detector_needs_no_checkout() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = std::fs::read(spotter()).expect("the program");
    guests();
    let hello = spotter_tests::root().join("target/spotter/hello.wasm");
    let carried = std::fs::read(hello).expect("a component");
    let at = |name: &str| folder.path().join(name);
    let own = at("spotter");
    let run = |program: &[u8]| {
        std::fs::write(&own, program).expect("a file");
        std::fs::set_permissions(&own, Permissions::from_mode(0o755)).expect("permissions");
        let mut command = Command::new(&own);
        command.args(["new", "app"]).current_dir(folder.path()).output().expect("spotter starts")
    };
    let carrying = elf::carrying(&program, &carried, &carried);
    let made = run(&carrying);
    assert!(made.status.success(), "{}", stderr(&made));
    assert_eq!(std::fs::read(at("app/detector.wasm")).expect("a file"), carried);
    std::fs::remove_dir_all(at("app")).expect("a folder");
    // A byte of the component is wrong.
    let mut damaged = carrying;
    damaged[program.len() + 100] ^= 1;
    let refused = run(&damaged);
    assert!(stderr(&refused).contains("cannot read the detector in"), "{}", stderr(&refused));
    assert!(!at("app").exists());
}

#[test]
fn a_template_has_the_applications_name_and_another_one_is_a_usage_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |template: &str| {
        let mut command = Command::new(spotter());
        command.args(["new", "-t", template, "site"]).current_dir(folder.path());
        command.output().expect("spotter starts")
    };
    let made = run("static-fileserver");
    assert!(stderr(&made).contains("cd site && spotter up --build"), "{}", stderr(&made));
    let manifest = std::fs::read_to_string(folder.path().join("site/spin.toml")).expect("a file");
    assert!(manifest.contains("name = \"site\""), "{manifest}");
    let refused = run("php");
    assert_eq!(refused.status.code(), Some(64));
    assert!(stderr(&refused).contains("detector, http-rust, static-fileserver"));
}

#[test]
fn a_folder_with_something_in_it_or_a_name_that_is_none_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("full")).expect("a folder");
    std::fs::write(folder.path().join("full/file"), "kept").expect("a file");
    for (name, word) in [("full", "exists"), ("a b", "not a valid"), ("..", "not a valid")] {
        let refused = new(&folder, name);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains(word), "{}", stderr(&refused));
    }
    assert_eq!(std::fs::read(folder.path().join("full/file")).expect("a file"), b"kept");
}
