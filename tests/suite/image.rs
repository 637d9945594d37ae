//! `spotter image`: an application as a container image, written without Docker.

use std::fs;

use spotter_tests::home::{assert_ran, command_in, run_in};
use spotter_tests::oci::{self, Unpacked};
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
    let Unpacked { entry, root } = oci::unpack(&archive, folder.path());
    assert_eq!(entry["digest"], digest);
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "localhost/guests:0.1.0");
    let mut command = command_in(folder.path());
    command.arg("up").arg("-f").arg(&root).args(["--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    assert_eq!(client::get(&server.url("/guest/file")).body, b"a file's text\n");
}
