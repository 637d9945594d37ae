//! Converts a picture of any shape to the network's input tensor, and the network's coordinates back to the
//! picture's.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are bounded by the picture and by the network's input"
)]

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use half::f16;
use image::RgbImage;

use crate::error::Error;
use crate::model::{ChannelOrder, Element, Filter, Fit, Input, Layout, Position};
use crate::picture::{ImageSize, Picture};

/// The network's input: one picture.
#[derive(Debug)]
pub struct Tensor {
    /// See [`Input::shape`].
    pub shape: [usize; 4],
    /// In row-major order.
    pub elements: Elements,
}

/// The elements of a tensor.
#[derive(Debug, PartialEq)]
pub enum Elements {
    U8(Vec<u8>),
    F16(Vec<f16>),
    F32(Vec<f32>),
}

/// Where a picture lies in the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Size of the upright picture, in pixels.
    picture: ImageSize,
    /// Left and top of the picture in the input, as fractions of the input.
    origin: (f32, f32),
    /// Width and height of the picture in the input, as fractions of the input.
    extent: (f32, f32),
}

impl Placement {
    /// Converts a point from fractions of the input to pixels of the upright picture, clamped to the picture.
    pub fn to_picture(self, (x, y): (f32, f32)) -> (f32, f32) {
        let (width, height) = (self.picture.width as f32, self.picture.height as f32);
        let x = (x - self.origin.0) / self.extent.0 * width;
        let y = (y - self.origin.1) / self.extent.1 * height;
        (x.clamp(0.0, width), y.clamp(0.0, height))
    }

    /// Size of the upright picture, in pixels.
    pub fn picture(self) -> ImageSize {
        self.picture
    }
}

/// Resizes a picture to the network's input and lays it out as the network's tensor.
///
/// It resizes the pixels as they are stored, and turns only the small result upright, so that a rotated
/// photograph needs no second copy.
///
/// # Errors
/// [`Error::Internal`] if the resizer fails, which does not depend on the client's input.
pub fn fit(picture: &Picture, input: &Input) -> Result<(Tensor, Placement), Error> {
    let upright = picture.upright_size();
    let (placement, inner) = placement_of(upright, input);
    let ImageSize { width, height } = picture.turned(inner);
    let resized = picture.upright(resize(picture.stored(), (width, height), input)?);
    let canvas = match input.fit {
        Fit::Stretch => resized,
        Fit::Letterbox => letterbox(&resized, input),
    };
    Ok((tensor(canvas, input), placement))
}

/// The tensor of a black picture.
pub fn blank(input: &Input) -> Tensor {
    tensor(RgbImage::new(input.width, input.height), input)
}

/// The placement and size of a picture in the input.
fn placement_of(picture: ImageSize, input: &Input) -> (Placement, ImageSize) {
    let (width, height) = (f64::from(input.width), f64::from(input.height));
    let (inner_width, inner_height) = match input.fit {
        Fit::Stretch => (width, height),
        Fit::Letterbox => {
            let (picture_width, picture_height) =
                (f64::from(picture.width), f64::from(picture.height));
            let scale = (width / picture_width).min(height / picture_height);
            let (scaled_width, scaled_height) = (picture_width * scale, picture_height * scale);
            match input.position {
                Position::Centre => (scaled_width.round(), scaled_height.round()),
                Position::TopLeft => (scaled_width, scaled_height),
            }
        }
    };
    // What trains with the picture in a corner drops the fraction of a pixel from the resized picture, but not from
    // the scale of its boxes (YOLOX's `preproc`); what centres it rounds both (Ultralytics' `LetterBox`).
    let inner = ImageSize {
        width: (inner_width as u32).clamp(1, input.width),
        height: (inner_height as u32).clamp(1, input.height),
    };
    let (left, top) = margins(inner, input);
    let placement = Placement {
        picture,
        origin: ((f64::from(left) / width) as f32, (f64::from(top) / height) as f32),
        extent: ((inner_width.max(1.0) / width) as f32, (inner_height.max(1.0) / height) as f32),
    };
    (placement, inner)
}

/// The left and the top of a picture in the input.
fn margins(inner: ImageSize, input: &Input) -> (u32, u32) {
    match input.position {
        Position::Centre => ((input.width - inner.width) / 2, (input.height - inner.height) / 2),
        Position::TopLeft => (0, 0),
    }
}

fn resize(
    picture: &RgbImage,
    (width, height): (u32, u32),
    input: &Input,
) -> Result<RgbImage, Error> {
    let mut resized = RgbImage::new(width, height);
    let internal = |error: &dyn std::fmt::Display| Error::Internal(format!("resize: {error}"));
    let source =
        ImageRef::new(picture.width(), picture.height(), picture.as_raw(), PixelType::U8x3)
            .map_err(|error| internal(&error))?;
    let mut target = Image::from_slice_u8(width, height, &mut resized, PixelType::U8x3)
        .map_err(|error| internal(&error))?;
    let options = ResizeOptions::new().resize_alg(algorithm(input));
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| internal(&error))?;
    Ok(resized)
}

/// Half-pixel centres, with the filter of the manifest.
fn algorithm(input: &Input) -> ResizeAlg {
    let filter = match input.filter {
        Filter::Nearest => return ResizeAlg::Nearest,
        Filter::Box => FilterType::Box,
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Hamming => FilterType::Hamming,
        Filter::CatmullRom => FilterType::CatmullRom,
        Filter::Mitchell => FilterType::Mitchell,
        Filter::Gaussian => FilterType::Gaussian,
        Filter::Lanczos3 => FilterType::Lanczos3,
    };
    if input.antialias { ResizeAlg::Convolution(filter) } else { ResizeAlg::Interpolation(filter) }
}

fn letterbox(picture: &RgbImage, input: &Input) -> RgbImage {
    let inner = ImageSize { width: picture.width(), height: picture.height() };
    let (left, top) = margins(inner, input);
    let mut canvas =
        RgbImage::from_pixel(input.width, input.height, image::Rgb([input.padding; 3]));
    image::imageops::replace(&mut canvas, picture, i64::from(left), i64::from(top));
    canvas
}

fn tensor(canvas: RgbImage, input: &Input) -> Tensor {
    let normalised = |channel, value| input.normalised(channel, value);
    let elements = match input.element {
        // Laid out already.
        Element::U8 if (input.layout, input.channel_order) == (Layout::Nhwc, ChannelOrder::Rgb) => {
            Elements::U8(canvas.into_raw())
        }
        Element::U8 => Elements::U8(laid_out(&canvas, input, |_, value| value)),
        Element::F16 => Elements::F16(laid_out(&canvas, input, |channel, value| {
            f16::from_f32(normalised(channel, value))
        })),
        Element::F32 => Elements::F32(laid_out(&canvas, input, normalised)),
    };
    Tensor { shape: input.shape(), elements }
}

/// The elements of a tensor. Each depends on its channel and on one of 256 values, so it is looked up in a table.
fn laid_out<T: Copy>(canvas: &RgbImage, input: &Input, element: impl Fn(usize, u8) -> T) -> Vec<T> {
    let tables: [Vec<T>; 3] =
        std::array::from_fn(|channel| (0..=u8::MAX).map(|value| element(channel, value)).collect());
    let order = match input.channel_order {
        ChannelOrder::Rgb => [0, 1, 2],
        ChannelOrder::Bgr => [2, 1, 0],
    };
    let pixels = canvas.as_raw().as_chunks::<3>().0;
    let at = |pixel: &[u8; 3], channel: usize| tables[channel][usize::from(pixel[order[channel]])];
    let mut elements: Vec<T> = Vec::with_capacity(canvas.as_raw().len());
    match input.layout {
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

#[cfg(test)]
mod tests {
    use half::f16;
    use image::RgbImage;

    use super::{Elements, letterbox, margins, placement_of, tensor};
    use crate::model::Input;
    use crate::picture::ImageSize;

    /// An input of 2x1 pixels with further keys.
    fn input(keys: &str) -> Input {
        let text = format!("name = \"x\"\nwidth = 2\nheight = 1\nfit = \"letterbox\"\n{keys}");
        toml::from_str(&text).expect("an input")
    }

    #[test]
    fn pixels_are_laid_out_as_the_manifest_says() {
        let canvas = RgbImage::from_raw(2, 1, vec![10, 20, 30, 40, 50, 60]).expect("pixels");
        let of = |keys: &str| tensor(canvas.clone(), &input(keys));
        assert_eq!(of("").elements, Elements::U8(vec![10, 20, 30, 40, 50, 60]));
        assert_eq!(of("").shape, [1, 1, 2, 3]);
        let planes = of("layout = \"nchw\"\nchannel_order = \"bgr\"");
        assert_eq!(planes.elements, Elements::U8(vec![30, 60, 20, 50, 10, 40]));
        assert_eq!(planes.shape, [1, 3, 1, 2]);
        let keys = "scale = 0.1\nmean = [1.0, 2.0, 3.0]\nstd = [1.0, 1.0, 2.0]";
        let normalised = of(&format!("element = \"f32\"\n{keys}"));
        assert_eq!(normalised.elements, Elements::F32(vec![0.0, 0.0, 0.0, 3.0, 3.0, 1.5]));
        let half = of(&format!("element = \"f16\"\nlayout = \"nchw\"\n{keys}"));
        let expected = [0.0, 3.0, 0.0, 3.0, 0.0, 1.5].map(f16::from_f32);
        assert_eq!(half.elements, Elements::F16(expected.to_vec()));
    }

    #[test]
    fn a_letterboxed_picture_lies_in_the_centre_or_at_the_top_left() {
        let mut input = input("padding = 114");
        input.width = 8;
        let (inner, picture) = (ImageSize { width: 1, height: 1 }, RgbImage::new(1, 1));
        assert_eq!(margins(inner, &input), (3, 0));
        assert_eq!(letterbox(&picture, &input).get_pixel(2, 0).0, [114; 3]);
        input.position = crate::model::Position::TopLeft;
        assert_eq!(margins(inner, &input), (0, 0));
        assert_eq!(letterbox(&picture, &input).get_pixel(0, 0).0, [0; 3]);
        let (placement, inner) = placement_of(ImageSize { width: 50, height: 50 }, &input);
        assert_eq!(inner, ImageSize { width: 1, height: 1 });
        assert_eq!(placement.to_picture((0.0625, 0.5)), (25.0, 25.0));
    }
}
