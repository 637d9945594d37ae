//! Converts a picture of any shape to the network's input tensor, and the network's coordinates back to the
//! picture's.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are bounded by the picture and by the network's input"
)]

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, RgbImage};
use tract_onnx::prelude::{Tensor, tract_ndarray as ndarray};

use crate::error::Error;
use crate::model::{ChannelOrder, Element, Fit, Input, Layout};
use crate::picture::{ImageSize, Picture};

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

/// Resizes a picture to the network's input (half-pixel bilinear, as the models were trained) and
/// lays it out as the network's tensor.
///
/// It resizes the pixels as they are stored, and turns only the small result upright, so that a rotated
/// photograph needs no second copy.
///
/// # Errors
/// [`Error::Internal`] if the resizer fails, which does not depend on the client's input.
pub fn fit(picture: &Picture, input: &Input) -> Result<(Tensor, Placement), Error> {
    let upright = picture.upright_size();
    let (placement, inner) = placement_of(upright, input);
    let (mut width, mut height) = (inner.width, inner.height);
    if picture.is_sideways() {
        std::mem::swap(&mut width, &mut height);
    }
    let resized = resize(picture.stored(), width, height)?;
    let mut resized = DynamicImage::ImageRgb8(resized);
    resized.apply_orientation(picture.orientation());
    let canvas = match input.fit {
        Fit::Stretch => resized.into_rgb8(),
        Fit::Letterbox => centre(&resized.into_rgb8(), input)?,
    };
    Ok((tensor(canvas, input)?, placement))
}

/// The tensor of a black picture.
///
/// # Errors
/// [`Error::Internal`] if the input's shape is impossible.
pub fn blank(input: &Input) -> Result<Tensor, Error> {
    tensor(RgbImage::new(input.width, input.height), input)
}

/// The placement and size of a picture in the input.
fn placement_of(picture: ImageSize, input: &Input) -> (Placement, ImageSize) {
    let (width, height) = (input.width as f32, input.height as f32);
    let inner = match input.fit {
        Fit::Stretch => ImageSize { width: input.width, height: input.height },
        Fit::Letterbox => {
            let scale = (width / picture.width as f32).min(height / picture.height as f32);
            let side =
                |length: u32, max: u32| ((length as f32 * scale).round() as u32).clamp(1, max);
            ImageSize {
                width: side(picture.width, input.width),
                height: side(picture.height, input.height),
            }
        }
    };
    let (left, top) = margins(inner, input);
    let placement = Placement {
        picture,
        origin: (left as f32 / width, top as f32 / height),
        extent: (inner.width as f32 / width, inner.height as f32 / height),
    };
    (placement, inner)
}

fn margins(inner: ImageSize, input: &Input) -> (u32, u32) {
    ((input.width - inner.width) / 2, (input.height - inner.height) / 2)
}

fn resize(picture: &RgbImage, width: u32, height: u32) -> Result<RgbImage, Error> {
    let mut resized = RgbImage::new(width, height);
    let internal = |error: &dyn std::fmt::Display| Error::Internal(format!("resize: {error}"));
    let source =
        ImageRef::new(picture.width(), picture.height(), picture.as_raw(), PixelType::U8x3)
            .map_err(|error| internal(&error))?;
    let mut target = Image::from_slice_u8(width, height, &mut resized, PixelType::U8x3)
        .map_err(|error| internal(&error))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Interpolation(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| internal(&error))?;
    Ok(resized)
}

fn centre(picture: &RgbImage, input: &Input) -> Result<RgbImage, Error> {
    let inner = ImageSize { width: picture.width(), height: picture.height() };
    let (left, top) = margins(inner, input);
    let mut canvas =
        RgbImage::from_pixel(input.width, input.height, image::Rgb([input.padding; 3]));
    image::imageops::replace(&mut canvas, picture, i64::from(left), i64::from(top));
    Ok(canvas)
}

fn tensor(mut canvas: RgbImage, input: &Input) -> Result<Tensor, Error> {
    if input.channel_order == ChannelOrder::Bgr {
        canvas.pixels_mut().for_each(|pixel| pixel.0.reverse());
    }
    let shape = (1, input.height as usize, input.width as usize, 3);
    let mut pixels = ndarray::Array4::from_shape_vec(shape, canvas.into_raw())
        .map_err(|error| Error::Internal(format!("tensor: {error}")))?;
    if input.layout == Layout::Nchw {
        pixels = pixels.permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned();
    }
    Ok(match input.element {
        Element::U8 => pixels.into(),
        Element::F32 => normalised(&pixels, input).into(),
    })
}

fn normalised(pixels: &ndarray::Array4<u8>, input: &Input) -> ndarray::Array4<f32> {
    let channel_axis = if input.layout == Layout::Nhwc { 3 } else { 1 };
    let mut values = pixels.mapv(f32::from);
    for (channel, mut plane) in values.axis_iter_mut(ndarray::Axis(channel_axis)).enumerate() {
        let (mean, std) = (input.mean[channel], input.std[channel]);
        plane.mapv_inplace(|value| (value - mean) / std);
    }
    values
}
