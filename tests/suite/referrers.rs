//! Documents about an image that is pushed, as its referrers: in a registry that lists referrers, in one that does not,
//! and in one that refuses them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use spotter_tests::home::{assert_ran, command_in};
use spotter_tests::oci::digest;
use spotter_tests::stand_in_registry::{Content, Referrers, json_of, serve};
use spotter_tests::{elf, guests, root, stderr, stdout};
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SBOM: &str = "application/vnd.cyclonedx+json";
const PROVENANCE: &str = "application/vnd.in-toto+json";
const BOTH: [&str; 2] = ["--sbom", "--provenance"];

/// A registry, and the home of a user who pushes to it.
struct StandIn {
    address: String,
    content: Arc<Mutex<Content>>,
    home: TempDir,
}

impl StandIn {
    fn start(referrers: Referrers) -> Self {
        guests();
        let content = Arc::default();
        let address = serve(referrers, &content, String::new());
        Self { address, content, home: tempfile::tempdir().expect("a folder") }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("no panic")
    }

    /// `spotter push` of the hello component as `app:1`, at this time.
    fn push(&self, flags: &[&str], time: Option<&str>) -> Output {
        let mut command = command_in(self.home.path());
        command.args(["push", &format!("{}/app:1", self.address)]);
        command.args(["-f", "target/spotter/hello.wasm"]).args(flags);
        command.env_remove("SOURCE_DATE_EPOCH").envs(time.map(|time| ("SOURCE_DATE_EPOCH", time)));
        command.output().expect("spotter starts")
    }

    /// The image's digest, after a push that succeeded.
    fn pushed(&self, flags: &[&str]) -> String {
        let pushed = self.push(flags, None);
        assert_ran(&pushed);
        stdout(&pushed).trim().to_owned()
    }

    fn manifest(&self, version: &str) -> Value {
        json_of(self.content().manifests.get(version).expect("a manifest"))
    }

    /// The documents that refer to an image, by their type. Checks what refers to it.
    fn documents(&self, image: &str) -> BTreeMap<String, Value> {
        let content = self.content();
        let subject = &content.manifests[image];
        let media_type = if json_of(subject)["manifests"].is_array() { INDEX } else { MANIFEST };
        let mut documents = BTreeMap::new();
        for (version, bytes) in &content.manifests {
            let manifest = json_of(bytes);
            if manifest["subject"].is_null() {
                continue;
            }
            assert_eq!(*version, digest(bytes), "a referrer has no tag");
            assert_eq!(
                manifest["subject"],
                json!({"mediaType": media_type, "digest": image, "size": subject.len()})
            );
            assert_eq!(content.blobs[manifest["config"]["digest"].as_str().expect("one")], b"{}");
            let [layer] = manifest["layers"].as_array().expect("layers").as_slice() else {
                panic!("{manifest}")
            };
            assert_eq!(layer["mediaType"], manifest["artifactType"]);
            let kind = manifest["artifactType"].as_str().expect("a type").to_owned();
            let document = &content.blobs[layer["digest"].as_str().expect("a digest")];
            let before = documents.insert(kind, json_of(document));
            assert!(before.is_none(), "two of {}", manifest["artifactType"]);
        }
        documents
    }
}

fn hexadecimal(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

/// The tag of the list of an image's referrers.
fn list_tag(image: &str) -> String {
    image.replace(':', "-")
}

#[test]
fn an_sbom_and_a_provenance_statement_refer_to_the_image_that_was_pushed() {
    let registry = StandIn::start(Referrers::Listed);
    let image = registry.pushed(&BOTH);
    assert_eq!(digest(&registry.content().manifests["1"]), image);
    let documents = registry.documents(&image);
    assert_eq!(documents.keys().collect::<Vec<_>>(), [SBOM, PROVENANCE]);
    let component = root().join("target/spotter/hello.wasm");
    let component = digest(&std::fs::read(component).expect("a component"));
    let (sbom, provenance) = (&documents[SBOM], &documents[PROVENANCE]);
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    assert_eq!(sbom["metadata"]["component"]["version"], image);
    assert_eq!(sbom["components"][0]["hashes"][0]["content"], hexadecimal(&component));
    let subject = &provenance["subject"][0];
    assert_eq!(subject["name"], format!("{}/app", registry.address));
    assert_eq!(subject["digest"]["sha256"], hexadecimal(&image));
    let definition = &provenance["predicate"]["buildDefinition"];
    assert_eq!(
        definition["externalParameters"],
        json!({"manifest": "hello.wasm", "platforms": ["wasip1/wasm"]})
    );
    let used = &definition["resolvedDependencies"][0];
    assert_eq!(used["digest"]["sha256"], hexadecimal(&component));
    // The registry lists them itself.
    assert!(!registry.content().manifests.contains_key(&list_tag(&image)));
}

#[test]
fn nothing_refers_to_an_image_unless_it_is_asked_for() {
    let registry = StandIn::start(Referrers::Listed);
    let image = registry.pushed(&[]);
    assert!(registry.documents(&image).is_empty());
    registry.pushed(&["--provenance"]);
    assert_eq!(registry.documents(&image).keys().collect::<Vec<_>>(), [PROVENANCE]);
}

#[test]
fn a_standalone_images_documents_refer_to_its_index_and_list_its_programs() {
    let registry = StandIn::start(Referrers::Listed);
    let mut flags = vec!["--standalone".to_owned()];
    for (name, bytes) in [("amd64", elf::amd64()), ("arm64", elf::arm64())] {
        let path = registry.home.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        flags.extend(["--binary".to_owned(), path.display().to_string()]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(BOTH).collect();
    let image = registry.pushed(&flags);
    let documents = registry.documents(&image);
    let programs: Vec<_> = documents[SBOM]["components"]
        .as_array()
        .expect("components")
        .iter()
        .filter(|part| part["name"] == "spotter")
        .map(|part| (part["hashes"][0]["content"].clone(), part["version"].is_null()))
        .collect();
    // It does not know the versions of programs that it is not itself.
    let expected =
        [elf::amd64(), elf::arm64()].map(|program| (json!(hexadecimal(&digest(&program))), true));
    assert_eq!(programs, expected);
    let definition = &documents[PROVENANCE]["predicate"]["buildDefinition"];
    assert_eq!(
        definition["externalParameters"],
        json!({
            "manifest": "hello.wasm",
            "platforms": ["linux/amd64", "linux/arm64"],
            "cpuLevel": "x86-64-v3",
        })
    );
}

#[test]
fn where_a_registry_lists_no_referrers_a_tag_does_and_keeps_what_others_wrote() {
    let registry = StandIn::start(Referrers::Unlisted);
    let image = registry.pushed(&[]);
    let tag = list_tag(&image);
    let others = json!({"mediaType": MANIFEST, "digest": digest(b"other"), "size": 5, "x-kept": 1});
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [others]});
    registry.content().manifests.insert(tag.clone(), list.to_string().into());
    let listed = || registry.manifest(&tag)["manifests"].as_array().expect("a list").clone();
    registry.pushed(&BOTH);
    let first = listed();
    assert_eq!(first[0], others);
    let kinds: Vec<_> = first[1..].iter().map(|entry| &entry["artifactType"]).collect();
    assert_eq!(kinds, [SBOM, PROVENANCE]);
    for entry in &first[1..] {
        let manifest = registry.manifest(entry["digest"].as_str().expect("a digest"));
        assert_eq!(manifest["artifactType"], entry["artifactType"]);
        assert_eq!(manifest["annotations"], entry["annotations"]);
        assert_eq!(manifest["subject"]["digest"], image);
    }
    // The same documents again change nothing; one with another time is another one.
    registry.pushed(&BOTH);
    assert_eq!(listed(), first);
    assert_ran(&registry.push(&BOTH, Some("1700000000")));
    let longer = listed();
    assert_eq!(longer[..3], first);
    assert_eq!(longer.len(), 4);
    assert_eq!(longer[3]["artifactType"], SBOM);
    let dated = registry.manifest(longer[3]["digest"].as_str().expect("a digest"));
    let dated = dated["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let dated = json_of(&registry.content().blobs[&dated]);
    assert_eq!(dated["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
}

#[test]
fn what_is_under_the_tag_and_is_no_list_is_not_replaced() {
    let registry = StandIn::start(Referrers::Unlisted);
    let image = registry.pushed(&[]);
    let manifest = registry.content().manifests[&image].clone();
    let mut endless = br#"{"manifests": ["#.to_vec();
    endless.resize(5 << 20, b' ');
    for (content, reason) in
        [(manifest, "remove that tag"), (endless, "has more than 4194304 bytes")]
    {
        registry.content().manifests.insert(list_tag(&image), content.clone());
        let output = registry.push(&["--sbom"], None);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason) && said.contains("was pushed"), "{said}");
        assert!(registry.content().manifests[&list_tag(&image)] == content);
    }
}

#[test]
fn a_registry_that_refuses_a_document_has_the_image_and_the_error_says_so() {
    let registry = StandIn::start(Referrers::Refused);
    let output = registry.push(&BOTH, None);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let image = stdout(&output).trim().to_owned();
    assert_eq!(digest(&registry.content().manifests["1"]), image);
    let pushed = format!("the image {}/app:1 was pushed ({image}), but its SBOM", registry.address);
    for words in [pushed.as_str(), "400 Bad Request", "MANIFEST_INVALID no subjects here"] {
        assert!(said.contains(words), "{said} lacks {words}");
    }
    // No control character of the registry's gets to the terminal.
    assert!(!said.contains("no \u{1b}"), "{said:?}");
}

#[test]
fn a_time_that_is_none_is_refused_before_anything_is_pushed() {
    let registry = StandIn::start(Referrers::Listed);
    let output = registry.push(&["--sbom"], Some("yesterday"));
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("SOURCE_DATE_EPOCH is \"yesterday\""), "{said}");
    assert!(registry.content().manifests.is_empty());
}

#[test]
fn another_server_that_takes_the_blobs_gets_no_credentials() {
    let mut registry = StandIn::start(Referrers::Listed);
    let elsewhere = serve(Referrers::Listed, &registry.content, String::new());
    let uploads_at = format!("http://{elsewhere}");
    registry.address = serve(Referrers::Listed, &registry.content, uploads_at);
    let mut login = command_in(registry.home.path());
    login.args(["login", &registry.address, "--username", "user", "--password-stdin"]);
    let mut login = login.stdin(Stdio::piped()).spawn().expect("spotter starts");
    let mut input = login.stdin.take().expect("standard input");
    input.write_all(b"a secret\n").expect("a password");
    drop(input);
    assert!(login.wait().expect("spotter ends").success());
    let image = registry.pushed(&BOTH);
    assert_eq!(registry.documents(&image).len(), 2);
    assert_eq!(registry.content().trusted, BTreeSet::from([registry.address.clone()]));
}
