//! Draws detections on a picture: a box in the class's colour, and a label with the confidence. Line and text
//! sizes scale with the picture, so that thumbnails and large photographs are both legible.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "coordinates and colours are bounded by the picture and by 0 to 255"
)]

mod palette;
mod placement;
mod png_file;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use image::codecs::jpeg::JpegEncoder;
use image::{ImageEncoder, Rgb, RgbImage};

use placement::Area;

use crate::detections::{BoundingBox, Detection};
use crate::error::Error;
use crate::options::PictureFormat;

/// The font, and sizes in pixels that depend on the picture's.
struct Style<'f> {
    font: FontRef<'f>,
    text_height: f32,
    line: i64,
    padding: i64,
}

impl Style<'_> {
    fn for_picture(picture: &RgbImage) -> Result<Self, Error> {
        let side = picture.width().min(picture.height()) as f32;
        let font = FontRef::try_from_slice(epaint_default_fonts::HACK_REGULAR)
            .map_err(|error| Error::Internal(format!("font: {error}")))?;
        Ok(Self {
            font,
            text_height: (side / 28.0).clamp(12.0, 160.0),
            line: ((side / 240.0).round() as i64).clamp(1, 24),
            padding: ((side / 300.0).round() as i64).clamp(1, 16),
        })
    }

    fn text_width(&self, text: &str) -> f32 {
        let font = self.font.as_scaled(PxScale::from(self.text_height));
        text.chars().map(|character| font.h_advance(font.glyph_id(character))).sum()
    }
}

/// Draws all boxes, the least confident first, and then all labels. The most confident ones get the best places.
///
/// # Errors
/// [`Error::Internal`] if the font cannot be read, which does not depend on the client's input.
pub fn draw(picture: &mut RgbImage, detections: &[Detection]) -> Result<(), Error> {
    let style = Style::for_picture(picture)?;
    for detection in detections.iter().rev() {
        outline(picture, detection, &style);
    }
    let mut placed = Vec::new();
    for detection in detections {
        placed.push(label(picture, detection, &style, &placed));
    }
    Ok(())
}

/// Encodes a picture.
///
/// # Errors
/// [`Error::AnnotatedPictureTooLarge`]; [`Error::Internal`] if the encoder fails, which does not depend on the client's
/// input.
pub fn encode(picture: &RgbImage, format: PictureFormat) -> Result<Vec<u8>, Error> {
    match format {
        PictureFormat::Jpeg => {
            let mut bytes = Vec::new();
            let colour = image::ExtendedColorType::Rgb8;
            JpegEncoder::new_with_quality(&mut bytes, 90)
                .write_image(picture, picture.width(), picture.height(), colour)
                .map_err(|error| Error::Internal(format!("encode: {error}")))?;
            Ok(bytes)
        }
        PictureFormat::Png => png_file::encode(picture),
    }
}

fn outline(picture: &mut RgbImage, detection: &Detection, style: &Style) {
    let Area { left, top, right, bottom } = area(detection);
    let colour = palette::class_colour(detection.class_id);
    let line = style.line;
    fill(picture, Area { left, top, right, bottom: top + line }, colour);
    fill(picture, Area { left, top: bottom - line, right, bottom }, colour);
    fill(picture, Area { left, top, right: left + line, bottom }, colour);
    fill(picture, Area { left: right - line, top, right, bottom }, colour);
}

/// Draws a label where it covers none of the placed ones, and returns its place.
fn label(picture: &mut RgbImage, detection: &Detection, style: &Style, placed: &[Area]) -> Area {
    let text = format!("{} {:.0}%", detection.label, detection.confidence * 100.0);
    let width = style.text_width(&text).ceil() as i64 + 2 * style.padding;
    let height = style.text_height.ceil() as i64 + 2 * style.padding;
    let size = (i64::from(picture.width()), i64::from(picture.height()));
    let area = placement::place((width, height), area(detection), size, placed);
    let colour = palette::class_colour(detection.class_id);
    fill(picture, area, colour);
    let origin = (area.left + style.padding, area.top + style.padding);
    write(picture, &text, origin, palette::text_on(colour), style);
    area
}

/// A detection's box in whole pixels.
fn area(detection: &Detection) -> Area {
    let BoundingBox { x_min, y_min, x_max, y_max } = detection.bounding_box;
    let [left, top, right, bottom] = [x_min, y_min, x_max, y_max].map(|side| side.round() as i64);
    Area { left, top, right, bottom }
}

/// Fills an area, clipped to the picture.
fn fill(picture: &mut RgbImage, area: Area, colour: [u8; 3]) {
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    for y in area.top.max(0)..area.bottom.min(height) {
        for x in area.left.max(0)..area.right.min(width) {
            picture.put_pixel(x as u32, y as u32, Rgb(colour));
        }
    }
}

fn write(picture: &mut RgbImage, text: &str, origin: (i64, i64), colour: [u8; 3], style: &Style) {
    let scale = PxScale::from(style.text_height);
    let font = style.font.as_scaled(scale);
    let mut pen = point(origin.0 as f32, origin.1 as f32 + font.ascent());
    for character in text.chars() {
        let id = font.glyph_id(character);
        if let Some(glyph) = style.font.outline_glyph(id.with_scale_and_position(scale, pen)) {
            let corner = glyph.px_bounds().min;
            glyph.draw(|x, y, coverage| {
                let (x, y) = (corner.x as i64 + i64::from(x), corner.y as i64 + i64::from(y));
                blend(picture, (x, y), colour, coverage);
            });
        }
        pen.x += font.h_advance(id);
    }
}

fn blend(picture: &mut RgbImage, at: (i64, i64), colour: [u8; 3], coverage: f32) {
    let (Ok(x), Ok(y)) = (u32::try_from(at.0), u32::try_from(at.1)) else { return };
    let Some(Rgb(under)) = picture.get_pixel_mut_checked(x, y) else { return };
    let coverage = coverage.clamp(0.0, 1.0);
    for (below, above) in under.iter_mut().zip(colour) {
        *below = (f32::from(*below) * (1.0 - coverage) + f32::from(above) * coverage).round() as u8;
    }
}
