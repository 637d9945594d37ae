//! Documents about an image that was pushed: what it contains, and what it was made from.

pub mod provenance;
pub mod sbom;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;

use crate::bake::description::Description;
use spotter_app::App;
use spotter_registry::inventory::Inventory;

/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The image that the documents are about.
pub struct AttestedImage<'a> {
    /// Its name without a tag, so that a document depends only on the image.
    pub repository: String,
    pub digest: &'a str,
    pub inventory: &'a Inventory,
}

/// What the user asked for.
pub struct BuildParameters {
    /// What `--from` names, or the manifest that was found.
    pub source: PathBuf,
    pub profile: Option<String>,
    /// What a standalone image is compiled for.
    pub cpu_level: Option<String>,
}

/// The model that was baked into each component, by the component's id.
pub type BakedModels = BTreeMap<String, Description>;

/// Reads the models of an application's components.
///
/// # Errors
/// If a component cannot be read. The error names it.
pub fn baked_models(app: &App) -> anyhow::Result<BakedModels> {
    let mut models = BakedModels::new();
    for (id, component) in app.components.iter().chain(&app.idle) {
        let path = component.source.display();
        let bytes = std::fs::read(&component.source)
            .with_context(|| format!("cannot read {path} of `{id}`"))?;
        let model = Description::read(&bytes).with_context(|| format!("cannot read {path}"))?;
        models.extend(model.map(|model| (id.clone(), model)));
    }
    Ok(models)
}

/// The hexadecimal digits of a digest.
fn hexadecimal(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

#[cfg(test)]
mod tests {
    use super::AttestedImage;
    use spotter_registry::inventory::{
        Inventory, Program, ShippedComponent, ShippedFile, ShippedModel, SourceFile,
    };
    use spotter_registry::standalone::binary::Platform;

    pub(super) const IMAGE_DIGEST: &str =
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    pub(super) fn attested(inventory: &Inventory) -> AttestedImage<'_> {
        let repository = "example.com/team/shop".to_owned();
        AttestedImage { repository, digest: IMAGE_DIGEST, inventory }
    }

    /// A standalone image with one of everything; each part's digest has a number of its own.
    pub(super) fn inventory() -> Inventory {
        let digest = |number: u8| format!("sha256:{number:02}");
        let program = Program {
            name: "spotter",
            platform: Platform::Amd64,
            version: Some("1.2.3"),
            digest: digest(1),
        };
        let component = ShippedComponent {
            id: "web".to_owned(),
            digest: digest(3),
            source: SourceFile { name: "web.wasm".to_owned(), url: None, digest: digest(4) },
            dependencies: vec![SourceFile {
                name: "a:b".to_owned(),
                url: Some("https://example.com/b.wasm".to_owned()),
                digest: digest(5),
            }],
            files: vec![ShippedFile { path: "/one.txt".to_owned(), digest: digest(6) }],
            models: vec![ShippedModel {
                name: "ssd".to_owned(),
                license: Some("ask the author".to_owned()),
                digest: digest(7),
            }],
        };
        Inventory {
            application: "shop".to_owned(),
            version: "0.3.0".to_owned(),
            platforms: vec!["linux/amd64".to_owned()],
            programs: vec![program],
            components: vec![component],
        }
    }
}
