//! Decoding a picture takes the memory that its header announces: not more, and not much less.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]
#![allow(clippy::cast_possible_truncation, clippy::expect_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use detector::picture::{self, Purpose};
use image::{DynamicImage, ImageFormat, RgbaImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// The system's allocator, which counts the bytes in use.
struct Counting {
    used: AtomicUsize,
    peak: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Counting = Counting { used: AtomicUsize::new(0), peak: AtomicUsize::new(0) };

impl Counting {
    fn add(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    /// The most memory in use while `run` runs, beyond what was in use before.
    fn peak_during(&self, run: impl FnOnce()) -> u64 {
        let before = self.used.load(Ordering::Relaxed);
        self.peak.store(before, Ordering::Relaxed);
        run();
        (self.peak.load(Ordering::Relaxed) - before) as u64
    }
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.add(size.saturating_sub(layout.size()));
        self.used.fetch_sub(layout.size().saturating_sub(size), Ordering::Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Tables, rows and the like, which do not grow with the area.
const SLACK_BYTES: u64 = 1 << 20;

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("an encoder");
    bytes.into_inner()
}

fn jpeg(picture: &DynamicImage, colour: ColorType, sampling: SamplingFactor) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 80);
    encoder.set_progressive(true);
    encoder.set_sampling_factor(sampling);
    let (width, height) = (picture.width() as u16, picture.height() as u16);
    encoder.encode(picture.as_bytes(), width, height, colour).expect("an encoder");
    bytes
}

/// A baseline JPEG that is stored lying on its side.
fn turned(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 80);
    // One directory of one entry: tag 0x0112, a short, 6.
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    encoder.add_app_segment(1, exif.to_vec()).expect("a segment");
    let (width, height) = (picture.width() as u16, picture.height() as u16);
    encoder.encode(picture.as_bytes(), width, height, ColorType::Rgb).expect("an encoder");
    bytes
}

fn pictures() -> Vec<(String, Vec<u8>)> {
    let pixels = RgbaImage::from_fn(2048, 1536, |x, y| {
        image::Rgba([(x / 8) as u8, (y / 8) as u8, ((x * y) >> 14) as u8, 255 - (x / 16) as u8])
    });
    let rgba = DynamicImage::ImageRgba8(pixels);
    let rgb: DynamicImage = rgba.to_rgb8().into();
    let grey: DynamicImage = rgba.to_luma8().into();
    let (whole, halved) = (SamplingFactor::F_1_1, SamplingFactor::F_2_2);
    let mut pictures = vec![
        ("baseline JPEG".to_owned(), encode(&rgb, ImageFormat::Jpeg)),
        ("turned JPEG".to_owned(), turned(&rgb)),
        ("grey baseline JPEG".to_owned(), encode(&grey, ImageFormat::Jpeg)),
        ("progressive JPEG".to_owned(), jpeg(&rgb, ColorType::Rgb, whole)),
        ("progressive JPEG, halved".to_owned(), jpeg(&rgb, ColorType::Rgb, halved)),
        ("grey progressive JPEG".to_owned(), jpeg(&grey, ColorType::Luma, whole)),
        ("CMYK progressive JPEG".to_owned(), jpeg(&rgba, ColorType::Cmyk, whole)),
        ("GIF".to_owned(), encode(&rgb, ImageFormat::Gif)),
        ("BMP".to_owned(), encode(&rgb, ImageFormat::Bmp)),
        ("WebP".to_owned(), encode(&rgb, ImageFormat::WebP)),
        ("WebP with alpha".to_owned(), encode(&rgba, ImageFormat::WebP)),
    ];
    let variants: [(&str, DynamicImage); 8] = [
        ("grey", grey.clone()),
        ("16-bit grey", rgba.to_luma16().into()),
        ("grey with alpha", rgba.to_luma_alpha8().into()),
        ("16-bit grey with alpha", rgba.to_luma_alpha16().into()),
        ("RGB", rgb.clone()),
        ("16-bit RGB", rgb.to_rgb16().into()),
        ("RGBA", rgba.clone()),
        ("16-bit RGBA", rgba.to_rgba16().into()),
    ];
    for (name, picture) in variants {
        pictures.push((format!("PNG, {name}"), encode(&picture, ImageFormat::Png)));
    }
    // Cargo runs a crate's tests in its folder.
    let folder = Path::new("../tests/pictures/formats");
    for name in ["large_lossy.webp", "large_lossy_transparent.webp", "large_animated.webp"] {
        pictures.push((name.to_owned(), std::fs::read(folder.join(name)).expect("a picture")));
    }
    pictures
}

// The only test of this process, so that nothing else allocates meanwhile.
#[test]
fn decoding_takes_the_memory_that_the_header_announces() {
    for (name, bytes) in pictures() {
        let header = picture::header(&bytes).expect("a header");
        let used = |purpose: Purpose| {
            let announced = header.peak_bytes(purpose);
            let used = ALLOCATOR.peak_during(|| {
                let picture = picture::decode(&bytes, purpose).expect("a picture");
                if matches!(purpose, Purpose::Drawing) {
                    picture.into_upright();
                }
            });
            println!("{name}: {used} bytes, {announced} announced");
            let copy = bytes.len() as u64;
            assert!(used <= announced + copy + SLACK_BYTES, "{name}: {used} > {announced}");
            used
        };
        // Only a picture that is turned by a quarter needs an upright copy, but so much is counted for all, for the
        // annotated picture's file.
        used(Purpose::Drawing);
        let whole = Purpose::Resizing(&|size| size);
        let announced = header.peak_bytes(whole);
        let used_by_whole = used(whole);
        assert!(
            used_by_whole + SLACK_BYTES >= announced / 4 * 3,
            "{name}: {used_by_whole} < {announced}"
        );
        // Smaller copies are not measured: natively, jpeg-decoder has threads with queues, which the component has not.
    }
}
