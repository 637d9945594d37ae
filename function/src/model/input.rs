//! `[input]` in `model.toml`: the network's input, and how pixels become its tensor.

use anyhow::ensure;
use half::f16;
use image::RgbImage;
use serde::Deserialize;

use crate::tensor::{Elements, Tensor};

/// The network's input: one picture, batch size 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputConfig {
    /// Name of the input in the ONNX graph.
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    #[serde(default)]
    pub layout: Layout,
    #[serde(default)]
    pub channel_order: ChannelOrder,
    #[serde(default)]
    pub element: ElementType,
    /// Each value, 0 to 255, is multiplied by this; not for `element = "u8"`.
    #[serde(default = "one")]
    pub scale: f32,
    /// Then subtracted from each channel, in the order of `channel_order`; not for `element = "u8"`.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Each channel is then divided by this; not for `element = "u8"`.
    #[serde(default = "ones")]
    pub std: [f32; 3],
    pub fit: Fit,
    /// With `fit = "letterbox"`: the grey of the bars, 0 to 255.
    #[serde(default)]
    pub padding: u8,
    /// With `fit = "letterbox"`: where the picture lies.
    #[serde(default)]
    pub position: Position,
    #[serde(default)]
    pub filter: ResizeFilter,
    /// Whether the filter widens when the picture is made smaller, so that every pixel contributes.
    #[serde(default)]
    pub antialias: bool,
}

impl InputConfig {
    /// Checks that every pixel becomes a number.
    pub(super) fn check_range(&self) -> anyhow::Result<()> {
        let ends = (0..3).flat_map(|channel| [0, 255].map(|value| self.normalised(channel, value)));
        ensure!(
            ends.into_iter().all(f32::is_finite),
            "with input.scale {}, input.mean {:?} and input.std {:?}, a pixel value does not become a finite number",
            self.scale,
            self.mean,
            self.std
        );
        Ok(())
    }

    /// The value of an element for a channel's value, 0 to 255.
    pub fn normalised(&self, channel: usize, value: u8) -> f32 {
        (f32::from(value) * self.scale - self.mean[channel]) / self.std[channel]
    }

    /// The shape of the input tensor.
    pub fn shape(&self) -> [usize; 4] {
        let (width, height) = (self.width as usize, self.height as usize);
        match self.layout {
            Layout::Nhwc => [1, height, width, 3],
            Layout::Nchw => [1, 3, height, width],
        }
    }

    /// The tensor of a picture that already has the input's size.
    pub fn to_tensor(&self, canvas: RgbImage) -> Tensor {
        let normalised = |channel, value| self.normalised(channel, value);
        let elements = match self.element {
            // Already in the right layout.
            ElementType::U8
                if (self.layout, self.channel_order) == (Layout::Nhwc, ChannelOrder::Rgb) =>
            {
                Elements::U8(canvas.into_raw())
            }
            ElementType::U8 => Elements::U8(self.lay_out(&canvas, |_, value| value)),
            ElementType::F16 => Elements::F16(
                self.lay_out(&canvas, |channel, value| f16::from_f32(normalised(channel, value))),
            ),
            ElementType::F32 => Elements::F32(self.lay_out(&canvas, normalised)),
        };
        Tensor { shape: self.shape(), elements }
    }

    /// The tensor of a black picture.
    pub fn blank_tensor(&self) -> Tensor {
        self.to_tensor(RgbImage::new(self.width, self.height))
    }

    /// The elements of a tensor. Each depends only on its channel and on one of 256 values, so it is looked up in a
    /// table.
    fn lay_out<T: Copy>(&self, canvas: &RgbImage, element: impl Fn(usize, u8) -> T) -> Vec<T> {
        let tables: [Vec<T>; 3] = std::array::from_fn(|channel| {
            (0..=u8::MAX).map(|value| element(channel, value)).collect()
        });
        let order = match self.channel_order {
            ChannelOrder::Rgb => [0, 1, 2],
            ChannelOrder::Bgr => [2, 1, 0],
        };
        let pixels = canvas.as_raw().as_chunks::<3>().0;
        let at =
            |pixel: &[u8; 3], channel: usize| tables[channel][usize::from(pixel[order[channel]])];
        let mut elements: Vec<T> = Vec::with_capacity(canvas.as_raw().len());
        match self.layout {
            Layout::Nhwc => {
                for pixel in pixels {
                    elements.extend([0, 1, 2].map(|channel| at(pixel, channel)));
                }
            }
            Layout::Nchw => {
                for channel in 0..3 {
                    elements.extend(pixels.iter().map(|pixel| at(pixel, channel)));
                }
            }
        }
        elements
    }
}

/// Order of the input's axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    #[default]
    Nhwc,
    Nchw,
}

/// Order of the input's channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    #[default]
    Rgb,
    Bgr,
}

/// Type of the input's elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    #[default]
    U8,
    F16,
    F32,
}

/// How a picture is fitted to the input's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Scale width and height separately; the proportions are lost.
    Stretch,
    /// Keep the proportions, with grey bars around the picture or on one side of it.
    Letterbox,
}

/// Where a letterboxed picture lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    #[default]
    Centre,
    TopLeft,
}

/// How the resize computes a pixel from its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeFilter {
    Nearest,
    Box,
    #[default]
    Bilinear,
    Hamming,
    CatmullRom,
    Mitchell,
    Gaussian,
    Lanczos3,
}

fn one() -> f32 {
    1.0
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

#[cfg(test)]
mod tests {
    use half::f16;
    use image::RgbImage;

    use super::InputConfig;
    use crate::tensor::Elements;

    /// An input of 2x1 pixels with further keys.
    fn input(keys: &str) -> InputConfig {
        let text = format!("name = \"x\"\nwidth = 2\nheight = 1\nfit = \"letterbox\"\n{keys}");
        toml::from_str(&text).expect("an input")
    }

    #[test]
    fn pixels_are_laid_out_as_model_toml_says() {
        let canvas = RgbImage::from_raw(2, 1, vec![10, 20, 30, 40, 50, 60]).expect("pixels");
        let tensor = |keys: &str| input(keys).to_tensor(canvas.clone());
        assert_eq!(tensor("").elements, Elements::U8(vec![10, 20, 30, 40, 50, 60]));
        assert_eq!(tensor("").shape, [1, 1, 2, 3]);
        let planes = tensor("layout = \"nchw\"\nchannel_order = \"bgr\"");
        assert_eq!(planes.elements, Elements::U8(vec![30, 60, 20, 50, 10, 40]));
        assert_eq!(planes.shape, [1, 3, 1, 2]);
        let keys = "scale = 0.1\nmean = [1.0, 2.0, 3.0]\nstd = [1.0, 1.0, 2.0]";
        let normalised = tensor(&format!("element = \"f32\"\n{keys}"));
        assert_eq!(normalised.elements, Elements::F32(vec![0.0, 0.0, 0.0, 3.0, 3.0, 1.5]));
        let half = tensor(&format!("element = \"f16\"\nlayout = \"nchw\"\n{keys}"));
        let expected = [0.0, 3.0, 0.0, 3.0, 0.0, 1.5].map(f16::from_f32);
        assert_eq!(half.elements, Elements::F16(expected.to_vec()));
    }
}
