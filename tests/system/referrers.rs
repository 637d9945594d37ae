//! An SBOM and a provenance statement in a real registry that has no referrers API: Debian's docker-registry.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use spotter_tests::home::{assert_ran, command_in, run_in};
use spotter_tests::registry::Registry;
use spotter_tests::stand_in_registry::json_of;
use spotter_tests::{client, elf, guests, stdout};

use crate::registry::LOGIN;

/// The user and the password of `LOGIN`.
const CREDENTIALS: &str = "Basic dXNlcjphIHNlY3JldA==";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn documents_are_listed_under_the_images_tag_once_where_there_is_no_referrers_api() {
    guests();
    let registry = Registry::start(Some(LOGIN));
    let home = tempfile::tempdir().expect("a folder");
    let mut login = command_in(home.path());
    login.args(["login", &registry.address, "--username", "user", "--password-stdin"]);
    let mut login = login.stdin(Stdio::piped()).spawn().expect("spotter starts");
    let mut input = login.stdin.take().expect("standard input");
    input.write_all(b"a secret\n").expect("a password");
    drop(input);
    assert!(login.wait().expect("spotter ends").success());

    let get = |path: &str, accept: &str| {
        let url = format!("http://{}/v2/team/hello/{path}", registry.address);
        client::send("GET", &url, &[("accept", accept), ("authorization", CREDENTIALS)], b"")
    };
    let binaries = [("amd64", elf::amd64()), ("arm64", elf::arm64())].map(|(name, bytes)| {
        let path = home.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path.display().to_string()
    });
    let reference = registry.reference("team/hello:1");
    let push = |documents: &[&str]| {
        let mut arguments = vec!["push", &reference, "--standalone"];
        arguments.extend(["-f", "target/spotter/hello.wasm"]);
        arguments.extend(binaries.iter().flat_map(|path| ["--binary", path]));
        arguments.extend(documents);
        let pushed = run_in(home.path(), &arguments);
        assert_ran(&pushed);
        stdout(&pushed).trim().to_owned()
    };
    let image = push(&["--sbom"]);
    assert_eq!(get("manifests/1", INDEX).header("docker-content-digest"), image);
    assert_eq!(get(&format!("referrers/{image}"), INDEX).status, 404, "it has a referrers API");
    let list = || {
        let list = get(&format!("manifests/{}", image.replace(':', "-")), INDEX);
        assert_eq!((list.status, list.header("content-type")), (200, INDEX));
        list.json()["manifests"].as_array().expect("a list").clone()
    };
    let kinds = |list: &[Value]| -> Vec<String> {
        let kind = |entry: &Value| entry["artifactType"].as_str().expect("a type").to_owned();
        list.iter().map(kind).collect()
    };
    let sbom = list();
    assert_eq!(kinds(&sbom), ["application/vnd.cyclonedx+json"]);
    // The second push has the first one's document again, and another.
    assert_eq!(push(&["--sbom", "--provenance"]), image);
    let both = list();
    assert_eq!(kinds(&both), ["application/vnd.cyclonedx+json", "application/vnd.in-toto+json"]);
    assert_eq!(both[0], sbom[0]);
    assert_eq!(push(&["--sbom", "--provenance"]), image);
    assert_eq!(list(), both);

    let documents = both.iter().map(|entry| {
        let digest = entry["digest"].as_str().expect("a digest");
        let manifest = get(&format!("manifests/{digest}"), MANIFEST).json();
        assert_eq!(manifest["subject"]["digest"], image);
        assert_eq!(manifest["subject"]["mediaType"], INDEX);
        let layer = manifest["layers"][0]["digest"].as_str().expect("a layer").to_owned();
        json_of(&get(&format!("blobs/{layer}"), "*/*").body)
    });
    let documents: Vec<Value> = documents.collect();
    assert_eq!(documents[0]["metadata"]["component"]["version"], image);
    let attested = documents[1]["subject"][0]["digest"]["sha256"].as_str().expect("a digest");
    assert_eq!(format!("sha256:{attested}"), image);
}
