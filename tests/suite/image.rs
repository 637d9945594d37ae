//! `spotter image`: an application as a container image, written without Docker.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spotter_tests::home::{assert_ran, command_in, run_in};
use spotter_tests::server::Server;
use spotter_tests::{client, guests, stdout};

#[test]
fn an_image_is_made_without_docker_and_holds_the_application_alone() {
    guests();
    let folder = tempfile::tempdir().expect("a folder");
    let make = |name: &str| {
        let archive = folder.path().join(name);
        let path = archive.to_str().expect("a path");
        let output = run_in(folder.path(), &["image", "-f", "tests/guests", "-o", path]);
        assert_ran(&output);
        (archive, stdout(&output).trim().to_owned())
    };
    let (archive, digest) = make("one.tar");
    let (again, _) = make("two.tar");
    assert_eq!(fs::read(&archive).expect("an archive"), fs::read(again).expect("an archive"));
    let unpack = |archive: &Path, target: &Path| {
        fs::create_dir_all(target).expect("a folder");
        let status = Command::new("tar")
            .arg("-xf")
            .arg(archive)
            .arg("-C")
            .arg(target)
            .status()
            .expect("tar");
        assert!(status.success());
    };
    let image = folder.path().join("image");
    unpack(&archive, &image);
    let json = |path: &Path| -> Value {
        serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
    };
    let blob = |digest: &Value| {
        image.join("blobs").join(digest.as_str().expect("a digest").replace(':', "/"))
    };
    let entry = json(&image.join("index.json"))["manifests"][0].clone();
    assert_eq!(entry["digest"], digest);
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "localhost/guests:0.1.0");
    let manifest = json(&blob(&entry["digest"]));
    let root_file_system = folder.path().join("rootfs");
    unpack(&blob(&manifest["layers"][0]["digest"]), &root_file_system);
    let mut command = command_in(folder.path());
    command.arg("up").arg("-f").arg(&root_file_system).args(["--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    assert_eq!(client::get(&server.url("/guest/file")).body, b"a file's text\n");
}
