//! The parts of a model's folder that the host needs: the input in `model.toml`, and the network in `model.onnx`. The
//! rest is in the component.

use std::path::Path;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Deserialize;

use super::tensor::{ElementType, NamedTensor, Tensor};

/// A model's network, and the one input that it takes.
pub struct OnnxModel {
    pub input: InputSpec,
    /// The content of `model.onnx`.
    pub onnx: Bytes,
}

/// The network's input.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    pub name: String,
    pub element: ElementType,
    /// NHWC or NCHW, with one picture.
    pub shape: [usize; 4],
}

/// The keys of `model.toml` that describe the input. The component checks all others.
#[derive(Deserialize)]
struct ModelConfig {
    input: InputConfig,
}

#[derive(Deserialize)]
struct InputConfig {
    name: String,
    width: usize,
    height: usize,
    #[serde(default)]
    layout: Layout,
    #[serde(default)]
    element: Element,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Layout {
    #[default]
    Nhwc,
    Nchw,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Element {
    #[default]
    U8,
    F16,
    F32,
}

impl OnnxModel {
    /// Reads the files in a model's folder.
    ///
    /// # Errors
    /// If a file is missing, or `model.toml` is invalid. The error names the file.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let [config, network] = super::MODEL_FILE_NAMES.map(|file| folder.join(file));
        let missing = |file: &Path| format!("cannot read {}", file.display());
        let text = std::fs::read_to_string(&config).with_context(|| missing(&config))?;
        let input = InputSpec::parse(&text).with_context(|| config.display().to_string())?;
        let onnx = std::fs::read(&network).with_context(|| missing(&network))?;
        Ok(Self { input, onnx: onnx.into() })
    }
}

impl InputSpec {
    /// Takes the network's only input from the guest's tensors.
    ///
    /// # Errors
    /// If its name, type, shape or length is not the network's.
    pub fn take(&self, mut inputs: Vec<NamedTensor>) -> anyhow::Result<Tensor> {
        let Self { name, element, shape } = self;
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        ensure!(names == [name], "the inputs are {names:?}; the graph takes one, `{name}`");
        let tensor = inputs.swap_remove(0).tensor;
        ensure!(
            tensor.element == *element && tensor.shape == shape,
            "the input `{name}` is {tensor}; the graph takes {element} {shape:?}"
        );
        let elements: usize = shape.iter().product();
        let bytes = elements * element.bytes();
        ensure!(
            tensor.data.len() == bytes,
            "the input `{name}` has {} bytes; {elements} elements of {element} have {bytes}",
            tensor.data.len()
        );
        Ok(tensor)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let InputConfig { name, width, height, layout, element } =
            toml::from_str::<ModelConfig>(text)?.input;
        let shape = match layout {
            Layout::Nhwc => [1, height, width, 3],
            Layout::Nchw => [1, 3, height, width],
        };
        let element = match element {
            Element::U8 => ElementType::U8,
            Element::F16 => ElementType::F16,
            Element::F32 => ElementType::F32,
        };
        Ok(Self { name, element, shape })
    }
}

#[cfg(test)]
mod tests {
    use super::{ElementType, InputSpec};

    #[test]
    fn the_input_is_what_the_manifest_describes() {
        let text =
            "name = \"m\"\n[input]\nname = \"x\"\nwidth = 4\nheight = 2\nfit = \"stretch\"\n";
        let input = InputSpec::parse(text).unwrap();
        let shape = [1, 2, 4, 3];
        assert_eq!(input, InputSpec { name: "x".to_owned(), element: ElementType::U8, shape });
        let input =
            InputSpec::parse(&format!("{text}layout = \"nchw\"\nelement = \"f32\"")).unwrap();
        assert_eq!((input.shape, input.element), ([1, 3, 2, 4], ElementType::F32));
        assert!(InputSpec::parse("name = \"m\"").is_err());
    }
}
