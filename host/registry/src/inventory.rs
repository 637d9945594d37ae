//! What an image contains: the name and the digest of each of its parts, for documents about the image.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::digest::sha256;
use super::locked::{ComponentContent, Content, LockedFile};
use super::standalone::binary::Platform;
use spotter_app::remote_source::RemoteSource;
use spotter_app::{App, Component};

/// The parts of an image.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The application's name and version; the version may be empty.
    pub application: String,
    pub version: String,
    /// What the image is for, in OCI notation, such as `linux/amd64`.
    pub platforms: Vec<String>,
    pub programs: Vec<Program>,
    pub components: Vec<ShippedComponent>,
}

/// A program in the image.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: &'static str,
    pub platform: Platform,
    /// `None` if it is another program than this one, which does not tell its version.
    pub version: Option<&'static str>,
    pub digest: String,
}

/// A WebAssembly component in the image, with what belongs to it.
#[derive(Clone, Debug)]
pub struct ShippedComponent {
    pub id: String,
    /// The digest of the file in the image, which contains the component's dependencies.
    pub digest: String,
    /// The component's own file.
    pub source: SourceFile,
    pub dependencies: Vec<SourceFile>,
    pub files: Vec<ShippedFile>,
    /// The models that the host runs for it.
    pub models: Vec<ShippedModel>,
}

/// A file that a component is made from.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub name: String,
    /// Where it was downloaded from, if it is not the user's own file.
    pub url: Option<String>,
    pub digest: String,
}

/// A file in the image, and its path in its component.
#[derive(Clone, Debug)]
pub struct ShippedFile {
    pub path: String,
    pub digest: String,
}

/// A model's network in the image.
#[derive(Clone, Debug)]
pub struct ShippedModel {
    pub name: String,
    /// What `model.toml` says of it.
    pub license: Option<String>,
    pub digest: String,
}

/// The keys of `model.toml` that an inventory needs.
#[derive(Default, Deserialize)]
struct ModelConfig {
    name: Option<String>,
    license: Option<String>,
}

impl Inventory {
    /// An application without a program, for one platform.
    pub(super) fn new(app: &App, platform: &str, mut components: Vec<ShippedComponent>) -> Self {
        components.sort_by(|one, other| one.id.cmp(&other.id));
        Self {
            application: app.name.clone(),
            version: app.version.clone(),
            platforms: vec![platform.to_owned()],
            programs: Vec::new(),
            components,
        }
    }
}

impl ShippedComponent {
    /// Describes a component that was packed. `bytes` finds what was packed by its digest.
    ///
    /// # Errors
    /// If a file that was composed into it cannot be read any more.
    pub(super) fn new<'a>(
        component: &Component,
        content: &ComponentContent,
        bytes: impl Fn(&Content) -> &'a [u8],
    ) -> anyhow::Result<Self> {
        let digest = content.source.digest.clone().unwrap_or_default();
        let name = component.source.file_name().unwrap_or_default().to_string_lossy();
        let source = if component.dependencies.is_empty() {
            let url = component.remote.as_ref().map(|remote| remote.url.clone());
            SourceFile { name: name.into_owned(), url, digest: digest.clone() }
        } else {
            SourceFile::read(&name, &component.source, component.remote.as_ref())?
        };
        let dependencies = component.dependencies.iter().map(|dependency| {
            SourceFile::read(&dependency.name, &dependency.source, dependency.remote.as_ref())
        });
        let models = content.models.iter();
        Ok(Self {
            id: component.id.clone(),
            digest,
            source,
            dependencies: dependencies.collect::<anyhow::Result<_>>()?,
            files: content.files.iter().map(ShippedFile::new).collect(),
            models: models.map(|(name, files)| ShippedModel::new(name, files, &bytes)).collect(),
        })
    }
}

impl SourceFile {
    fn read(name: &str, path: &Path, remote: Option<&RemoteSource>) -> anyhow::Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let url = remote.map(|remote| remote.url.clone());
        Ok(Self { name: name.to_owned(), url, digest: sha256(&bytes) })
    }
}

impl ShippedFile {
    fn new(file: &LockedFile) -> Self {
        let digest = file.content.digest.clone().unwrap_or_default();
        Self { path: file.path.clone(), digest }
    }
}

impl ShippedModel {
    fn new<'a>(granted: &str, files: &[LockedFile], bytes: impl Fn(&Content) -> &'a [u8]) -> Self {
        let find = |path: &str| files.iter().find(|file| file.path == path);
        let config = find("/model.toml").map(|file| bytes(&file.content)).unwrap_or_default();
        // The component that uses the model says what is wrong with the file.
        let config: ModelConfig = toml::from_slice(config).unwrap_or_default();
        let network = find("/model.onnx").and_then(|file| file.content.digest.clone());
        Self {
            name: config.name.unwrap_or_else(|| granted.to_owned()),
            license: config.license,
            digest: network.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, LockedFile, ShippedModel};

    #[test]
    fn a_model_has_the_name_and_licence_of_its_model_toml_or_else_the_granted_name() {
        let file = |path: &str, digest: &str| LockedFile {
            path: path.to_owned(),
            content: Content { digest: Some(digest.to_owned()), inline: None },
        };
        let files = [file("/model.toml", "sha256:1"), file("/model.onnx", "sha256:2")];
        let described = "name = \"ssd\"\nlicense = \"MIT\"\n[input]\nname = \"a\"\n";
        for (config, name, license) in
            [(described, "ssd", Some("MIT")), ("", "granted", None), ("[[", "granted", None)]
        {
            let model = ShippedModel::new("granted", &files, |content| {
                assert_eq!(content.digest.as_deref(), Some("sha256:1"));
                config.as_bytes()
            });
            assert_eq!((model.name.as_str(), model.license.as_deref()), (name, license));
            assert_eq!(model.digest, "sha256:2");
        }
    }
}
