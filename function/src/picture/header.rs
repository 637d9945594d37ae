//! The header of a picture: all that the limits and the decoder need to know, parsed once, before any pixel.

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageFormat};

use super::{ImageSize, jpeg, orientation, webp};
use crate::error::Error;

/// What a picture's header says.
#[derive(Clone, Debug)]
pub struct Header {
    pub format: ImageFormat,
    /// Size of the pixels in the file. Of an animation, the size of its canvas.
    pub size: ImageSize,
    /// What makes the pixels upright (EXIF, tag 0x0112).
    pub orientation: Orientation,
    /// The pixels that the decoder writes.
    pub colour: ColorType,
    /// What is specific to a format.
    pub details: FormatDetails,
}

/// What only one format's header says.
#[derive(Clone, Debug)]
pub enum FormatDetails {
    Jpeg(jpeg::Frame),
    WebP(webp::Frames),
    /// The size of the first frame, which may be smaller or larger than the canvas.
    Gif {
        frame: ImageSize,
    },
    Png,
    Bmp,
}

impl FormatDetails {
    /// Reads what the format's own decoder does not tell, or tells only after it has allocated memory.
    ///
    /// # Errors
    /// [`Error::TruncatedPicture`] if the file ends before its last pixel, [`Error::NotAPicture`] if its parts
    /// contradict each other, [`Error::MetadataTooLarge`].
    pub(super) fn read(bytes: &[u8], format: ImageFormat) -> Result<Self, Error> {
        match format {
            ImageFormat::Jpeg => jpeg::Frame::read(bytes).map(Self::Jpeg),
            ImageFormat::WebP => webp::Frames::read(bytes).map(Self::WebP),
            ImageFormat::Gif => gif_frame(bytes).map(|frame| Self::Gif { frame }),
            ImageFormat::Png => super::png::check_profile(bytes).map(|()| Self::Png),
            ImageFormat::Bmp => Ok(Self::Bmp),
            other => Err(Error::Internal(format!("no limits are known for {other:?}"))),
        }
    }
}

impl Header {
    /// Completes the header with what the opened decoder has read.
    ///
    /// # Errors
    /// If the EXIF data cannot be read.
    pub(super) fn new(
        format: ImageFormat,
        details: FormatDetails,
        decoder: &mut impl ImageDecoder,
    ) -> image::ImageResult<Self> {
        let (width, height) = decoder.dimensions();
        let orientation = match &details {
            // Its decoder would parse the whole header again.
            FormatDetails::Jpeg(frame) => frame.orientation,
            _ => orientation::from_exif(&decoder.exif_metadata()?.unwrap_or_default()),
        };
        let size = ImageSize { width, height };
        Ok(Self { format, size, orientation, colour: decoder.color_type(), details })
    }
}

/// The size of a GIF's first frame, from its image descriptor (GIF89a, section 20).
fn gif_frame(bytes: &[u8]) -> Result<ImageSize, Error> {
    let mut options = gif::DecodeOptions::new();
    options.skip_frame_decoding(true);
    let frame = options.read_info(bytes).and_then(|mut decoder| {
        let frame = decoder.next_frame_info()?.map(|frame| (frame.width, frame.height));
        Ok(frame.unwrap_or_default())
    });
    let (width, height) = frame.map_err(|error| match error {
        gif::DecodingError::Io(_) => Error::TruncatedPicture { reason: error.to_string() },
        _ => Error::NotAPicture { reason: error.to_string() },
    })?;
    Ok(ImageSize { width: width.into(), height: height.into() })
}
