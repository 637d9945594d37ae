//! Writes a PNG into memory that is reserved at once: a buffer that grows is copied, and takes up to three times its size
//! meanwhile.

use std::io::{self, Write};

use image::RgbImage;

use crate::error::Error;

/// The most that a file may take. Its pixels, and the memory that turning them upright has left free, take the rest of
/// the instance's.
const MAX_FILE_BYTES: usize = 72 << 20;

/// The most that the encoder keeps before it writes a chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// Encodes a picture.
///
/// # Errors
/// [`Error::AnnotatedPictureTooLarge`]; [`Error::Internal`] if the encoder fails, which does not depend on the client's
/// input.
pub(super) fn encode(picture: &RgbImage) -> Result<Vec<u8>, Error> {
    let mut file = File(Vec::with_capacity(capacity(picture)));
    match write(picture, &mut file) {
        Ok(()) => Ok(file.0),
        Err(png::EncodingError::IoError(_)) => {
            Err(Error::AnnotatedPictureTooLarge { limit: MAX_FILE_BYTES >> 20 })
        }
        Err(error) => Err(Error::Internal(format!("encode: {error}"))),
    }
}

/// What the file may take: more than the pixels, because the encoder's code for noise does.
fn capacity(picture: &RgbImage) -> usize {
    let pixels = picture.as_raw().len();
    (pixels + pixels / 2 + CHUNK_BYTES).min(MAX_FILE_BYTES)
}

fn write(picture: &RgbImage, file: &mut File) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(file, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::Adaptive);
    let mut writer = encoder.write_header()?;
    let mut pixels = writer.stream_writer_with_size(CHUNK_BYTES)?;
    pixels.write_all(picture.as_raw())?;
    pixels.finish()
}

/// A file that does not grow beyond its reserved memory.
struct File(Vec<u8>);

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.0.capacity() - self.0.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use image::RgbImage;

    use super::{capacity, encode};

    /// A picture whose bytes are as good as random.
    fn noise(width: u32, height: u32) -> RgbImage {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let bytes = (0..width * height * 3).map(|index| hasher.hash_one(index) as u8);
        RgbImage::from_raw(width, height, bytes.collect()).unwrap()
    }

    #[test]
    fn a_file_has_all_pixels_and_fits_into_the_memory_reserved_for_it() {
        for picture in [RgbImage::new(1, 1), RgbImage::new(300, 200), noise(301, 199)] {
            let file = encode(&picture).unwrap();
            assert!(file.len() <= capacity(&picture), "{}", file.len());
            assert_eq!(file.capacity(), capacity(&picture));
            let read = image::load_from_memory(&file).unwrap().into_rgb8();
            assert!(read == picture, "{}x{}", picture.width(), picture.height());
        }
    }
}
