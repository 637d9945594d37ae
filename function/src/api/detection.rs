//! Detects objects in the pictures of one request, for all APIs.

use std::borrow::Cow;

use image::RgbImage;

use crate::error::Error;
use crate::model::Model;
use crate::options::{Annotation, MAX_ANNOTATED_MEGAPIXELS, MAX_REQUEST_MEGAPIXELS, Options};
use crate::{BoundingBox, Report, annotate, picture};

/// A picture as a client sent it.
#[derive(Debug)]
pub(super) enum PictureSource<'r> {
    /// A file in one of the supported formats.
    File(Cow<'r, [u8]>),
    /// Upright 8-bit RGB pixels.
    Pixels(RgbImage),
}

/// What is found in one picture.
#[derive(Debug)]
pub(super) struct Detected<'m> {
    pub(super) report: Report<'m>,
    /// The annotated picture's file, if [`Options::annotate`] asks for one.
    pub(super) annotated: Option<Vec<u8>>,
}

/// Detects objects in one picture.
///
/// # Errors
/// If the picture is refused.
pub(super) fn detect<'m>(
    model: &'m Model,
    source: PictureSource,
    options: &Options,
) -> Result<Detected<'m>, Error> {
    let (report, picture) = match source {
        PictureSource::File(file) => crate::detect(model, &file, options)?,
        PictureSource::Pixels(pixels) => crate::detect_in_pixels(model, pixels, options)?,
    };
    let annotated = match options.annotate {
        Some(Annotation::As(format)) => {
            let mut picture = picture.into_upright();
            annotate::draw(&mut picture, &report.detections)?;
            Some(annotate::encode(&picture, format)?)
        }
        Some(Annotation::Off) | None => None,
    };
    Ok(Detected { report, annotated })
}

/// Detects objects in each picture. If one fails, the others are processed all the same.
pub(super) fn detect_each<'m, 'r>(
    model: &'m Model,
    sources: impl IntoIterator<Item = PictureSource<'r>>,
    options: &Options,
) -> impl Iterator<Item = Result<Detected<'m>, Error>> {
    let limit = match options.annotate {
        Some(Annotation::As(_)) => MAX_ANNOTATED_MEGAPIXELS,
        Some(Annotation::Off) | None => MAX_REQUEST_MEGAPIXELS,
    };
    let mut pixels = 0;
    sources.into_iter().enumerate().map(move |(index, source)| {
        if let PictureSource::File(file) = &source {
            pixels += picture::header(file)?.decoded_pixels();
        }
        // A single picture has limits of its own.
        if index > 0 && pixels > u64::from(limit) * 1_000_000 {
            return Err(Error::TooManyPixels { limit });
        }
        detect(model, source, options)
    })
}

/// Detects objects in all pictures, and annotates none.
///
/// # Errors
/// See [`detect_all`].
pub(super) fn report_all<'m, 'r>(
    model: &'m Model,
    sources: Vec<PictureSource<'r>>,
    options: &Options,
) -> Result<Vec<Report<'m>>, Error> {
    let detected = detect_all(model, sources, options)?;
    Ok(detected.into_iter().map(|detected| detected.report).collect())
}

/// Detects objects in all pictures.
///
/// # Errors
/// The error of the first picture that fails. If there are several pictures, it says which one failed.
pub(super) fn detect_all<'m, 'r>(
    model: &'m Model,
    sources: Vec<PictureSource<'r>>,
    options: &Options,
) -> Result<Vec<Detected<'m>>, Error> {
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

/// A box's corners in whole pixels: `x_min, y_min, x_max, y_max`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a box lies within its picture"
)]
pub(super) fn whole_pixels(bounding_box: &BoundingBox) -> [u32; 4] {
    let BoundingBox { x_min, y_min, x_max, y_max } = *bounding_box;
    [x_min, y_min, x_max, y_max].map(|corner| corner.round() as u32)
}
