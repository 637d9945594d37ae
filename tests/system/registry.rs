//! Applications in a real registry (Debian's docker-registry): pushed, pulled, served from there.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;

use serde_json::{Value, json};
use spotter_tests::application::Application;
use spotter_tests::home::{assert_ran, command_in, run_in};
use spotter_tests::registry::Registry;
use spotter_tests::server::Server;
use spotter_tests::{client, elf, guests, root, stderr, stdout};

/// The user `user` with the password `a secret`, as htpasswd writes them.
pub(crate) const LOGIN: &str = "user:$2b$04$nw3Ku4vZ2CWQEEBT0BUc7OyAiLmkMgNCP99vqR6bNCRs9Tn585lR.";

/// The architecture and operating system in the configuration of a pushed image.
fn platform(registry: &Registry, name: &str, tag: &str) -> Value {
    let url = format!("http://{}/v2/{name}/manifests/{tag}", registry.address);
    let accept = [("accept", "application/vnd.oci.image.manifest.v1+json")];
    let manifest = client::send("GET", &url, &accept, b"").json();
    let digest = manifest["config"]["digest"].as_str().expect("a digest").to_owned();
    let config = fs::read(registry.blob(&digest)).expect("a configuration");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    json!([config["architecture"], config["os"]])
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_is_pushed_and_served_from_the_registry() {
    guests();
    let registry = Registry::start(None);
    let home = tempfile::tempdir().expect("a folder");
    let reference = registry.reference("team/guests:1");
    let pushed = run_in(home.path(), &["push", &reference, "-f", "tests/guests"]);
    assert_ran(&pushed);
    let digest = stdout(&pushed).trim().to_owned();
    assert!(digest.starts_with("sha256:"), "{digest}");

    let mut command = command_in(home.path());
    let state = home.path().join("state");
    command.args([
        "up",
        "--from",
        &reference,
        "--listen",
        "127.0.0.1:0",
        "--variable",
        "name=moon",
    ]);
    let server = Server::spawn({
        command.arg("--state-dir").arg(&state);
        command
    });
    let text = |path: &str| String::from_utf8(client::get(&server.url(path)).body).expect("text");
    assert_eq!(text("/guest/hello"), "hello");
    assert_eq!(text("/guest/environment"), "good morning");
    assert_eq!(text("/guest/variable"), "hello moon");
    assert_eq!(text("/guest/file"), "a file's text\n");
    assert_eq!(text("/guest/store"), "1 [\"count\"]");
    assert_eq!(client::get(&server.url("/teapot")).status, 418);
    assert_eq!(client::get(&server.url("/hidden")).status, 404);

    // Pull by digest too, and into a folder that can be served like any other application.
    let by_digest = registry.reference(&format!("team/guests@{digest}"));
    let folder = home.path().join("pulled");
    let folder_name = folder.to_str().expect("a path");
    let pulled = run_in(home.path(), &["pull", &by_digest, "-o", folder_name]);
    assert_ran(&pulled);
    assert_eq!(stdout(&pulled).trim(), digest);
    assert_ran(&run_in(home.path(), &["check", "-f", folder_name]));
    assert_eq!(platform(&registry, "team/guests", "1"), json!(["wasm", "wasip1"]));
    // Pushing it again gives the same bytes.
    let again = run_in(home.path(), &["push", &reference, "-f", "tests/guests"]);
    assert_eq!(stdout(&again).trim(), digest);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_single_component_is_an_artifact() {
    guests();
    let registry = Registry::start(None);
    let home = tempfile::tempdir().expect("a folder");
    let reference = registry.reference("hello:latest");
    let pushed =
        run_in(home.path(), &["push", &reference, "--artifact", "-f", "target/spotter/hello.wasm"]);
    assert_ran(&pushed);
    let manifest = client::send(
        "GET",
        &format!("http://{}/v2/hello/manifests/latest", registry.address),
        &[("accept", "application/vnd.oci.image.manifest.v1+json")],
        b"",
    )
    .json();
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(platform(&registry, "hello", "latest"), json!(["wasm", "wasip2"]));
    let mut command = command_in(home.path());
    command.args(["up", "--from", &reference, "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    assert_eq!(client::get(&server.url("/any")).body, b"hello");

    // A layer that does not match its digest is not run.
    let other = tempfile::tempdir().expect("a folder");
    let layer = registry.blob(manifest["layers"][0]["digest"].as_str().expect("a digest"));
    let mut bytes = fs::read(&layer).expect("a layer");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&layer, bytes).expect("a layer");
    let pulled = run_in(other.path(), &["pull", &reference]);
    assert_eq!(pulled.status.code(), Some(1), "{}", stdout(&pulled));
    assert!(stderr(&pulled).to_lowercase().contains("digest"), "{}", stderr(&pulled));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_registry_that_wants_a_login_gets_one() {
    guests();
    let registry = Registry::start(Some(LOGIN));
    let home = tempfile::tempdir().expect("a folder");
    let reference = registry.reference("private/hello:1");
    let push = ["push", &reference, "-f", "target/spotter/hello.wasm"];
    let refused = run_in(home.path(), &push);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("spotter login"), "{}", stderr(&refused));
    let login = |password: &str| {
        let mut command = command_in(home.path());
        command.args(["login", &registry.address, "--username", "user", "--password-stdin"]);
        let mut process =
            command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spotter starts");
        let mut input = process.stdin.take().expect("standard input");
        std::io::Write::write_all(&mut input, password.as_bytes()).expect("a password");
        drop(input);
        process.wait_with_output().expect("spotter ends")
    };
    assert_eq!(login("a guess\n").status.code(), Some(1));
    assert_ran(&login("a secret\n"));
    use std::os::unix::fs::PermissionsExt;
    let kept = fs::metadata(home.path().join("config/spotter/logins.json")).expect("a file");
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    assert_ran(&run_in(home.path(), &push));
    assert_ran(&run_in(home.path(), &["pull", &reference]));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn spins_spelling_pushes_builds_annotates_and_pulls() {
    guests();
    let registry = Registry::start(None);
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("application");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("spin.toml"), COPIED_BY_ITS_BUILD).expect("a manifest");
    let reference = registry.reference("team/copied:1");
    let source = root().join("target/spotter/hello.wasm");
    let push = |flags: &[&str]| {
        let mut command = command_in(home.path());
        command.args(["registry", "push", &reference]).args(flags);
        command.current_dir(&folder).env("SOURCE", &source);
        command.output().expect("spotter starts")
    };
    let unbuilt = push(&[]);
    assert_eq!(unbuilt.status.code(), Some(1), "{}", stdout(&unbuilt));
    let annotations = ["--annotation", "org.example.a=b=c", "--annotation", "org.example.d="];
    let pushed = push(&[&["--build"], annotations.as_slice()].concat());
    assert_ran(&pushed);
    let manifest = client::send(
        "GET",
        &format!("http://{}/v2/team/copied/manifests/1", registry.address),
        &[("accept", "application/vnd.oci.image.manifest.v1+json")],
        b"",
    )
    .json();
    assert_eq!(manifest["annotations"]["org.example.a"], "b=c");
    assert_eq!(manifest["annotations"]["org.example.d"], "");
    let pulled = run_in(home.path(), &["registry", "pull", &reference]);
    assert_ran(&pulled);
    assert_eq!(stdout(&pulled), stdout(&pushed));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn commands_and_composed_components_run_from_the_registry() {
    let registry = Registry::start(None);
    let home = tempfile::tempdir().expect("a folder");
    let reference = registry.reference("team/composed:1");
    let application = Application::new(COMPOSED_AND_COMMAND);
    let mut push = command_in(home.path());
    push.current_dir(application.folder()).args(["push", &reference]);
    assert_ran(&push.output().expect("spotter starts"));
    let mut command = command_in(home.path());
    command.args(["up", "--from", &reference, "--listen", "127.0.0.1:0"]);
    command.arg("--state-dir").arg(home.path().join("state"));
    let server = Server::spawn(command);
    let text = |path: &str| String::from_utf8(client::get(&server.url(path)).body).expect("text");
    assert_eq!(text("/sum"), r#"5 Some("good day") [] None"#);
    assert_eq!(text("/cgi/arguments"), "run\n/cgi/arguments");
    // Its database is granted there, too.
    assert_eq!(text("/sqlite"), "ok");
}

const COMPOSED_AND_COMMAND: &str = r#"
[[trigger.http]]
route = "/sum"
component = "dependent"
[component.dependent]
source = "dependent.wasm"
environment = { GREETING = "good day" }
dependencies = { "example:sums" = { path = "dependency.wasm" } }
[[trigger.http]]
route = "/cgi/..."
component = "cgi"
executor = { type = "wagi", argv = "run ${SCRIPT_NAME}" }
[component.cgi]
source = "cgi.wasm"
[[trigger.http]]
route = "/sqlite"
component = "conformance"
[component.conformance]
source = "conformance.wasm"
sqlite_databases = ["default"]
"#;

/// An application whose build command copies the component that `SOURCE` names.
const COPIED_BY_ITS_BUILD: &str = r#"
spin_manifest_version = 2
[application]
name = "copied"
[[trigger.http]]
route = "/..."
component = "hello"
[component.hello]
source = "hello.wasm"
[component.hello.build]
command = 'cp "$SOURCE" hello.wasm'
"#;

/// The address of a server on this machine that speaks plain HTTP, under which it looks like another machine.
fn plain_http_elsewhere() -> String {
    let route = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    route.connect("192.0.2.1:9").expect("a route");
    let address = route.local_addr().expect("an address").ip();
    let listener = TcpListener::bind((address, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.expect("a connection").write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    address
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_cannot_be_pulled_says_why() {
    let registry = Registry::start(None);
    let home = tempfile::tempdir().expect("a folder");
    let missing = registry.reference("nothing:1");
    let output = run_in(home.path(), &["up", "--from", &missing]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("does the image exist"), "{}", stderr(&output));
    // No login would help against these.
    let plain = plain_http_elsewhere();
    for (registry, hint) in [
        (plain.as_str(), "over HTTPS"),
        ("registry.invalid", "over HTTPS"),
        ("127.0.0.1:1", "is it running"),
    ] {
        let image = format!("{registry}/nothing:1");
        for command in ["pull", "push"] {
            let folder = if command == "push" { &["-f", "tests/guests"][..] } else { &[] };
            let output = run_in(home.path(), &[&[command, &image], folder].concat());
            assert_eq!(output.status.code(), Some(1));
            let said = stderr(&output);
            assert!(said.contains(hint) && !said.contains("logged in"), "{said}");
        }
    }
    let output = run_in(home.path(), &["pull", "Not A Reference"]);
    assert!(stderr(&output).contains("is not an image reference"), "{}", stderr(&output));
    let output = run_in(home.path(), &["push", &missing, "--artifact", "-f", "tests/guests"]);
    assert!(stderr(&output).contains("an artifact has one"), "{}", stderr(&output));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_standalone_image_is_pushed_with_an_index_of_its_platforms() {
    guests();
    let registry = Registry::start(None);
    let home = tempfile::tempdir().expect("a folder");
    let binary = |name: &str, bytes: Vec<u8>| {
        let path = home.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path.display().to_string()
    };
    let (amd64, arm64) = (binary("amd64", elf::amd64()), binary("arm64", elf::arm64()));
    let push = |name: &str, binaries: &[&str]| {
        let reference = registry.reference(name);
        let mut arguments =
            vec!["push", &reference, "--standalone", "-f", "target/spotter/hello.wasm"];
        arguments.extend(binaries.iter().flat_map(|path| ["--binary", path]));
        let pushed = run_in(home.path(), &arguments);
        assert_ran(&pushed);
        stdout(&pushed).trim().to_owned()
    };
    let manifest = |reference: &str, kind: &str| {
        let url = format!("http://{}/v2/hello/manifests/{reference}", registry.address);
        client::send("GET", &url, &[("accept", kind)], b"")
    };
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let digest = push("hello:both", &[&amd64, &arm64]);
    let index = manifest("both", INDEX);
    assert_eq!(index.header("docker-content-digest"), digest);
    let variants = index.json()["manifests"].as_array().expect("an index").clone();
    assert_eq!(variants.len(), 2);
    for variant in variants {
        let found = manifest(variant["digest"].as_str().expect("a digest"), MANIFEST);
        assert_eq!(found.status, 200, "{variant}");
        let layer = found.json()["layers"][0]["digest"].as_str().expect("a layer").to_owned();
        assert!(registry.blob(&layer).is_file());
    }
    // One platform needs no index.
    let digest = push("hello:one", &[&amd64]);
    assert_eq!(manifest("one", MANIFEST).header("docker-content-digest"), digest);
    let reference = registry.reference("hello:one");
    let both = run_in(home.path(), &["push", &reference, "--standalone", "--artifact"]);
    assert_eq!(both.status.code(), Some(64), "{}", stderr(&both));
}
