//! Detects objects in the pictures of one request, for all APIs.

use std::borrow::Cow;

use image::RgbImage;

use crate::error::Error;
use crate::model::Model;
use crate::options::{Annotation, MAX_REQUEST_MEGAPIXELS, Options, PictureFormat};
use crate::{BoundingBox, Report, annotate, picture};

/// A picture as a client sent it.
#[derive(Debug)]
pub(super) enum PictureSource<'r> {
    /// A file in one of the supported formats.
    File(Cow<'r, [u8]>),
    /// Upright 8-bit RGB pixels.
    Pixels(RgbImage),
}

/// Detects objects in each picture. If one fails, the others are processed all the same.
pub(super) fn detect_each<'m, 'r>(
    model: &'m Model,
    sources: impl IntoIterator<Item = PictureSource<'r>>,
    options: &Options,
) -> impl Iterator<Item = Result<Report<'m>, Error>> {
    let mut megapixels = 0.0;
    sources.into_iter().map(move |source| {
        let result = match source {
            PictureSource::File(file) => {
                megapixels += picture::megapixels(&file);
                if megapixels > f64::from(MAX_REQUEST_MEGAPIXELS) {
                    return Err(Error::TooManyPixels { limit: MAX_REQUEST_MEGAPIXELS });
                }
                crate::detect(model, &file, options)
            }
            PictureSource::Pixels(pixels) => crate::detect_in_pixels(model, pixels, options),
        };
        result.map(|(report, _)| report)
    })
}

/// Detects objects in all pictures.
///
/// # Errors
/// The error of the first picture that fails. If there are several pictures, it says which one failed.
pub(super) fn detect_all<'m, 'r>(
    model: &'m Model,
    sources: Vec<PictureSource<'r>>,
    options: &Options,
) -> Result<Vec<Report<'m>>, Error> {
    let count = sources.len();
    detect_each(model, sources, options)
        .enumerate()
        .map(|(index, result)| match result {
            Err(error) if count > 1 => {
                Err(Error::InPicture { number: index + 1, count, error: Box::new(error) })
            }
            result => result,
        })
        .collect()
}

/// Detects objects in one picture, and draws them. Returns the picture's file with the report.
///
/// # Errors
/// If the picture is refused.
pub(super) fn annotated<'m>(
    model: &'m Model,
    file: &[u8],
    options: &Options,
    format: PictureFormat,
) -> Result<(Report<'m>, Vec<u8>), Error> {
    let options = Options { annotate: Some(Annotation::As(format)), ..options.clone() };
    let (report, picture) = crate::detect(model, file, &options)?;
    let mut picture = picture.into_upright();
    annotate::draw(&mut picture, &report.detections)?;
    let file = annotate::encode(&picture, format)?;
    Ok((report, file))
}

/// A box's corners in whole pixels: `x_min, y_min, x_max, y_max`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a box lies within its picture"
)]
pub(super) fn whole_pixels(frame: &BoundingBox) -> [u32; 4] {
    [frame.x_min, frame.y_min, frame.x_max, frame.y_max].map(|corner| corner.round() as u32)
}
