//! Decodes pictures: detects the format, checks the size in the header, and only then decodes the pixels.

mod decode;
mod header;
mod jpeg;
mod limits;
mod orientation;
mod pixels;
mod png;
mod reduced_jpeg;
mod webp;

use image::RgbImage;
use image::metadata::Orientation;
use serde::Serialize;

pub use decode::{Purpose, decode, header};
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

/// A decoded picture: 8-bit RGB pixels in the order of the file, and the orientation that makes them upright.
#[derive(Debug)]
pub struct Picture {
    /// The size in the file.
    size: ImageSize,
    /// All pixels, or those of a smaller copy.
    pixels: RgbImage,
    /// How many times smaller the copy is on each side; 1 for all pixels.
    divisor: u32,
    orientation: Orientation,
}

impl Picture {
    /// A picture of upright pixels.
    ///
    /// # Errors
    /// [`Error::PictureTooLarge`], [`Error::NotAPicture`].
    pub fn from_pixels(pixels: RgbImage) -> Result<Self, Error> {
        let size = ImageSize { width: pixels.width(), height: pixels.height() };
        limits::check_size(size)?;
        Ok(Self { size, pixels, divisor: 1, orientation: Orientation::NoTransforms })
    }

    /// The pixels in the order of the file.
    pub fn pixels(&self) -> &RgbImage {
        &self.pixels
    }

    /// The width and height of the picture in [`Self::pixels`]. In a smaller copy, the last pixels to the right and at
    /// the bottom may lie partly outside of the picture.
    pub fn extent(&self) -> (f64, f64) {
        let divisor = f64::from(self.divisor);
        (f64::from(self.size.width) / divisor, f64::from(self.size.height) / divisor)
    }

    /// Converts between the size of the pixels in the file and the size of the upright ones.
    pub fn turned(&self, size: ImageSize) -> ImageSize {
        orientation::turned(self.orientation, size)
    }

    /// Size of the upright picture.
    pub fn upright_size(&self) -> ImageSize {
        self.turned(self.size)
    }

    /// Turns pixels upright that are in the order of the file, such as a smaller copy of the picture.
    pub fn upright(&self, pixels: RgbImage) -> RgbImage {
        orientation::apply(self.orientation, pixels)
    }

    /// The upright pixels: all of them, if the picture was decoded for [`Purpose::Drawing`].
    pub fn into_upright(self) -> RgbImage {
        orientation::apply(self.orientation, self.pixels)
    }
}
