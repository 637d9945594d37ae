//! The software bill of materials of an image, in CycloneDX's format (<https://cyclonedx.org/docs/1.5/json/>).

use serde_json::{Map, Value, json};

use super::{AttestedImage, BakedModels, VERSION, hexadecimal};
use crate::bake::description::Description;
use spotter_registry::digest;
use spotter_registry::inventory::{
    Program, ShippedComponent, ShippedFile, ShippedModel, SourceFile,
};
use spotter_registry::referrers::Referrer;

/// The reference of the image within the document.
const IMAGE: &str = "image";

/// The document, to be attached to its image.
pub fn referrer(
    image: &AttestedImage<'_>,
    models: &BakedModels,
    timestamp: Option<&str>,
) -> Referrer {
    Referrer {
        title: "SBOM",
        artifact_type: "application/vnd.cyclonedx+json",
        file_name: "sbom.cdx.json",
        annotations: Map::new(),
        document: document(image, models, timestamp).to_string().into(),
    }
}

/// The same image has the same document, unless there is another time.
fn document(image: &AttestedImage<'_>, models: &BakedModels, timestamp: Option<&str>) -> Value {
    let inventory = image.inventory;
    let programs = inventory.programs.iter().map(program);
    let components = inventory.components.iter().map(|shipped| {
        let mut component = component(shipped, models.get(&shipped.id));
        component["group"] = inventory.application.as_str().into();
        if !inventory.version.is_empty() {
            component["version"] = inventory.version.as_str().into();
        }
        component
    });
    let parts: Vec<Value> = programs.chain(components).collect();
    let references: Vec<&Value> = parts.iter().map(|part| &part["bom-ref"]).collect();
    let mut metadata = Map::new();
    if let Some(timestamp) = timestamp {
        metadata.insert("timestamp".to_owned(), timestamp.into());
    }
    let tool = json!({"type": "application", "name": "spotter", "version": VERSION});
    metadata.insert("tools".to_owned(), json!({"components": [tool]}));
    metadata.insert("component".to_owned(), described(image));
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": null,
        "version": 1,
        "metadata": metadata,
        "components": parts,
        "dependencies": [{"ref": IMAGE, "dependsOn": references}],
        // The libraries that were compiled into programs and components are not listed.
        "compositions": [{"aggregate": "incomplete", "assemblies": references}],
    });
    document["serialNumber"] = serial_number(&document).into();
    document
}

/// The image itself.
fn described(image: &AttestedImage<'_>) -> Value {
    let name = image.repository.rsplit('/').next().unwrap_or_default();
    let digest = image.digest.replace(':', "%3A");
    // An IPv6 address has brackets.
    let repository = image.repository.replace('[', "%5B").replace(']', "%5D");
    json!({
        "bom-ref": IMAGE,
        "type": "container",
        "name": image.repository,
        "version": image.digest,
        "hashes": hashes(image.digest),
        "purl": format!("pkg:oci/{name}@{digest}?repository_url={repository}"),
    })
}

fn program(program: &Program) -> Value {
    let Program { name, platform, version, digest } = program;
    let mut described = json!({
        "bom-ref": format!("{name} {platform}"),
        "type": "application",
        "name": name,
        "hashes": hashes(digest),
        "properties": [property("platform", &platform.to_string())],
    });
    if let Some(version) = version {
        described["version"] = (*version).into();
    }
    described
}

/// A WebAssembly component, and within it all that belongs to it.
fn component(shipped: &ShippedComponent, baked: Option<&Description>) -> Value {
    let id = &shipped.id;
    let mut inner: Vec<Value> =
        shipped.dependencies.iter().map(|dependency| dependency_of(id, dependency)).collect();
    inner.extend(baked.map(|model| {
        let name = model.name.as_str();
        let reference = format!("component {id}, baked model {name}");
        self::model(reference, name, model.license.as_deref())
    }));
    inner.extend(shipped.models.iter().map(|model| model_of(id, model)));
    if !shipped.files.is_empty() {
        inner.push(json!({
            "bom-ref": format!("component {id}, files"),
            "type": "data",
            "name": format!("files of {id}"),
            "components": shipped.files.iter().map(|file| file_of(id, file)).collect::<Vec<_>>(),
        }));
    }
    let mut described = json!({
        "bom-ref": format!("component {id}"),
        "type": "application",
        "mime-type": "application/wasm",
        "name": id,
        "hashes": hashes(&shipped.digest),
    });
    add_source(&mut described, &shipped.source);
    if !inner.is_empty() {
        described["components"] = inner.into();
    }
    described
}

/// A component that was composed into another.
fn dependency_of(id: &str, dependency: &SourceFile) -> Value {
    let mut described = json!({
        "bom-ref": format!("component {id}, dependency {}", dependency.name),
        "type": "library",
        "mime-type": "application/wasm",
        "name": dependency.name,
        "hashes": hashes(&dependency.digest),
    });
    add_source(&mut described, dependency);
    described
}

/// Adds where a component comes from: its URL, or else the name of its file.
fn add_source(described: &mut Value, source: &SourceFile) {
    match &source.url {
        Some(url) => {
            described["externalReferences"] = json!([
                {"type": "distribution", "url": url, "hashes": hashes(&source.digest)}
            ]);
        }
        None => described["properties"] = json!([property("source", &source.name)]),
    }
}

/// A model that the host runs for a component.
fn model_of(id: &str, shipped: &ShippedModel) -> Value {
    let reference = format!("component {id}, model {}", shipped.name);
    let mut described = model(reference, &shipped.name, shipped.license.as_deref());
    described["hashes"] = hashes(&shipped.digest);
    described
}

fn model(reference: String, name: &str, license: Option<&str>) -> Value {
    let mut described =
        json!({"bom-ref": reference, "type": "machine-learning-model", "name": name});
    if let Some(license) = license {
        described["licenses"] = json!([licence(license)]);
    }
    described
}

/// A licence: an SPDX expression if it can be one, or else its name.
fn licence(text: &str) -> Value {
    let words = text.split(|character: char| " ()".contains(character));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let is_identifier = |word: &str| {
        word.chars()
            .all(|character| character.is_ascii_alphanumeric() || "-.+:".contains(character))
    };
    let is_expression = words.len() % 2 == 1
        && words.iter().enumerate().all(|(place, word)| {
            let is_operator = ["AND", "OR", "WITH"].contains(word);
            if place % 2 == 0 { !is_operator && is_identifier(word) } else { is_operator }
        });
    if is_expression { json!({"expression": text}) } else { json!({"license": {"name": text}}) }
}

fn file_of(id: &str, file: &ShippedFile) -> Value {
    json!({
        "bom-ref": format!("component {id}, file {}", file.path),
        "type": "file",
        "name": file.path,
        "hashes": hashes(&file.digest),
    })
}

fn hashes(digest: &str) -> Value {
    json!([{"alg": "SHA-256", "content": hexadecimal(digest)}])
}

fn property(name: &str, value: &str) -> Value {
    json!({"name": format!("spotter:{name}"), "value": value})
}

/// A UUID of version 8, which leaves its bits to the program: those of the document's hash
/// (<https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-8>).
fn serial_number(document: &Value) -> String {
    const VARIANTS: [char; 4] = ['8', '9', 'a', 'b'];
    let digest = digest::sha256(document.to_string().as_bytes());
    let mut digits: Vec<char> = hexadecimal(&digest).chars().take(32).collect();
    digits[12] = '8';
    digits[16] = VARIANTS[digits[16].to_digit(16).unwrap_or_default() as usize % VARIANTS.len()];
    let groups =
        [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| String::from_iter(&digits[range]));
    format!("urn:uuid:{}", groups.join("-"))
}

#[cfg(test)]
mod tests;
