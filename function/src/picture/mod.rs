//! Decodes pictures: detects the format, checks the size in the header, and only then decodes the pixels.

mod decode;
mod header;
mod jpeg;
mod limits;
mod orientation;
mod pixels;
mod png;
mod webp;

use image::RgbImage;
use image::metadata::Orientation;
use serde::Serialize;

pub use decode::{decode, header, megapixels};
pub use header::{FormatDetails, Header};
pub use limits::{MAX_DECODING_BYTES, MAX_MEGAPIXELS, MAX_SIDE_PIXELS};

use crate::error::Error;

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ImageSize {
    pub width: u32,
    pub height: u32,
}

impl ImageSize {
    /// The area in square pixels.
    pub fn area(self) -> f32 {
        self.width as f32 * self.height as f32
    }
}

/// A decoded picture: 8-bit RGB pixels as they are stored in the file, and the orientation that makes them
/// upright.
#[derive(Debug)]
pub struct Picture {
    stored: RgbImage,
    orientation: Orientation,
}

impl Picture {
    /// A picture of upright pixels.
    ///
    /// # Errors
    /// [`Error::PictureTooLarge`].
    pub fn from_pixels(pixels: RgbImage) -> Result<Self, Error> {
        limits::check_size(ImageSize { width: pixels.width(), height: pixels.height() })?;
        Ok(Self { stored: pixels, orientation: Orientation::NoTransforms })
    }

    /// The pixels as the file stores them.
    pub fn stored(&self) -> &RgbImage {
        &self.stored
    }

    /// Converts between the size of the stored pixels and the size of the upright ones.
    pub fn turned(&self, size: ImageSize) -> ImageSize {
        orientation::turned(self.orientation, size)
    }

    /// Size of the upright picture.
    pub fn upright_size(&self) -> ImageSize {
        let (width, height) = self.stored.dimensions();
        self.turned(ImageSize { width, height })
    }

    /// Turns pixels upright that have the stored orientation, such as a smaller copy of the picture.
    pub fn upright(&self, pixels: RgbImage) -> RgbImage {
        orientation::apply(self.orientation, pixels)
    }

    /// The upright pixels.
    pub fn into_upright(self) -> RgbImage {
        orientation::apply(self.orientation, self.stored)
    }
}
