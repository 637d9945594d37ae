//! Decodes pictures with the `image` crate, and classifies its errors for the client.

use std::io::Cursor;

use image::error::ImageError;
use image::{ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::header::{FormatDetails, Header};
use super::{ImageSize, Picture, limits, pixels, png, reduced_jpeg};
use crate::error::Error;

/// The formats that a client may send.
const ACCEPTED_FORMATS: [ImageFormat; 5] =
    [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp];

/// What a picture is decoded for.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// Resizing it. A smaller copy is enough, if it is not smaller than the size that the function returns for the size
    /// of the upright picture.
    Resizing(&'a dyn Fn(ImageSize) -> ImageSize),
    /// Drawing on [`Picture::into_upright`], which counts against the memory limit.
    Drawing,
}

/// Decodes a picture of any format, colour type and depth. Of an animation, it decodes the first frame.
/// Transparent pixels are blended with white, as in a viewer.
///
/// # Errors
/// [`Error::EmptyBody`], [`Error::NotAPicture`], [`Error::TruncatedPicture`],
/// [`Error::PictureTooLarge`], [`Error::PictureNeedsTooMuchMemory`], [`Error::MetadataTooLarge`].
pub fn decode(bytes: &[u8], purpose: Purpose) -> Result<Picture, Error> {
    let (header, decoder) = open(bytes)?;
    header.check(purpose)?;
    if let Purpose::Resizing(target) = purpose
        && let Some(picture) = reduced_jpeg::decode(bytes, &header, target)
    {
        return Ok(picture);
    }
    let ImageSize { width, height } = header.size;
    let area = width as usize * height as usize;
    let mut buffer = vec![0; area * pixels::bytes_per_pixel(header.colour)];
    let decoded = area * usize::from(header.colour.bytes_per_pixel());
    decoder
        .read_image(&mut buffer[..decoded])
        .map_err(|error| classify(error, bytes, header.format))?;
    let pixels = RgbImage::from_raw(width, height, pixels::to_rgb(buffer, header.colour))
        .ok_or_else(|| Error::Internal("the decoder returned too few pixels".to_owned()))?;
    Ok(Picture { size: header.size, pixels, divisor: 1, orientation: header.orientation })
}

/// Reads the header, and returns it with a decoder that is ready to read the pixels.
fn open(bytes: &[u8]) -> Result<(Header, impl ImageDecoder), Error> {
    if bytes.is_empty() {
        return Err(Error::EmptyBody);
    }
    let format = sniff(bytes)?;
    // Checked before a decoder reads the file: with a huge size, it may fail with its own error, or allocate memory.
    if let Ok(size) = imagesize::blob_size(bytes) {
        limits::check_size(ImageSize { width: to_u32(size.width), height: to_u32(size.height) })?;
    }
    let details = FormatDetails::read(bytes, format)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits::decoder_limits(format));
    let classified = |error| classify(error, bytes, format);
    let mut decoder = reader.into_decoder().map_err(classified)?;
    let header = Header::new(format, details, &mut decoder).map_err(classified)?;
    Ok((header, decoder))
}

/// The header of a picture.
///
/// # Errors
/// See [`decode`].
pub fn header(bytes: &[u8]) -> Result<Header, Error> {
    open(bytes).map(|(header, _)| header)
}

fn sniff(bytes: &[u8]) -> Result<ImageFormat, Error> {
    let unknown = |reason: String| Error::NotAPicture { reason };
    let format = image::guess_format(bytes)
        .map_err(|_| unknown(format!("it begins with {}", beginning(bytes))))?;
    if ACCEPTED_FORMATS.contains(&format) {
        Ok(format)
    } else {
        Err(unknown(format!("it looks like {}", format.to_mime_type())))
    }
}

/// The first bytes in readable form.
fn beginning(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(8)].escape_ascii())
}

/// The error for a client.
fn classify(error: ImageError, bytes: &[u8], format: ImageFormat) -> Error {
    let reason = error.to_string();
    if matches!(error, ImageError::Limits(_)) {
        Error::MetadataTooLarge { limit: png::MAX_METADATA_BYTES >> 20 }
    } else if ended_early(&error, &reason) || bytes.len() < min_file_bytes(format) {
        Error::TruncatedPicture { reason }
    } else {
        Error::NotAPicture { reason }
    }
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Whether the bytes ran out. Decoders report that as an I/O error, or only in the message.
fn ended_early(error: &ImageError, reason: &str) -> bool {
    use std::error::Error as _;
    const TRUNCATION_MESSAGES: [&str; 5] =
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
    TRUNCATION_MESSAGES.iter().any(|words| reason.contains(words))
}

/// The size of the smallest complete picture of a format.
fn min_file_bytes(format: ImageFormat) -> usize {
    match format {
        ImageFormat::Png => 57,
        ImageFormat::Jpeg => 100,
        _ => 26,
    }
}
