//! Converts decoded pixels to 8-bit RGB in their own buffer, so that no second copy of a large picture is needed.

#![allow(clippy::cast_possible_truncation, reason = "a weighted mean of bytes is a byte")]

use image::ColorType;

/// The bytes of a pixel in RGB.
pub(super) const RGB_BYTES_PER_PIXEL: usize = 3;

/// The bytes that each pixel takes in the buffer of [`to_rgb`].
pub(super) fn bytes_per_pixel(colour: ColorType) -> usize {
    usize::from(colour.bytes_per_pixel()).max(RGB_BYTES_PER_PIXEL)
}

/// Converts pixels to 8-bit RGB. Transparent ones are blended with white.
///
/// The buffer has [`bytes_per_pixel`] for each pixel. It begins with the pixels as a decoder wrote them, 16-bit
/// values in native order, and is returned with the RGB pixels alone.
pub(super) fn to_rgb(mut buffer: Vec<u8>, colour: ColorType) -> Vec<u8> {
    let pixels = buffer.len() / bytes_per_pixel(colour);
    match colour {
        ColorType::L8 => spread(&mut buffer, |[grey]: [u8; 1]| [grey; 3]),
        ColorType::La8 => spread(&mut buffer, |[grey, alpha]: [u8; 2]| on_white([grey; 3], alpha)),
        ColorType::L16 => spread(&mut buffer, |[a, b]: [u8; 2]| [to_8_bits([a, b]); 3]),
        ColorType::La16 => gather(&mut buffer, |[a, b, c, d]: [u8; 4]| {
            on_white([to_8_bits([a, b]); 3], to_8_bits([c, d]))
        }),
        ColorType::Rgba8 => {
            gather(&mut buffer, |[r, g, b, alpha]: [u8; 4]| on_white([r, g, b], alpha));
        }
        ColorType::Rgb16 => gather(&mut buffer, |[a, b, c, d, e, f]: [u8; 6]| {
            [[a, b], [c, d], [e, f]].map(to_8_bits)
        }),
        ColorType::Rgba16 => gather(&mut buffer, |[a, b, c, d, e, f, g, h]: [u8; 8]| {
            on_white([[a, b], [c, d], [e, f]].map(to_8_bits), to_8_bits([g, h]))
        }),
        _ => {}
    }
    buffer.truncate(pixels * RGB_BYTES_PER_PIXEL);
    buffer.shrink_to_fit();
    buffer
}

/// Converts pixels of fewer than three bytes, from the last to the first, so that none is overwritten unread.
fn spread<const N: usize>(
    buffer: &mut [u8],
    convert: impl Fn([u8; N]) -> [u8; RGB_BYTES_PER_PIXEL],
) {
    for index in (0..buffer.len() / RGB_BYTES_PER_PIXEL).rev() {
        let mut pixel = [0; N];
        pixel.copy_from_slice(&buffer[index * N..][..N]);
        buffer[index * RGB_BYTES_PER_PIXEL..][..RGB_BYTES_PER_PIXEL]
            .copy_from_slice(&convert(pixel));
    }
}

/// Converts pixels of more than three bytes, from the first to the last.
fn gather<const N: usize>(
    buffer: &mut [u8],
    convert: impl Fn([u8; N]) -> [u8; RGB_BYTES_PER_PIXEL],
) {
    for index in 0..buffer.len() / N {
        let mut pixel = [0; N];
        pixel.copy_from_slice(&buffer[index * N..][..N]);
        buffer[index * RGB_BYTES_PER_PIXEL..][..RGB_BYTES_PER_PIXEL]
            .copy_from_slice(&convert(pixel));
    }
}

fn on_white(pixel: [u8; RGB_BYTES_PER_PIXEL], alpha: u8) -> [u8; RGB_BYTES_PER_PIXEL] {
    pixel.map(|channel| {
        let (channel, alpha) = (u32::from(channel), u32::from(alpha));
        ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    })
}

/// The nearest 8-bit value.
fn to_8_bits(value: [u8; 2]) -> u8 {
    ((u32::from(u16::from_ne_bytes(value)) + 128) / 257) as u8
}

#[cfg(test)]
mod tests {
    use image::{ColorType, DynamicImage, RgbaImage};

    use super::{bytes_per_pixel, to_rgb};

    /// Every colour type gives what `image` converts to RGBA, on white.
    #[test]
    fn every_colour_type_is_converted_as_image_converts_it() {
        let source = RgbaImage::from_fn(7, 5, |x, y| {
            image::Rgba([(x * 36) as u8, (y * 50) as u8, (x * y) as u8, (255 - x * 30) as u8])
        });
        let source = DynamicImage::ImageRgba8(source);
        let types: [DynamicImage; 8] = [
            source.to_luma8().into(),
            source.to_luma_alpha8().into(),
            source.to_rgb8().into(),
            source.to_rgba8().into(),
            source.to_luma16().into(),
            source.to_luma_alpha16().into(),
            source.to_rgb16().into(),
            source.to_rgba16().into(),
        ];
        for picture in types {
            let colour: ColorType = picture.color();
            let mut buffer = picture.as_bytes().to_vec();
            buffer.resize(7 * 5 * bytes_per_pixel(colour), 0);
            let expected: Vec<u8> = picture
                .to_rgba8()
                .pixels()
                .flat_map(|pixel| {
                    let [r, g, b, alpha] = pixel.0;
                    super::on_white([r, g, b], alpha)
                })
                .collect();
            assert_eq!(to_rgb(buffer, colour), expected, "{colour:?}");
        }
    }
}
