//! Decodes a JPEG at a half, a quarter or an eighth of its width and height, from the low frequencies of its blocks.
//!
//! The other frequencies are read, but not transformed, and most pixels are never made. zune-jpeg, which decodes all
//! other JPEGs, cannot do this (zune-image, issue 434).

use image::RgbImage;
use jpeg_decoder::PixelFormat;

use super::header::{FormatDetails, Header};
use super::{ImageSize, Picture, orientation, pixels};

/// The largest number of scans that a reduced copy is made of. Encoders write up to ten or so; but each one, however
/// few its bytes, can cost a pass over all blocks.
const MAX_SCANS: usize = 32;

/// A copy of the picture that is at least as large as `target` demands for the upright picture. `None` if the copy
/// would not be smaller, if the file is not a JPEG in grey or YCbCr, or if it cannot be decoded. zune-jpeg then decodes
/// it, or reports the error.
pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    target: &dyn Fn(ImageSize) -> ImageSize,
) -> Option<Picture> {
    let FormatDetails::Jpeg(frame) = &header.details else { return None };
    let is_plain = matches!(frame.sampling.len(), 1 | 3) && frame.max_scans <= MAX_SCANS;
    // jpeg-decoder ignores the segment that says RGB in some files.
    if !is_plain || frame.adobe_transform == Some(0) {
        return None;
    }
    let turned = |size| orientation::turned(header.orientation, size);
    let divisor = divisor(header.size, turned(target(turned(header.size))))?;
    let pixels = decode_reduced(bytes, reduced(header.size, divisor))?;
    Some(Picture { size: header.size, pixels, divisor, orientation: header.orientation })
}

/// The largest divisor that leaves at least `target` pixels on each side.
fn divisor(size: ImageSize, target: ImageSize) -> Option<u32> {
    [8, 4, 2].into_iter().find(|divisor| {
        size.width / divisor >= target.width && size.height / divisor >= target.height
    })
}

fn reduced(size: ImageSize, divisor: u32) -> ImageSize {
    ImageSize { width: size.width.div_ceil(divisor), height: size.height.div_ceil(divisor) }
}

fn decode_reduced(bytes: &[u8], size: ImageSize) -> Option<RgbImage> {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let [width, height] = [size.width, size.height].map(|side| u16::try_from(side).ok());
    let expected = (width?, height?);
    if decoder.scale(expected.0, expected.1).ok()? != expected {
        return None;
    }
    let mut pixels = decoder.decode().ok()?;
    match decoder.info()?.pixel_format {
        PixelFormat::RGB24 => {}
        PixelFormat::L8 => {
            pixels.resize(pixels.len() * pixels::RGB_BYTES_PER_PIXEL, 0);
            pixels = pixels::to_rgb(pixels, image::ColorType::L8);
        }
        PixelFormat::L16 | PixelFormat::CMYK32 => return None,
    }
    RgbImage::from_raw(size.width, size.height, pixels)
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

    use super::super::{Purpose, decode};
    use super::{ImageSize, MAX_SCANS, divisor};

    const fn size(width: u32, height: u32) -> ImageSize {
        ImageSize { width, height }
    }

    /// A smooth picture, not symmetrical, as a JPEG.
    fn jpeg(width: u16, height: u16, prepare: fn(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
        let byte =
            |value: u32, side: u16| u8::try_from(value * 255 / u32::from(side)).expect("a byte");
        let pixels = RgbImage::from_fn(width.into(), height.into(), |x, y| {
            image::Rgb([byte(x, width), byte(y, height), 255 - byte(x, width)])
        });
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, 95);
        prepare(&mut encoder);
        encoder.encode(&pixels, width, height, ColorType::Rgb).expect("a JPEG");
        file
    }

    /// Asserts that a copy of at least this size shows the same as the whole picture.
    fn assert_shows_the_same(file: &[u8], target: ImageSize) {
        let whole = decode(file, Purpose::Drawing).expect("a picture");
        let copy = decode(file, Purpose::Resizing(&|_| target)).expect("a picture");
        assert_eq!(copy.upright_size(), whole.upright_size());
        let divisor = whole.pixels().width().div_ceil(copy.pixels().width());
        assert!(divisor > 1, "the copy is not smaller");
        let exact = |side: u32| f64::from(side) / f64::from(divisor);
        let (width, height) = whole.pixels().dimensions();
        assert_eq!(copy.extent(), (exact(width), exact(height)));
        let (mut errors, mut values) = ([0; 3], 0);
        for (x, y, pixel) in copy.pixels().enumerate_pixels() {
            let (left, top) = (x * divisor, y * divisor);
            if left + divisor > width || top + divisor > height {
                continue;
            }
            values += 1;
            for channel in 0..3 {
                let block = (0..divisor * divisor).map(|at| {
                    let at = (left + at % divisor, top + at / divisor);
                    u32::from(whole.pixels().get_pixel(at.0, at.1)[channel])
                });
                let mean = block.sum::<u32>() / (divisor * divisor);
                let error = i64::from(pixel[channel]) - i64::from(mean);
                assert!(error.abs() <= 5, "{error} at {x},{y} of 1/{divisor}");
                errors[channel] += error;
            }
        }
        // If the copy were shifted, all errors would have the same sign.
        assert!(errors.iter().all(|error| error.abs() < values), "{errors:?} of {values}");
    }

    #[test]
    fn the_divisor_leaves_at_least_the_target() {
        let target = size(300, 200);
        assert_eq!(divisor(size(4000, 3000), target), Some(8));
        assert_eq!(divisor(size(2399, 3000), target), Some(4));
        assert_eq!(divisor(size(600, 400), target), Some(2));
        assert_eq!(divisor(size(600, 399), target), None);
    }

    #[test]
    fn a_reduced_copy_shows_the_same_picture() {
        let kinds: [fn(&mut Encoder<&mut Vec<u8>>); 4] = [
            |encoder| encoder.set_sampling_factor(SamplingFactor::F_1_1),
            |encoder| encoder.set_sampling_factor(SamplingFactor::F_2_2),
            |encoder| encoder.set_sampling_factor(SamplingFactor::F_2_1),
            |encoder| encoder.set_progressive(true),
        ];
        for kind in kinds {
            // Not a multiple of the block size.
            let file = jpeg(405, 331, kind);
            for target in [size(200, 165), size(101, 82), size(50, 41)] {
                assert_shows_the_same(&file, target);
            }
        }
    }

    #[test]
    fn the_target_is_that_of_the_upright_picture() {
        // EXIF with orientation 6: to be turned by a quarter.
        let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut file = jpeg(400, 320, |_| ());
        let length = u16::try_from(exif.len() + 2).expect("a short segment").to_be_bytes();
        file.splice(2..2, [&[0xff, 0xe1], length.as_slice(), exif].concat());
        let picture = decode(
            &file,
            Purpose::Resizing(&|picture| {
                assert_eq!(picture, size(320, 400));
                size(80, 100)
            }),
        );
        let picture = picture.expect("a picture");
        assert_eq!(
            (picture.pixels().dimensions(), picture.upright_size()),
            ((100, 80), size(320, 400))
        );
        let upright = picture.upright(picture.pixels().clone());
        // Red grew to the right, and now grows downwards.
        assert!(upright.get_pixel(40, 95)[0] > 230 && upright.get_pixel(40, 5)[0] < 25);
    }

    #[test]
    fn other_jpegs_are_decoded_whole() {
        let is_whole = |file: &[u8], target| {
            let picture = decode(file, Purpose::Resizing(&|_| target)).expect("a picture");
            picture.pixels().dimensions() == (64, 48)
        };
        let target = size(8, 6);
        let file = jpeg(64, 48, |_| ());
        assert!(!is_whole(&file, target));
        assert!(is_whole(&file, size(33, 24)), "not twice as large");
        // After the picture, where they do no harm.
        let scans = [0xff, 0xda].repeat(MAX_SCANS);
        assert!(is_whole(&[file.as_slice(), &scans].concat(), target), "many scans");
        let mut rgb = file;
        rgb.splice(2..2, *b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0");
        assert!(is_whole(&rgb, target), "Adobe's RGB");
    }
}
