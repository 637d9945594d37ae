//! The provenance of an image: an in-toto statement (<https://github.com/in-toto/attestation/tree/main/spec/v1>) with a
//! predicate of SLSA (<https://slsa.dev/spec/v1.0/provenance>). It is not signed.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{AttestedImage, BuildParameters, VERSION, hexadecimal};
use spotter_registry::inventory::{Inventory, SourceFile};
use spotter_registry::{is_reference, referrers::Referrer};

const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// What `spotter push` does, whose parameters docs/containers.md describes. Change the version with their meaning.
const BUILD_TYPE: &str = "urn:spotter:push:v1";

/// Who states it: this program, wherever it runs.
const BUILDER: &str = "urn:spotter:builder";

/// The statement, to be attached to its image.
pub fn referrer(image: &AttestedImage<'_>, parameters: &BuildParameters) -> Referrer {
    Referrer {
        title: "provenance statement",
        artifact_type: "application/vnd.in-toto+json",
        file_name: "provenance.intoto.json",
        annotations: Map::from_iter([(
            "in-toto.io/predicate-type".to_owned(),
            PREDICATE_TYPE.into(),
        )]),
        document: statement(image, parameters).to_string().into(),
    }
}

/// It has no times, so that the same build has the same statement.
fn statement(image: &AttestedImage<'_>, parameters: &BuildParameters) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": image.repository, "digest": digest_set(image.digest)}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": external(parameters, image.inventory),
                "resolvedDependencies": resolved(image.inventory),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"spotter": VERSION}},
            },
        },
    })
}

fn external(parameters: &BuildParameters, inventory: &Inventory) -> Value {
    let mut external = json!({
        "manifest": manifest_name(&parameters.source),
        "platforms": inventory.platforms,
    });
    let optional = [("profile", &parameters.profile), ("cpuLevel", &parameters.cpu_level)];
    for (name, value) in optional {
        if let Some(value) = value {
            external[name] = value.as_str().into();
        }
    }
    external
}

/// What the application was read from, without the folder, which means nothing on another machine.
fn manifest_name(source: &Path) -> String {
    if is_reference(source) {
        return source.to_string_lossy().into_owned();
    }
    let file = if source.is_dir() { None } else { source.file_name() };
    file.map_or("spin.toml".into(), |name| name.to_string_lossy()).into_owned()
}

/// The files that the image was made from, but not those that components read.
fn resolved(inventory: &Inventory) -> Vec<Value> {
    let programs = inventory.programs.iter().map(|program| {
        let name = format!("{} {}", program.name, program.platform);
        json!({"name": name, "digest": digest_set(&program.digest)})
    });
    let components = inventory.components.iter().flat_map(|shipped| {
        let id = &shipped.id;
        let own = material(format!("component {id}"), &shipped.source);
        let dependencies = shipped.dependencies.iter().map(move |dependency| {
            material(format!("component {id}, dependency {}", dependency.name), dependency)
        });
        let models = shipped.models.iter().map(move |model| {
            let name = format!("component {id}, model {}", model.name);
            json!({"name": name, "digest": digest_set(&model.digest)})
        });
        std::iter::once(own).chain(dependencies).chain(models)
    });
    programs.chain(components).collect()
}

fn material(name: String, source: &SourceFile) -> Value {
    let mut material = json!({"name": name, "digest": digest_set(&source.digest)});
    if let Some(url) = &source.url {
        material["uri"] = url.as_str().into();
    }
    material
}

fn digest_set(digest: &str) -> Value {
    json!({"sha256": hexadecimal(digest)})
}

#[cfg(test)]
mod tests {
    use super::{BuildParameters, manifest_name, referrer};
    use crate::attestation::tests::{IMAGE_DIGEST, attested, inventory};
    use serde_json::{Value, json};

    fn parameters(profile: Option<&str>) -> BuildParameters {
        BuildParameters {
            source: "/home/someone/app/spin.toml".into(),
            profile: profile.map(str::to_owned),
            cpu_level: Some("x86-64-v3".to_owned()),
        }
    }

    #[test]
    fn the_statement_names_the_image_what_was_asked_for_and_what_it_was_made_from() {
        let inventory = inventory();
        let image = attested(&inventory);
        let attached = referrer(&image, &parameters(Some("accelerated")));
        assert_eq!(attached.document, referrer(&image, &parameters(Some("accelerated"))).document);
        let statement: Value = serde_json::from_slice(&attached.document).unwrap();
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
        assert_eq!(attached.annotations["in-toto.io/predicate-type"], statement["predicateType"]);
        let hexadecimal = IMAGE_DIGEST.trim_start_matches("sha256:");
        assert_eq!(
            statement["subject"],
            json!([{"name": "example.com/team/shop", "digest": {"sha256": hexadecimal}}])
        );
        let definition = &statement["predicate"]["buildDefinition"];
        assert_eq!(
            definition["externalParameters"],
            json!({
                "manifest": "spin.toml",
                "platforms": ["linux/amd64"],
                "profile": "accelerated",
                "cpuLevel": "x86-64-v3",
            })
        );
        assert_eq!(
            definition["resolvedDependencies"],
            json!([
                {"name": "spotter linux/amd64", "digest": {"sha256": "01"}},
                // The component's own file, and not the one in the image, which contains its dependency.
                {"name": "component web", "digest": {"sha256": "04"}},
                {"name": "component web, dependency a:b", "digest": {"sha256": "05"},
                 "uri": "https://example.com/b.wasm"},
                {"name": "component web, model ssd", "digest": {"sha256": "07"}},
            ])
        );
        let builder = &statement["predicate"]["runDetails"]["builder"];
        assert_eq!(builder["version"]["spotter"], env!("CARGO_PKG_VERSION"));
        assert!(builder["id"].as_str().unwrap().contains("spotter"), "{builder}");
        // Nothing of the machine that it was built on.
        assert!(!statement.to_string().contains("someone"), "{statement}");
        let without: Value =
            serde_json::from_slice(&referrer(&image, &parameters(None)).document).unwrap();
        let parameters = &without["predicate"]["buildDefinition"]["externalParameters"];
        assert!(parameters.get("profile").is_none(), "{parameters}");
    }

    #[test]
    fn an_application_is_named_without_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        for (source, name) in [
            (folder.path(), "spin.toml"),
            ("some/where/other.toml".as_ref(), "other.toml"),
            ("hello.wasm".as_ref(), "hello.wasm"),
            ("ghcr.io/me/detect:1".as_ref(), "ghcr.io/me/detect:1"),
        ] {
            assert_eq!(manifest_name(source), name);
        }
    }
}
