//! The EXIF orientation of a picture (tag 0x0112): reads it, and turns pixels upright.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::ImageSize;

/// The orientation in EXIF data. In a WebP, some programs put six bytes before the data that only a JPEG should have.
pub(super) fn from_exif(exif: &[u8]) -> Orientation {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    Orientation::from_exif_chunk(tiff).unwrap_or(Orientation::NoTransforms)
}

/// Converts between the size of the pixels in the file and the size of the upright ones.
pub(super) fn turned(orientation: Orientation, size: ImageSize) -> ImageSize {
    let ImageSize { width, height } = size;
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => ImageSize { width: height, height: width },
        _ => size,
    }
}

/// The pixels, turned upright.
pub(super) fn apply(orientation: Orientation, pixels: RgbImage) -> RgbImage {
    let mut picture = DynamicImage::ImageRgb8(pixels);
    picture.apply_orientation(orientation);
    picture.into_rgb8()
}
