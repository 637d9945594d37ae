//! Decodes pictures with the `image` crate, and classifies its errors for the client.

#![allow(clippy::cast_possible_truncation, reason = "a weighted mean of bytes is a byte")]

use std::io::Cursor;

use image::error::{ImageError, ImageResult};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage, Rgba};

use super::{Picture, jpeg, limits};
use crate::error::Error;

/// The formats that a client may send.
const FORMATS: [ImageFormat; 5] =
    [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp];

/// Decodes a picture of any format, colour type and depth. Of an animation, it decodes the first frame.
/// Transparent pixels are blended with white, as in a viewer.
///
/// `keeps_upright_copy` states that the caller will use [`Picture::into_upright`], which counts against the
/// memory limit.
///
/// # Errors
/// [`Error::EmptyBody`], [`Error::NotAPicture`], [`Error::TruncatedPicture`],
/// [`Error::PictureTooLarge`], [`Error::PictureNeedsTooMuchMemory`].
pub fn decode(bytes: &[u8], keeps_upright_copy: bool) -> Result<Picture, Error> {
    if bytes.is_empty() {
        return Err(Error::EmptyBody);
    }
    let format = sniff(bytes)?;
    // From the header alone: for a huge size, a decoder may fail with its own error, or allocate memory.
    if let Ok(size) = imagesize::blob_size(bytes) {
        limits::check_size(to_u32(size.width), to_u32(size.height))?;
    }
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format)
        .into_decoder()
        .map_err(|error| refused(error, bytes, format))?;
    let (width, height) = decoder.dimensions();
    limits::check_size(width, height)?;
    limits::check_memory(&decoder, format, bytes, keeps_upright_copy)?;
    check_length(bytes, format)?;
    let orientation = orientation(&mut decoder).map_err(|error| refused(error, bytes, format))?;
    let decoded =
        DynamicImage::from_decoder(decoder).map_err(|error| refused(error, bytes, format))?;
    Ok(Picture { stored: on_white(decoded), orientation })
}

/// The orientation in the EXIF data, if any. Some programs begin that of a WebP with the six bytes that
/// belong only in a JPEG's.
fn orientation(decoder: &mut impl ImageDecoder) -> ImageResult<Orientation> {
    let exif = decoder.exif_metadata()?.unwrap_or_default();
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif);
    Ok(Orientation::from_exif_chunk(tiff).unwrap_or(Orientation::NoTransforms))
}

/// The number of pixels in the header, in millions; 0 if the header has no size.
#[allow(clippy::cast_precision_loss, reason = "a size of this many pixels is rejected anyway")]
pub fn megapixels(bytes: &[u8]) -> f64 {
    imagesize::blob_size(bytes)
        .map_or(0.0, |size| size.width as f64 * size.height as f64 / 1_000_000.0)
}

fn sniff(bytes: &[u8]) -> Result<ImageFormat, Error> {
    let unknown = |reason: String| Error::NotAPicture { reason };
    let format = image::guess_format(bytes)
        .map_err(|_| unknown(format!("it begins with {}", beginning(bytes))))?;
    if FORMATS.contains(&format) {
        Ok(format)
    } else {
        Err(unknown(format!("it looks like {}", format.to_mime_type())))
    }
}

/// The first bytes in readable form.
fn beginning(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(8)].escape_ascii())
}

fn refused(error: ImageError, bytes: &[u8], format: ImageFormat) -> Error {
    let reason = error.to_string();
    if check_length(bytes, format).is_err()
        || ended_early(&error, &reason)
        || bytes.len() < min_file_bytes(format)
    {
        Error::TruncatedPicture { reason }
    } else {
        Error::NotAPicture { reason }
    }
}

/// Rejects a file that is shorter than its header states. Some decoders fill the missing part with grey, or
/// report the file as corrupt.
fn check_length(bytes: &[u8], format: ImageFormat) -> Result<(), Error> {
    let missing = match (format, bytes) {
        (ImageFormat::Jpeg, _) if !jpeg::Outline::read(bytes).is_complete => {
            "there is no end-of-image marker".to_owned()
        }
        (ImageFormat::WebP, [b'R', b'I', b'F', b'F', a, b, c, d, rest @ ..])
            if (rest.len() as u64) < u64::from(u32::from_le_bytes([*a, *b, *c, *d])) =>
        {
            format!("it has {} bytes, fewer than its header states", bytes.len())
        }
        _ => return Ok(()),
    };
    Err(Error::TruncatedPicture { reason: missing })
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Whether the bytes ran out. Decoders report that as an I/O error, or only in the message.
fn ended_early(error: &ImageError, reason: &str) -> bool {
    use std::error::Error as _;
    const WORDS: [&str; 5] =
        ["unexpected end", "unexpectedeof", "failed to fill whole buffer", "eof", "exhausted"];
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::UnexpectedEof
        {
            return true;
        }
        cause = inner.source();
    }
    let reason = reason.to_lowercase();
    WORDS.iter().any(|words| reason.contains(words))
}

/// The size of the smallest complete picture of a format.
fn min_file_bytes(format: ImageFormat) -> usize {
    match format {
        ImageFormat::Png => 57,
        ImageFormat::Jpeg => 100,
        _ => 26,
    }
}

fn on_white(decoded: DynamicImage) -> RgbImage {
    if !decoded.color().has_alpha() {
        return decoded.into_rgb8();
    }
    let pixels = decoded.into_rgba8();
    RgbImage::from_fn(pixels.width(), pixels.height(), |x, y| {
        let Rgba([red, green, blue, alpha]) = *pixels.get_pixel(x, y);
        let over = |channel: u8| {
            let (channel, alpha) = (u32::from(channel), u32::from(alpha));
            ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        image::Rgb([over(red), over(green), over(blue)])
    })
}
