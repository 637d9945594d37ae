//! Describes a model for readers: from its folder, or from the custom section that `bake` adds to a component.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{Parser, Payload};

use super::ModelFolder;
use crate::onnx::Network;

/// The section's name. Its content is JSON.
const SECTION_NAME: &str = "spotter:model";

/// A description of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The model's name in replies.
    pub name: String,
    /// The head's name in `model.toml`.
    pub head: String,
    /// The network's inputs: name, element and shape.
    pub inputs: Vec<String>,
    /// The network's outputs.
    pub outputs: Vec<String>,
    /// The names of the classes.
    pub labels: Vec<String>,
    /// The size of the network's file, in bytes.
    pub network_bytes: u64,
    /// What `model.toml` or the network's file says of its licence.
    pub license: Option<String>,
}

/// The keys of `model.toml` that a description needs. The component checks all others.
#[derive(Deserialize)]
struct ModelConfig {
    name: String,
    license: Option<String>,
    #[serde(default)]
    output: OutputConfig,
}

#[derive(Default, Deserialize)]
struct OutputConfig {
    head: Option<String>,
}

impl Description {
    /// Describes the model in a folder.
    ///
    /// # Errors
    /// If `model.toml` has no name, or a file is malformed. The error names the file.
    pub fn from_folder(model: &ModelFolder) -> anyhow::Result<Self> {
        let [config, labels, network] = model.files();
        let config: ModelConfig =
            toml::from_slice(config).with_context(|| model.file_path("model.toml"))?;
        let read = Network::read(network).with_context(|| model.file_path("model.onnx"))?;
        let labels = std::str::from_utf8(labels).with_context(|| model.file_path("labels.txt"))?;
        Ok(Self {
            name: config.name,
            head: config.output.head.unwrap_or_else(|| "boxes_scores".to_owned()),
            inputs: read.inputs.iter().map(ToString::to_string).collect(),
            outputs: read.outputs.iter().map(ToString::to_string).collect(),
            labels: labels.lines().map(str::trim).filter(|it| *it != "-").map(Into::into).collect(),
            network_bytes: network.len() as u64,
            license: config.license.or_else(|| stated_license(&read.metadata)),
        })
    }

    /// Reads a component's description; `None` if it has none.
    ///
    /// # Errors
    /// If this is not WebAssembly, or its section is malformed.
    pub fn read(component: &[u8]) -> anyhow::Result<Option<Self>> {
        for payload in Parser::new(0).parse_all(component) {
            if let Payload::CustomSection(section) = payload?
                && section.name() == SECTION_NAME
            {
                let description = serde_json::from_slice(section.data());
                return Ok(Some(description.context("its description is malformed")?));
            }
        }
        Ok(None)
    }

    /// Adds the section to a component.
    pub(super) fn append_to(&self, component: &mut Vec<u8>) -> anyhow::Result<()> {
        let data = serde_json::to_vec(self)?;
        CustomSection { name: SECTION_NAME.into(), data: data.into() }
            .append_to_component(component);
        Ok(())
    }
}

/// What an export's metadata says: Ultralytics writes `license`.
fn stated_license(metadata: &BTreeMap<String, String>) -> Option<String> {
    metadata.get("license").cloned()
}

impl fmt::Display for Description {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "name     {}", self.name)?;
        writeln!(formatter, "head     {}", self.head)?;
        for input in &self.inputs {
            writeln!(formatter, "input    {input}")?;
        }
        for output in &self.outputs {
            writeln!(formatter, "output   {output}")?;
        }
        writeln!(formatter, "labels   {}: {}", self.labels.len(), self.labels.join(", "))?;
        writeln!(formatter, "network  {}", size(self.network_bytes))?;
        writeln!(formatter, "licence  {}", self.license.as_deref().unwrap_or("not stated"))
    }
}

/// A size in the unit that fits it.
#[allow(clippy::cast_precision_loss, reason = "it is rounded to one decimal place")]
pub fn size(bytes: u64) -> String {
    if bytes < 1_000_000 {
        return format!("{:.1} kB", bytes as f64 / 1e3);
    }
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::{Description, size};

    #[test]
    fn a_component_carries_its_description() {
        let description = Description {
            name: "m".to_owned(),
            head: "yolov8".to_owned(),
            inputs: vec!["images: f32 [1, 3, 64, 64]".to_owned()],
            outputs: Vec::new(),
            labels: vec!["cat".to_owned()],
            network_bytes: 1,
            license: None,
        };
        let mut component = wasm_encoder::Component::new().finish();
        assert_eq!(Description::read(&component).unwrap(), None);
        description.append_to(&mut component).unwrap();
        assert_eq!(Description::read(&component).unwrap(), Some(description));
        assert!(Description::read(b"text").is_err());
    }

    #[test]
    fn sizes_are_rounded() {
        assert_eq!((size(9_080_000), size(512)), ("9.1 MB".to_owned(), "0.5 kB".to_owned()));
    }
}
