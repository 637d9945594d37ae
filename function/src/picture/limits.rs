//! Limits on the size of a picture, checked from its header before any pixels are decoded.

use image::{ColorType, ImageDecoder, ImageFormat};

use super::jpeg;
use crate::error::Error;

/// The largest width or height, in pixels.
pub const MAX_SIDE_PIXELS: u32 = 8192;

/// The largest area, in millions of pixels.
pub const MAX_MEGAPIXELS: u64 = 50;

/// The peak memory that decoding may use. A function has 256 MiB by default. The weights, the activations and
/// the body need the rest.
const MAX_DECODING_BYTES: u64 = 160 << 20;

/// Rejects a picture with too many pixels.
///
/// # Errors
/// [`Error::PictureTooLarge`].
pub(super) fn check_size(width: u32, height: u32) -> Result<(), Error> {
    let pixels = u64::from(width) * u64::from(height);
    if width > MAX_SIDE_PIXELS || height > MAX_SIDE_PIXELS || pixels > MAX_MEGAPIXELS * 1_000_000 {
        return Err(Error::PictureTooLarge {
            width,
            height,
            max_side: MAX_SIDE_PIXELS,
            max_megapixels: MAX_MEGAPIXELS,
        });
    }
    Ok(())
}

/// Rejects a picture whose decoding would need too much memory.
///
/// # Errors
/// [`Error::PictureNeedsTooMuchMemory`].
pub(super) fn check_memory(
    decoder: &impl ImageDecoder,
    format: ImageFormat,
    bytes: &[u8],
    keeps_upright_copy: bool,
) -> Result<(), Error> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let needed =
        peak_bytes_per_pixel(decoder.color_type(), format, bytes, keeps_upright_copy) * pixels;
    if needed > MAX_DECODING_BYTES {
        return Err(Error::PictureNeedsTooMuchMemory {
            width,
            height,
            needed: needed >> 20,
            limit: MAX_DECODING_BYTES >> 20,
        });
    }
    Ok(())
}

/// Peak memory in bytes per pixel: of the decoder's output with its buffers, of its output with the RGB copy, or
/// of the RGB picture with its upright copy.
fn peak_bytes_per_pixel(
    colour: ColorType,
    format: ImageFormat,
    bytes: &[u8],
    keeps_upright_copy: bool,
) -> u64 {
    const RGB: u64 = 3;
    let decoded = u64::from(colour.bytes_per_pixel());
    let buffers = match format {
        // All coefficients, 16 bits each, until the last scan.
        ImageFormat::Jpeg if jpeg::Outline::read(bytes).keeps_coefficients => 2 * RGB,
        // An animation's canvas and frame.
        ImageFormat::WebP if is_animated_webp(bytes) => 12,
        // A GIF keeps the frame's indices, a WebP its planes.
        ImageFormat::Gif | ImageFormat::WebP => 4,
        _ => 0,
    };
    let conversion = match colour {
        ColorType::Rgb8 => 0,
        ColorType::Rgba8 => RGB,
        // Converted to 8-bit RGBA, then blended with white.
        colour if colour.has_alpha() => 2 * RGB,
        _ => RGB,
    };
    let upright = if keeps_upright_copy { 2 * RGB } else { 0 };
    (decoded + buffers).max(decoded + conversion).max(upright)
}

/// Whether an extended WebP (its first chunk is `VP8X`) is flagged as an animation.
fn is_animated_webp(bytes: &[u8]) -> bool {
    const ANIMATION: u8 = 0x02;
    bytes.get(12..16) == Some(b"VP8X") && bytes.get(20).is_some_and(|flags| flags & ANIMATION != 0)
}
