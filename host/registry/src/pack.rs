//! Packs an application into layers: one for each component and each file, and one for the locked application.

use std::collections::BTreeMap;
use std::path::{Component as PathPart, Path, PathBuf};

use anyhow::{Context, ensure};
use bytes::Bytes;
use oci_client::client::{Config, ImageLayer};
use serde_json::json;
use walkdir::WalkDir;

use super::digest::sha256;
use super::inventory::{Inventory, ShippedComponent};
use super::locked::{ComponentContent, Content, LockedApp, LockedFile, LockedModels};
use super::{
    CONFIG_MEDIA_TYPE, DATA_MEDIA_TYPE, LOCKED_MEDIA_TYPE, WASM_CONFIG_MEDIA_TYPE,
    WASM_LAYER_MEDIA_TYPE, WASM_MEDIA_TYPE,
};
use spotter_app::manifest::Manifest;
use spotter_app::mounts::{self, MountOptions};
use spotter_app::triggers::Executor;
use spotter_app::{App, Component, check};
use spotter_nn as nn;
use spotter_runtime::compile::prepare;

/// The configuration and layers of an image, the annotations of its manifest, and what it contains.
pub struct Package {
    pub config: Config,
    pub layers: Vec<ImageLayer>,
    pub annotations: BTreeMap<String, String>,
    pub inventory: Inventory,
}

/// Packs an application in the format of `spin registry push`.
///
/// # Errors
/// If a component is not built, or a file cannot be read.
pub fn application(manifest: Manifest, app: &App) -> anyhow::Result<Package> {
    let mut layers = Layers::default();
    let mut contents = BTreeMap::new();
    let mut shipped = Vec::new();
    for (id, component) in app.components.iter().chain(&app.idle) {
        let source = layers.add(whole(component)?, WASM_LAYER_MEDIA_TYPE);
        let files = add_files(component, &mut layers).with_context(|| format!("`{id}`"))?;
        let models = add_models(component, &mut layers).with_context(|| format!("`{id}`"))?;
        let content = ComponentContent { source, files, models };
        shipped.push(ShippedComponent::new(component, &content, |part| layers.bytes(part))?);
        contents.insert(id.clone(), content);
    }
    let locked = serde_json::to_vec(&LockedApp::from_manifest(manifest, contents)?)?;
    layers.add(locked, LOCKED_MEDIA_TYPE);
    let config = json!({
        "architecture": "wasm",
        "os": "wasip1",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers.in_order()},
    });
    let config = Config::new(config.to_string(), CONFIG_MEDIA_TYPE.to_owned(), None);
    let inventory = Inventory::new(app, "wasip1/wasm", shipped);
    Ok(Package { config, layers: layers.layers, annotations: BTreeMap::new(), inventory })
}

/// Packs an application's only component as a WebAssembly OCI artifact
/// (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>).
///
/// # Errors
/// If the application does not have exactly one component, or the component has files or is not built.
pub fn artifact(app: &App) -> anyhow::Result<Package> {
    let mut components = app.components.values();
    let (Some(component), None) = (components.next(), components.next()) else {
        anyhow::bail!(
            "the application has {} components, but an artifact has one; push without --artifact",
            app.components.len()
        );
    };
    ensure!(
        component.files.is_empty(),
        "`{}` has files, but an artifact cannot contain any; push without --artifact",
        component.id
    );
    ensure!(
        !uses_nn(component)?,
        "`{}` uses models of the host, but an artifact cannot contain any; push without --artifact",
        component.id
    );
    ensure!(
        component.executor == Executor::Http,
        "`{}` has the executor `wagi`, which an artifact cannot record; push without --artifact",
        component.id
    );
    let mut layers = Layers::default();
    let source = layers.add(whole(component)?, WASM_MEDIA_TYPE);
    let content = ComponentContent { source, files: Vec::new(), models: LockedModels::new() };
    let shipped = ShippedComponent::new(component, &content, |part| layers.bytes(part))?;
    let config = json!({
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": layers.in_order(),
        "component": {"exports": [], "imports": []},
    });
    let config = Config::new(config.to_string(), WASM_CONFIG_MEDIA_TYPE.to_owned(), None);
    let inventory = Inventory::new(app, "wasip2/wasm", vec![shipped]);
    Ok(Package { config, layers: layers.layers, annotations: BTreeMap::new(), inventory })
}

fn read(component: &Component) -> anyhow::Result<Vec<u8>> {
    let path = component.source.display();
    let unreadable =
        || format!("cannot read {path} of `{}`; build it with `spotter build`", component.id);
    let resolved = component.source.canonicalize().with_context(unreadable)?;
    ensure_no_link_out(component, "source", &component.source, &resolved)?;
    let bytes = std::fs::read(&resolved).with_context(unreadable)?;
    ensure!(
        bytes.starts_with(b"\0asm"),
        "{path} of `{}` is not WebAssembly; build it with `spotter build`",
        component.id
    );
    Ok(bytes)
}

/// Checks that a file or folder in the application is no link out of it. A manifest may name a file elsewhere, and a
/// build folder such as `target` may be a link to another disk. But a link out of the project would publish a file that
/// the manifest does not show.
fn ensure_no_link_out(
    component: &Component,
    what: &str,
    path: &Path,
    resolved: &Path,
) -> anyhow::Result<()> {
    let root = component.root.join(".");
    let is_named_inside = normal(path).starts_with(normal(&root));
    ensure!(
        !is_named_inside || !path.is_symlink() || resolved.starts_with(root.canonicalize()?),
        "the {what} {} of `{}` is a link to {}, which is outside of the application; copy it, or name it in the manifest",
        path.display(),
        component.id,
        resolved.display()
    );
    Ok(())
}

/// The file of a component that is shipped: its own, or, if it has dependencies, the one that contains them.
///
/// # Errors
/// If its dependencies do not fit.
pub(super) fn shipped_file(component: &Component) -> anyhow::Result<PathBuf> {
    if component.dependencies.is_empty() {
        return Ok(component.source.clone());
    }
    prepare::component(component)
}

/// The content of the file that is shipped.
fn whole(component: &Component) -> anyhow::Result<Vec<u8>> {
    for dependency in &component.dependencies {
        read(&Component { source: dependency.source.clone(), ..component.clone() })?;
    }
    let own = read(component)?;
    if component.dependencies.is_empty() {
        return Ok(own);
    }
    let path = shipped_file(component)?;
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A path without `.` and `..`, as it is written.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            PathPart::ParentDir => drop(normal.pop()),
            PathPart::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

fn add_files(component: &Component, layers: &mut Layers) -> anyhow::Result<Vec<LockedFile>> {
    let Component { root, files, exclude_files, .. } = component;
    let mut locked = Vec::new();
    for mount in mounts::mount(root, files, exclude_files, &MountOptions::default())? {
        for entry in WalkDir::new(mount.folder()).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_file() {
                let content = layers.add(std::fs::read(entry.path())?, DATA_MEDIA_TYPE);
                let path = entry.path().strip_prefix(mount.folder()).unwrap_or(Path::new(""));
                locked.push(LockedFile { content, path: format!("/{}", path.display()) });
            }
        }
    }
    Ok(locked)
}

/// Whether a component imports `wasi:nn`. A core module shows this only after wrapping.
fn uses_nn(component: &Component) -> anyhow::Result<bool> {
    let path = prepare::component(component)?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    check::uses_nn(&bytes)
}

/// The files that the host needs of each model that a component imports `wasi:nn` for.
fn add_models(component: &Component, layers: &mut Layers) -> anyhow::Result<LockedModels> {
    let mut models = LockedModels::new();
    if component.models.is_empty() || !uses_nn(component)? {
        return Ok(models);
    }
    for (name, folder) in &component.models {
        let folder = folder.as_ref().with_context(|| {
            format!("no folder is given for the model `{name}`; add --model {name}=FOLDER")
        })?;
        let files = nn::MODEL_FILE_NAMES.iter().map(|file| {
            let path = folder.join(file);
            let unreadable = || format!("cannot read {}", path.display());
            let resolved = path.canonicalize().with_context(unreadable)?;
            for named in [folder, &path] {
                ensure_no_link_out(component, "model", named, &resolved)?;
            }
            let bytes = std::fs::read(&resolved).with_context(unreadable)?;
            Ok(LockedFile { content: layers.add(bytes, DATA_MEDIA_TYPE), path: format!("/{file}") })
        });
        models.insert(name.clone(), files.collect::<anyhow::Result<_>>()?);
    }
    Ok(models)
}

/// Layers without duplicates.
#[derive(Default)]
struct Layers {
    layers: Vec<ImageLayer>,
    /// Each layer's position, by its digest.
    places: BTreeMap<String, usize>,
}

impl Layers {
    fn add(&mut self, bytes: Vec<u8>, media_type: &str) -> Content {
        let digest = sha256(&bytes);
        if !self.places.contains_key(&digest) {
            self.places.insert(digest.clone(), self.layers.len());
            self.layers.push(ImageLayer::new(Bytes::from(bytes), media_type.to_owned(), None));
        }
        Content { digest: Some(digest), inline: None }
    }

    /// The bytes of a content that was added.
    fn bytes(&self, content: &Content) -> &[u8] {
        let place = content.digest.as_ref().and_then(|digest| self.places.get(digest));
        place.map_or(&[][..], |place| &self.layers[*place].data[..])
    }

    /// The digests in the order of the layers, which the configuration must have too.
    fn in_order(&self) -> Vec<&str> {
        let mut digests: Vec<_> = self.places.iter().collect();
        digests.sort_by_key(|(_, place)| **place);
        digests.into_iter().map(|(digest, _)| digest.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Layers;
    use crate::digest::sha256;

    #[test]
    fn digests_are_in_the_order_of_the_layers() {
        let mut layers = Layers::default();
        let contents = [b"c".as_slice(), b"a", b"b", b"a", b"d"];
        for content in contents {
            layers.add(content.to_vec(), "type");
        }
        let expected = [b"c", b"a", b"b", b"d"].map(|content| sha256(content));
        assert_eq!(layers.in_order(), expected);
        let of_layers: Vec<_> = layers.layers.iter().map(|layer| sha256(&layer.data)).collect();
        assert_eq!(of_layers, expected);
    }
}
