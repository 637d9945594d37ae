//! The tests' pictures, and versions of them in other formats and orientations, and with damage.

use std::io::Cursor;
use std::path::PathBuf;

use image::{DynamicImage, ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder};

use crate::root;

/// A picture of `tests/pictures`.
pub fn bytes(name: &str) -> Vec<u8> {
    let path = root().join("tests/pictures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The picture of a cat, decoded. It shows one object, which is found with high confidence.
pub fn cat() -> RgbImage {
    image::load_from_memory(&bytes("skimage_chelsea.png")).expect("a picture").into_rgb8()
}

/// The picture of an astronaut as a camera would store it: a JPEG of 640x480.
pub fn photograph() -> Vec<u8> {
    let picture = image::load_from_memory(&bytes("skimage_astronaut.png")).expect("a picture");
    let size = picture.resize_exact(640, 480, image::imageops::FilterType::CatmullRom);
    jpeg(&size.into_rgb8())
}

/// Three pictures, each in every format and in every orientation, with what to call it.
pub fn in_every_format_and_orientation() -> Vec<(String, Vec<u8>)> {
    let mut pictures = Vec::new();
    for name in ["skimage_chelsea.png", "skimage_coffee.png", "skimage_astronaut.png"] {
        let picture = image::load_from_memory(&bytes(name)).expect("a picture");
        let picture = picture.thumbnail(300, 300).into_rgb8();
        let mut add = |form: &str, bytes| pictures.push((format!("{name} as {form}"), bytes));
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp] {
            add(&format!("{format:?}"), encode(&picture.clone().into(), format));
        }
        add("progressive JPEG", progressive_jpeg(&picture));
        for orientation in 1..=8 {
            add(&format!("JPEG {orientation}"), oriented_jpeg(&picture, orientation));
        }
    }
    pictures
}

/// A picture in one of the formats `image` writes.
pub fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("an encoder");
    bytes.into_inner()
}

/// A baseline JPEG.
pub fn jpeg(picture: &RgbImage) -> Vec<u8> {
    encode_jpeg(picture.as_raw(), picture, ColorType::Rgb, |_| {})
}

/// A progressive JPEG.
pub fn progressive_jpeg(picture: &RgbImage) -> Vec<u8> {
    encode_jpeg(picture.as_raw(), picture, ColorType::Rgb, |encoder| encoder.set_progressive(true))
}

/// A JPEG with four inks, stored directly (CMYK) or as YCCK.
pub fn cmyk_jpeg(picture: &RgbImage, colour: ColorType) -> Vec<u8> {
    let inks: Vec<u8> = picture
        .pixels()
        .flat_map(|pixel| {
            let [red, green, blue] = pixel.0;
            let black = 255 - red.max(green).max(blue);
            let ink = |channel: u8| {
                let light = 255 - u32::from(black);
                ((light - u32::from(channel)) * 255 / light.max(1)) as u8
            };
            [ink(red), ink(green), ink(blue), black]
        })
        .collect();
    encode_jpeg(&inks, picture, colour, |_| {})
}

/// A JPEG whose EXIF orientation (1 to 8) turns it upright.
pub fn oriented_jpeg(upright: &RgbImage, orientation: u8) -> Vec<u8> {
    let stored = stored(upright, orientation);
    // TIFF, little-endian, one directory with one entry: tag 0x0112, type short, count 1.
    let mut exif = b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0, 0]);
    encode_jpeg(stored.as_raw(), &stored, ColorType::Rgb, |encoder| {
        encoder.add_app_segment(1, exif.clone()).expect("a segment");
    })
}

/// The pixels as a file with this EXIF orientation stores them. This follows the text of the specification (Exif
/// 2.32, tag 0x0112), which states where the 0th row and the 0th column are in the upright picture. It does not use
/// the `image` crate, because the detector does.
fn stored(upright: &RgbImage, orientation: u8) -> RgbImage {
    let (width, height) = upright.dimensions();
    let (right, bottom) = (width - 1, height - 1);
    let mut stored = match orientation {
        1..=4 => RgbImage::new(width, height),
        _ => RgbImage::new(height, width),
    };
    for (x, y, pixel) in upright.enumerate_pixels() {
        let (column, row) = match orientation {
            // The 0th row is the visual top, the 0th column the visual left-hand side.
            1 => (x, y),
            // Top, right.
            2 => (right - x, y),
            // Bottom, right.
            3 => (right - x, bottom - y),
            // Bottom, left.
            4 => (x, bottom - y),
            // The 0th row is the visual left-hand side, the 0th column the visual top.
            5 => (y, x),
            // Right, top.
            6 => (y, right - x),
            // Right, bottom.
            7 => (bottom - y, right - x),
            // Left, bottom.
            8 => (bottom - y, x),
            other => panic!("there is no orientation {other}"),
        };
        stored.put_pixel(column, row, *pixel);
    }
    stored
}

fn encode_jpeg(
    pixels: &[u8],
    size: &RgbImage,
    colour: ColorType,
    configure: impl FnOnce(&mut Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 95);
    configure(&mut encoder);
    let (width, height) = (size.width() as u16, size.height() as u16);
    encoder.encode(pixels, width, height, colour).expect("an encoder");
    bytes
}

/// The folder with further pictures and reference detections that are not in the repository, if `SPOTTER_SHARED`
/// named one when the tests were compiled (see build.rs).
pub fn shared() -> Option<PathBuf> {
    option_env!("SPOTTER_SHARED").map(PathBuf::from)
}
