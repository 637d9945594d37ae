//! `spotter image`: an application as a container image, written without Docker.

use std::fs;

use spotter_tests::application::Application;
use spotter_tests::home::{assert_ran, command_in, run_in};
use spotter_tests::oci::{self, Unpacked};
use spotter_tests::server::Server;
use spotter_tests::{client, guests, stderr, stdout};

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
    let Unpacked { entry, configs, root } = oci::unpack(&archive, folder.path());
    // It runs on any node, whatever machine it was made on.
    let platforms: Vec<_> = configs.iter().map(|config| &config["architecture"]).collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    assert_eq!(configs[0]["rootfs"], configs[1]["rootfs"]);
    assert_eq!(entry["digest"], digest);
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "localhost/guests:0.1.0");
    let mut command = command_in(folder.path());
    command.arg("up").arg("-f").arg(&root).args(["--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    assert_eq!(client::get(&server.url("/guest/file")).body, b"a file's text\n");
}

#[test]
fn a_link_out_of_the_application_is_not_shipped() {
    const MANIFEST: &str = r#"
[[trigger.http]]
route = "/..."
component = "hello"
[component.hello]
source = "component.wasm"
files = [{ source = "site", destination = "/" }]
"#;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let secret = elsewhere.path().join("secret");
    fs::write(&secret, "secret").expect("a file");
    let outside = |name: &str, target: &std::path::Path| {
        let application = Application::new(MANIFEST).with("other/page.html", "a page");
        let folder = application.folder();
        for (link, inside) in [("component.wasm", "hello.wasm"), ("site", "other")] {
            let target = if link == name { target } else { inside.as_ref() };
            std::os::unix::fs::symlink(target, folder.join(link)).expect("a link");
        }
        let output = application.run(&["image", "-o", "image.tar"]);
        (output.status.code(), stderr(&output))
    };
    // Within the application, links are fine.
    assert_eq!(outside("none", &secret).0, Some(0));
    let component = elsewhere.path().join("component.wasm");
    fs::copy(spotter_tests::root().join("target/spotter/hello.wasm"), &component).expect("a copy");
    for (name, target) in [("component.wasm", component.as_path()), ("site", elsewhere.path())] {
        let (status, said) = outside(name, target);
        assert_eq!(status, Some(1), "{name}");
        assert!(said.contains("link to") && said.contains(name), "{said}");
    }
}

#[test]
fn a_model_is_not_shipped_through_a_link_out_of_the_application() {
    const MANIFEST: &str = r#"
[[trigger.http]]
route = "/..."
component = "nn"
[component.nn]
source = "nn_client.wasm"
ai_models = ["one"]
[component.nn.tool.spotter.models]
one = "models/one"
"#;
    let built = spotter_tests::run(&["build", "-f", "tests/guests/nn_client"]);
    assert!(built.status.success(), "{}", stderr(&built));
    let client = fs::read(spotter_tests::root().join("target/spotter/nn_client.wasm"));
    let client = client.expect("a component");
    let elsewhere = tempfile::tempdir().expect("a folder");
    fs::write(elsewhere.path().join("model.onnx"), "secret").expect("a file");
    fs::write(elsewhere.path().join("model.toml"), "").expect("a file");
    let run = |link: &str, target: &std::path::Path| {
        let application = Application::new(MANIFEST)
            .with("nn_client.wasm", &client)
            .with("models/one/model.toml", "")
            .with("models/one/model.onnx", "a network");
        let link = application.folder().join(link);
        let _ = fs::remove_dir_all(&link);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).expect("a link");
        let output = application.run(&["image", "-o", "image.tar"]);
        (output.status.code(), stderr(&output))
    };
    assert_eq!(run("models/other", elsewhere.path()).0, Some(0));
    for (link, target) in [
        ("models/one/model.onnx", elsewhere.path().join("model.onnx")),
        ("models/one", elsewhere.path().to_owned()),
    ] {
        let (status, said) = run(link, &target);
        assert_eq!(status, Some(1), "{link}");
        assert!(said.contains("the model") && said.contains("is a link to"), "{said}");
    }
}

#[test]
fn the_build_folder_may_be_a_link_to_another_disk() {
    const MANIFEST: &str = r#"
[[trigger.http]]
route = "/..."
component = "hello"
[component.hello]
source = "target/hello.wasm"
"#;
    let disk = tempfile::tempdir().expect("a folder");
    let application = Application::new(MANIFEST);
    let folder = application.folder();
    fs::copy(folder.join("hello.wasm"), disk.path().join("hello.wasm")).expect("a copy");
    std::os::unix::fs::symlink(disk.path(), folder.join("target")).expect("a link");
    let output = application.run(&["image", "-o", "image.tar"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
