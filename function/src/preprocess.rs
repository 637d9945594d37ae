//! Preprocessing: resizes and letterboxes a picture to the network's input, and maps the network's coordinates back
//! to the picture's.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are bounded by the picture and by the network's input"
)]

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use crate::error::Error;
use crate::model::{Fit, InputConfig, Position, ResizeFilter};
use crate::picture::{ImageSize, Picture};
use crate::tensor::Tensor;

/// Maps the network's coordinates to the picture's: where the picture lies in the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputTransform {
    /// Size of the upright picture, in pixels.
    picture: ImageSize,
    /// Left and top of the picture in the input, as fractions of the input.
    origin: (f32, f32),
    /// Width and height of the picture in the input, as fractions of the input.
    extent: (f32, f32),
}

impl InputTransform {
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
/// It resizes the pixels in the order of the file, and turns only the small result upright, so that a rotated
/// photograph needs no second copy.
///
/// # Errors
/// [`Error::Internal`] if the resizer fails, which does not depend on the client's input.
pub fn to_tensor(
    picture: &Picture,
    input: &InputConfig,
) -> Result<(Tensor, InputTransform), Error> {
    let upright = picture.upright_size();
    let (transform, inner) = input_transform(upright, input);
    let ImageSize { width, height } = picture.turned(inner);
    let resized = picture.upright(resize(picture, (width, height), input)?);
    let canvas = match input.fit {
        Fit::Stretch => resized,
        Fit::Letterbox => letterbox(&resized, input),
    };
    Ok((input.to_tensor(canvas), transform))
}

/// How many times larger than in the input a picture is decoded at least, on each side. Models are trained with pictures
/// that are up to about twice as large as their input (COCO's have 640x480 pixels), and see less if the picture was
/// averaged before the resize. Pillow's `thumbnail` has the same `reducing_gap`.
const REDUCING_GAP: f64 = 2.0;

/// The smallest size, in pixels, at which a picture may be decoded, if its upright size is this.
pub fn min_decoded_size(picture: ImageSize, input: &InputConfig) -> ImageSize {
    let (_, inner) = input_transform(picture, input);
    let [width, height] =
        [inner.width, inner.height].map(|side| (f64::from(side) * REDUCING_GAP).ceil() as u32);
    ImageSize { width, height }
}

/// Where a picture lies in the input, and its size there.
fn input_transform(picture: ImageSize, input: &InputConfig) -> (InputTransform, ImageSize) {
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
    // As the models were trained: YOLOX's `preproc`, with the picture in a corner, drops the fraction of a pixel from
    // the resized picture, but not from the scale of its boxes. Ultralytics' `LetterBox` centres it, and rounds both.
    let inner = ImageSize {
        width: (inner_width as u32).clamp(1, input.width),
        height: (inner_height as u32).clamp(1, input.height),
    };
    let (left, top) = margins(inner, input);
    let transform = InputTransform {
        picture,
        origin: ((f64::from(left) / width) as f32, (f64::from(top) / height) as f32),
        extent: ((inner_width.max(1.0) / width) as f32, (inner_height.max(1.0) / height) as f32),
    };
    (transform, inner)
}

/// The left and the top of a picture in the input.
fn margins(inner: ImageSize, input: &InputConfig) -> (u32, u32) {
    match input.position {
        Position::Centre => ((input.width - inner.width) / 2, (input.height - inner.height) / 2),
        Position::TopLeft => (0, 0),
    }
}

fn resize(
    picture: &Picture,
    (width, height): (u32, u32),
    input: &InputConfig,
) -> Result<RgbImage, Error> {
    let pixels = picture.pixels();
    let (across, down) = picture.extent();
    let mut resized = RgbImage::new(width, height);
    let internal = |error: &dyn std::fmt::Display| Error::Internal(format!("resize: {error}"));
    let source = ImageRef::new(pixels.width(), pixels.height(), pixels.as_raw(), PixelType::U8x3)
        .map_err(|error| internal(&error))?;
    let mut target = Image::from_slice_u8(width, height, &mut resized, PixelType::U8x3)
        .map_err(|error| internal(&error))?;
    let options =
        ResizeOptions::new().resize_alg(resize_algorithm(input)).crop(0.0, 0.0, across, down);
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| internal(&error))?;
    Ok(resized)
}

/// Half-pixel centres, with the filter that `model.toml` names.
fn resize_algorithm(input: &InputConfig) -> ResizeAlg {
    let filter = match input.filter {
        ResizeFilter::Nearest => return ResizeAlg::Nearest,
        ResizeFilter::Box => FilterType::Box,
        ResizeFilter::Bilinear => FilterType::Bilinear,
        ResizeFilter::Hamming => FilterType::Hamming,
        ResizeFilter::CatmullRom => FilterType::CatmullRom,
        ResizeFilter::Mitchell => FilterType::Mitchell,
        ResizeFilter::Gaussian => FilterType::Gaussian,
        ResizeFilter::Lanczos3 => FilterType::Lanczos3,
    };
    if input.antialias { ResizeAlg::Convolution(filter) } else { ResizeAlg::Interpolation(filter) }
}

fn letterbox(picture: &RgbImage, input: &InputConfig) -> RgbImage {
    let inner = ImageSize { width: picture.width(), height: picture.height() };
    let (left, top) = margins(inner, input);
    let mut canvas =
        RgbImage::from_pixel(input.width, input.height, image::Rgb([input.padding; 3]));
    image::imageops::replace(&mut canvas, picture, i64::from(left), i64::from(top));
    canvas
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::{input_transform, letterbox, margins};
    use crate::model::InputConfig;
    use crate::picture::ImageSize;

    /// An input of 2x1 pixels with further keys.
    fn input(keys: &str) -> InputConfig {
        let text = format!("name = \"x\"\nwidth = 2\nheight = 1\nfit = \"letterbox\"\n{keys}");
        toml::from_str(&text).expect("an input")
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
        let (transform, inner) = input_transform(ImageSize { width: 50, height: 50 }, &input);
        assert_eq!(inner, ImageSize { width: 1, height: 1 });
        assert_eq!(transform.to_picture((0.0625, 0.5)), (25.0, 25.0));
    }
}
