//! Tests of the bill of materials.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{BakedModels, Description, licence, referrer};
use crate::attestation::tests::{IMAGE_DIGEST, attested, inventory};

fn models() -> BakedModels {
    let model = Description {
        name: "baked".to_owned(),
        head: "boxes_scores".to_owned(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        labels: Vec::new(),
        network_bytes: 1,
        license: Some("Apache-2.0".to_owned()),
    };
    BakedModels::from([("web".to_owned(), model)])
}

fn document(timestamp: Option<&str>) -> Value {
    let inventory = inventory();
    let attached = referrer(&attested(&inventory), &models(), timestamp);
    assert_eq!(attached.artifact_type, "application/vnd.cyclonedx+json");
    serde_json::from_slice(&attached.document).unwrap()
}

/// Every component of a document, the inner ones too.
fn all(component: &Value) -> Vec<&Value> {
    let inner = component["components"].as_array().into_iter().flatten();
    inner.flat_map(|inner| std::iter::once(inner).chain(all(inner))).collect()
}

fn sha256(content: &str) -> Value {
    json!([{"alg": "SHA-256", "content": content}])
}

#[test]
fn it_is_of_cyclonedx_1_5_and_about_the_image() {
    let document = document(Some("2023-11-14T22:13:20Z"));
    assert_eq!(document["bomFormat"], "CycloneDX");
    assert_eq!(document["specVersion"], "1.5");
    assert_eq!(document["version"], 1);
    let metadata = &document["metadata"];
    assert_eq!(metadata["timestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(
        metadata["tools"]["components"],
        json!([{"type": "application", "name": "spotter", "version": env!("CARGO_PKG_VERSION")}])
    );
    let image = &metadata["component"];
    assert_eq!(image["type"], "container");
    assert_eq!(image["name"], "example.com/team/shop");
    assert_eq!(image["version"], IMAGE_DIGEST);
    let hexadecimal = IMAGE_DIGEST.trim_start_matches("sha256:");
    assert_eq!(image["hashes"], sha256(hexadecimal));
    assert_eq!(
        image["purl"],
        format!("pkg:oci/shop@sha256%3A{hexadecimal}?repository_url=example.com/team/shop")
    );
}

#[test]
fn it_lists_all_that_the_image_contains_with_its_hashes() {
    let document = document(None);
    let listed: Vec<_> = all(&document)
        .into_iter()
        .map(|part| json!([part["type"], part["name"], part["hashes"][0]["content"]]))
        .collect();
    assert_eq!(
        json!(listed),
        json!([
            ["application", "spotter", "01"],
            ["application", "web", "03"],
            ["library", "a:b", "05"],
            ["machine-learning-model", "baked", null],
            ["machine-learning-model", "ssd", "07"],
            ["data", "files of web", null],
            ["file", "/one.txt", "06"],
        ])
    );
    let [program, web] = [&document["components"][0], &document["components"][1]];
    assert_eq!(program["version"], "1.2.3");
    assert_eq!((&web["group"], &web["version"]), (&json!("shop"), &json!("0.3.0")));
    assert_eq!(web["properties"], json!([{"name": "spotter:source", "value": "web.wasm"}]));
    let inner = &web["components"];
    assert_eq!(
        inner[0]["externalReferences"],
        json!([{"type": "distribution", "url": "https://example.com/b.wasm", "hashes": sha256("05")}])
    );
    assert_eq!(inner[1]["licenses"], json!([{"expression": "Apache-2.0"}]));
    assert_eq!(inner[2]["licenses"], json!([{"license": {"name": "ask the author"}}]));
}

#[test]
fn each_part_has_a_reference_of_its_own_and_all_of_them_exist() {
    let document = document(None);
    let parts = all(&document);
    let references: BTreeSet<_> =
        parts.iter().filter_map(|part| part["bom-ref"].as_str()).collect();
    assert_eq!(references.len(), parts.len());
    assert_eq!(document["dependencies"][0]["ref"], document["metadata"]["component"]["bom-ref"]);
    for names in
        [&document["dependencies"][0]["dependsOn"], &document["compositions"][0]["assemblies"]]
    {
        let names = names.as_array().unwrap();
        assert_eq!(names.len(), 2);
        assert!(names.iter().all(|name| references.contains(name.as_str().unwrap())), "{names:?}");
    }
}

#[test]
fn the_same_image_has_the_same_document_and_another_has_another_serial_number() {
    assert_eq!(document(None), document(None));
    assert!(document(None)["metadata"].get("timestamp").is_none());
    let serial_number = |document: Value| document["serialNumber"].as_str().unwrap().to_owned();
    let first = serial_number(document(None));
    assert_ne!(first, serial_number(document(Some("2023-11-14T22:13:20Z"))));
    let groups: Vec<&str> = first.strip_prefix("urn:uuid:").unwrap().split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert!(
        groups.concat().chars().all(|digit| digit.is_ascii_hexdigit() && !digit.is_uppercase())
    );
    assert!(groups[2].starts_with('8'), "the version: {first}");
    assert!(groups[3].starts_with(['8', '9', 'a', 'b']), "the variant: {first}");
}

#[test]
fn a_licence_is_an_expression_only_if_it_can_be_one() {
    for text in [
        "Apache-2.0",
        "MIT OR Apache-2.0",
        "GPL-2.0-or-later WITH Classpath-exception-2.0",
        "(MIT AND LicenseRef-mine) OR GPL-2.0+",
    ] {
        assert_eq!(licence(text), json!({"expression": text}));
    }
    for text in ["AGPL-3.0 License (https://example.com)", "ask the author", "MIT OR", "AND", ""] {
        assert_eq!(licence(text), json!({"license": {"name": text}}));
    }
}
