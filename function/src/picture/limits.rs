//! Limits on the size of a picture, checked from its header before any pixels are decoded.

use image::ImageFormat;

use super::header::{FormatDetails, Header};
use super::{ImageSize, Purpose, pixels, png};
use crate::error::Error;

/// The largest width or height, in pixels.
pub const MAX_SIDE_PIXELS: u32 = 8192;

/// The largest area, in millions of pixels.
pub const MAX_MEGAPIXELS: u64 = 50;

/// The peak memory that decoding may use. A function has 256 MiB by default. The weights, the activations and
/// the body need the rest.
pub const MAX_DECODING_BYTES: u64 = 160 << 20;

/// The limits that a decoder itself enforces. PNG's decoder counts the metadata and one row, GIF's the frame.
pub(super) fn decoder_limits(format: ImageFormat) -> image::Limits {
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(match format {
        ImageFormat::Png => png::MAX_METADATA_BYTES,
        _ => MAX_DECODING_BYTES,
    });
    limits
}

/// Rejects a picture, or a frame of one, with too many pixels or none.
///
/// # Errors
/// [`Error::PictureTooLarge`], or [`Error::NotAPicture`] if there are no pixels.
pub(super) fn check_size(size: ImageSize) -> Result<(), Error> {
    let ImageSize { width, height } = size;
    if width == 0 || height == 0 {
        return Err(Error::NotAPicture { reason: format!("it has {width}x{height} pixels") });
    }
    if width > MAX_SIDE_PIXELS
        || height > MAX_SIDE_PIXELS
        || pixel_count(size) > MAX_MEGAPIXELS * 1_000_000
    {
        return Err(Error::PictureTooLarge {
            width,
            height,
            max_side: MAX_SIDE_PIXELS,
            max_megapixels: MAX_MEGAPIXELS,
        });
    }
    Ok(())
}

impl Header {
    /// Rejects a picture that has too many pixels or none, or whose decoding would need too much memory.
    ///
    /// # Errors
    /// [`Error::NotAPicture`], [`Error::PictureTooLarge`], [`Error::PictureNeedsTooMuchMemory`].
    pub(super) fn check(&self, purpose: Purpose) -> Result<(), Error> {
        check_size(self.size)?;
        if let FormatDetails::Gif { frame } = self.details {
            check_size(frame)?;
        }
        let needed = self.peak_bytes(purpose);
        if needed > MAX_DECODING_BYTES {
            return Err(Error::PictureNeedsTooMuchMemory {
                width: self.size.width,
                height: self.size.height,
                needed: needed >> 20,
                limit: MAX_DECODING_BYTES >> 20,
            });
        }
        Ok(())
    }

    /// How many pixels are decoded: also those of a GIF's frame that lie outside of its canvas.
    pub fn decoded_pixels(&self) -> u64 {
        let pixels = pixel_count(self.size);
        match self.details {
            FormatDetails::Gif { frame } => pixels.max(pixel_count(frame)),
            _ => pixels,
        }
    }

    /// Peak memory in bytes: of all pixels with the decoder's buffers, or of the RGB picture with its upright copy.
    pub fn peak_bytes(&self, purpose: Purpose) -> u64 {
        let pixels = pixel_count(self.size);
        let decoded = pixels * pixels::bytes_per_pixel(self.colour) as u64;
        let buffers = match &self.details {
            FormatDetails::Jpeg(frame) => frame.coefficient_bytes(),
            // The canvas and the frame, in RGBA, or a frame with its planes.
            FormatDetails::WebP(frames) if frames.is_animated => 9 * pixels,
            // The planes, and the alpha values, which are decoded as RGBA.
            FormatDetails::WebP(frames) if frames.has_alpha_plane => 7 * pixels,
            // RGBA, unless it is decoded in place, and the transforms.
            FormatDetails::WebP(frames) if frames.has_lossless && !self.colour.has_alpha() => {
                5 * pixels
            }
            FormatDetails::WebP(frames) if frames.has_lossless => pixels,
            // The planes of luma and of halved chroma.
            FormatDetails::WebP(_) => 2 * pixels,
            // The frame's indices; a frame that is smaller than the canvas is decoded into a buffer of its own.
            FormatDetails::Gif { frame } if *frame == self.size => pixels,
            FormatDetails::Gif { frame } => 5 * pixel_count(*frame),
            FormatDetails::Png | FormatDetails::Bmp => 0,
        };
        let upright = match purpose {
            Purpose::Resizing(_) => 0,
            Purpose::Drawing => 2 * pixels * pixels::RGB_BYTES_PER_PIXEL as u64,
        };
        (decoded + buffers).max(upright)
    }
}

fn pixel_count(size: ImageSize) -> u64 {
    u64::from(size.width) * u64::from(size.height)
}

#[cfg(test)]
mod tests {
    use image::metadata::Orientation;
    use image::{ColorType, ImageFormat};

    use super::super::{jpeg, webp};
    use super::{FormatDetails, Header, ImageSize, MAX_DECODING_BYTES, Purpose};

    /// A side that is a multiple of every block size.
    const SIDE: u32 = 1024;

    fn jpeg(is_progressive: bool, sampling: &[(u8, u8)]) -> FormatDetails {
        FormatDetails::Jpeg(jpeg::Frame {
            width: SIDE,
            height: SIDE,
            sampling: sampling.to_vec(),
            is_progressive,
            is_in_several_scans: false,
            max_scans: 1,
            adobe_transform: None,
            orientation: Orientation::NoTransforms,
        })
    }

    fn webp(is_animated: bool, has_lossless: bool, has_alpha_plane: bool) -> FormatDetails {
        FormatDetails::WebP(webp::Frames { is_animated, has_lossless, has_alpha_plane })
    }

    /// A row of the table in docs/api.md.
    fn row(name: &str, details: FormatDetails, colour: ColorType) -> String {
        let size = ImageSize { width: SIDE, height: SIDE };
        let orientation = Orientation::NoTransforms;
        let header = Header { format: ImageFormat::Png, size, orientation, colour, details };
        let megapixels = |bytes_per_pixel: u64| {
            let tenths = (MAX_DECODING_BYTES / bytes_per_pixel / 100_000).min(500);
            format!("{}.{}", tenths / 10, tenths % 10).trim_end_matches(".0").to_owned()
        };
        let [plain, annotated] = [Purpose::Resizing(&|size| size), Purpose::Drawing]
            .map(|purpose| header.peak_bytes(purpose).div_ceil(1 << 20));
        format!("| {name} | {plain} | {} | {} |", megapixels(plain), megapixels(annotated))
    }

    #[test]
    fn the_documented_limits_are_those_of_the_code() {
        const HALVED: &[(u8, u8)] = &[(2, 2), (1, 1), (1, 1)];
        let documented = include_str!("../../../docs/api.md");
        let gif = FormatDetails::Gif { frame: ImageSize { width: SIDE, height: SIDE } };
        use ColorType::{L8, Rgb8, Rgb16, Rgba8, Rgba16};
        let rows = [
            row("JPEG, baseline", jpeg(false, HALVED), Rgb8),
            row("JPEG, progressive, grey", jpeg(true, &[(1, 1)]), L8),
            row("JPEG, progressive, 4:2:0 chroma subsampling", jpeg(true, HALVED), Rgb8),
            row("JPEG, progressive, 4:4:4 (no chroma subsampling)", jpeg(true, &[(1, 1); 3]), Rgb8),
            row("JPEG, progressive, CMYK", jpeg(true, &[(1, 1); 4]), Rgb8),
            row("PNG, 8-bit RGB, palette, or grey", FormatDetails::Png, Rgb8),
            row(
                "PNG, 8-bit RGBA, palette with transparency, or 16-bit grey with alpha",
                FormatDetails::Png,
                Rgba8,
            ),
            row("PNG, 16-bit RGB", FormatDetails::Png, Rgb16),
            row("PNG, 16-bit RGBA", FormatDetails::Png, Rgba16),
            row("WebP, lossy", webp(false, false, false), Rgb8),
            row("WebP, lossy, with alpha", webp(false, false, true), Rgba8),
            row("WebP, lossless", webp(false, true, false), Rgb8),
            row("WebP, lossless, with alpha", webp(false, true, false), Rgba8),
            row("WebP, animated", webp(true, false, false), Rgb8),
            row("WebP, animated, with alpha", webp(true, false, true), Rgba8),
            row("GIF", gif, Rgba8),
            row("BMP", FormatDetails::Bmp, Rgb8),
            row("BMP with alpha", FormatDetails::Bmp, Rgba8),
        ];
        for row in rows {
            assert!(documented.contains(&row), "docs/api.md lacks the row {row}");
        }
    }
}
