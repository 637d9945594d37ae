//! The same cat is found in every format, colour type and orientation of a picture.

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use jpeg_encoder::ColorType;
use spotter_tests::reference::{self, Detection};
use spotter_tests::server::Server;
use spotter_tests::{client, pictures};

/// The detections, with boxes in fractions of the picture, so that they can be compared across sizes.
fn detect(name: &str, picture: &[u8]) -> Vec<Detection> {
    let reply = client::post_picture(&Server::shared().url("/detect"), picture);
    assert_eq!(reply.status, 200, "{name}: {}", String::from_utf8_lossy(&reply.body));
    let reply = reply.json();
    let side = |name: &str| reply["image"][name].as_f64().expect("a length");
    let (width, height) = (side("width"), side("height"));
    let mut found = reference::of_reply(&reply);
    for detection in &mut found {
        let [x_min, y_min, x_max, y_max] = detection.corners;
        detection.corners = [x_min / width, y_min / height, x_max / width, y_max / height];
    }
    found
}

/// The upright picture as the service sees it: an annotated picture on which no detection is confident enough to be
/// drawn.
fn shown(name: &str, picture: &[u8]) -> RgbImage {
    let url = Server::shared().url("/detect?annotate=png&min_confidence=1");
    let reply = client::post_picture(&url, picture);
    assert_eq!(reply.status, 200, "{name}: {}", String::from_utf8_lossy(&reply.body));
    image::load_from_memory(&reply.body).expect("a picture").into_rgb8()
}

/// The cat must be found where it is in the PNG, even if the format changes the colours a little.
fn assert_same_cat(name: &str, picture: &[u8]) {
    let expected = detect("png", &pictures::bytes("skimage_chelsea.png"));
    let found = detect(name, picture);
    let [cat] = found.as_slice() else { panic!("{name}: {found:?}") };
    assert_eq!(cat.label, "cat", "{name}");
    let overlap = reference::overlap(&cat.corners, &expected[0].corners);
    assert!(overlap > 0.9, "{name}: {cat:?}, expected {expected:?}");
    assert!(cat.confidence > 0.8, "{name}: {cat:?}");
}

#[test]
fn every_format_is_read() {
    let cat = DynamicImage::ImageRgb8(pictures::cat());
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp] {
        assert_same_cat(&format!("{format:?}"), &pictures::encode(&cat, format));
    }
    assert_same_cat("baseline JPEG", &pictures::jpeg(&pictures::cat()));
    assert_same_cat("progressive JPEG", &pictures::progressive_jpeg(&pictures::cat()));
}

#[test]
fn every_colour_type_is_read() {
    let cat = DynamicImage::ImageRgb8(pictures::cat());
    let png = |picture: DynamicImage| pictures::encode(&picture, ImageFormat::Png);
    assert_same_cat("16-bit RGB", &png(cat.to_rgb16().into()));
    assert_same_cat("RGBA", &png(cat.to_rgba8().into()));
    assert_same_cat("16-bit RGBA", &png(cat.to_rgba16().into()));
    // In grey, the confidence is a little lower, but the box is the same.
    let grey = detect("grey", &png(cat.to_luma8().into()));
    assert_eq!(grey[0].label, "cat");
    assert_eq!(grey.len(), detect("16-bit grey", &png(cat.to_luma16().into())).len());
    assert_same_cat("CMYK JPEG", &pictures::cmyk_jpeg(&pictures::cat(), ColorType::Cmyk));
    assert_same_cat("YCCK JPEG", &pictures::cmyk_jpeg(&pictures::cat(), ColorType::CmykAsYcck));
}

#[test]
fn what_is_transparent_lies_on_white() {
    let mut cat = DynamicImage::ImageRgb8(pictures::cat()).into_rgba8();
    cat.pixels_mut().for_each(|pixel| pixel.0[3] = 0);
    let found = detect("transparent", &pictures::encode(&cat.into(), ImageFormat::Png));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn every_exif_orientation_is_turned_upright() {
    for orientation in 1..=8 {
        let picture = pictures::oriented_jpeg(&pictures::cat(), orientation);
        assert_same_cat(&format!("orientation {orientation}"), &picture);
    }
}

/// Files that another program wrote (`tests/pictures/make-orientations.py`), with a colour in each corner.
#[test]
fn another_programs_exif_orientations_are_turned_upright() {
    let corners = [
        ((4, 4), [255, 0, 0]),
        ((43, 4), [0, 255, 0]),
        ((4, 27), [0, 0, 255]),
        ((43, 27), [255, 255, 255]),
    ];
    for orientation in 1..=8 {
        for extension in ["jpg", "png", "webp"] {
            let name = format!("orientation/{orientation}.{extension}");
            let upright = shown(&name, &pictures::bytes(&name));
            assert_eq!(upright.dimensions(), (48, 32), "{name}");
            for ((x, y), colour) in corners {
                let found = upright.get_pixel(x, y).0;
                let is_near = found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 4);
                assert!(is_near, "{name}: {found:?} at {x}, {y}");
            }
        }
    }
}

/// A file that another program wrote (`tests/pictures/make-formats.py`).
fn file(name: &str) -> Vec<u8> {
    pictures::bytes(&format!("formats/{name}"))
}

/// The picture of the cat in those files.
fn small_cat() -> RgbImage {
    image::load_from_memory(&file("rgb.png")).expect("a picture").into_rgb8()
}

/// The cat in this many bits of grey.
fn in_grey(bits: u32) -> RgbImage {
    let mut cat = small_cat();
    for pixel in cat.pixels_mut() {
        let [red, green, blue] = pixel.0.map(u32::from);
        let grey = (299 * red + 587 * green + 114 * blue) / 1000;
        let most = (1_u32 << bits) - 1;
        pixel.0 = [((grey >> (8 - bits)) * 255 / most) as u8; 3];
    }
    cat
}

/// The cat with some columns at the right replaced: half-transparent red on white, and white.
fn with_edge() -> RgbImage {
    let mut cat = small_cat();
    for (x, _, pixel) in cat.enumerate_pixels_mut() {
        match x {
            0..250 => {}
            250..260 => pixel.0 = [255, 127, 127],
            260.. => pixel.0 = [255; 3],
        }
    }
    cat
}

/// The mean difference of two pictures in grey levels, over all values.
fn distance(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let apart = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)));
    apart.sum::<f64>() / a.as_raw().len() as f64
}

#[test]
fn the_same_cat_is_found_in_another_programs_files() {
    for name in [
        "rgb.png",
        "rgb_interlaced.png",
        "rgb_transparent_colour.png",
        "rgb_turned.png",
        "palette.png",
        "palette_16.png",
        "palette_transparent.png",
        "grey_4.png",
        "lossy.webp",
        "lossy_transparent.webp",
        "lossy_turned.webp",
        "lossy_turned_as_jpeg.webp",
        "animated.webp",
        "grey.jpg",
        "cmyk_without_adobe.jpg",
    ] {
        assert_same_cat(name, &file(name));
    }
}

/// The pixels of those files are known exactly. In one or two bits of grey, the cat cannot be recognised.
#[test]
fn pngs_of_every_kind_are_seen_as_they_are() {
    let cat = small_cat();
    let mut holed = cat.clone();
    let key = *cat.get_pixel(0, 0);
    holed.pixels_mut().filter(|pixel| **pixel == key).for_each(|pixel| *pixel = Rgb([255; 3]));
    for (name, expected) in [
        ("rgb_interlaced.png", &cat),
        ("rgb_turned.png", &cat),
        ("palette.png", &cat),
        ("rgb_transparent_colour.png", &holed),
        ("palette_transparent.png", &with_edge()),
        ("grey_1.png", &in_grey(1)),
        ("grey_1_interlaced.png", &in_grey(1)),
        ("grey_2.png", &in_grey(2)),
        ("grey_4.png", &in_grey(4)),
    ] {
        let seen = shown(name, &file(name));
        let apart = distance(&seen, expected);
        assert!(seen == *expected, "{name}: {apart} grey levels apart");
    }
}

/// Inverted or exchanged colours, or a frame that is not the first, would differ much more: the cat is 71 levels
/// from its negative, and 40 from itself with red and blue exchanged.
///
/// For a CMYK JPEG, libjpeg returns the inks as they are stored, and leaves it to its caller whether 0 means full ink
/// or no ink. Pillow takes it as full ink, as Adobe's programs write it, with or without Adobe's marker. So does the
/// service.
#[test]
fn files_that_lose_detail_keep_their_colours() {
    let cat = small_cat();
    for (name, expected) in [
        ("palette_16.png", &cat),
        ("lossy.webp", &cat),
        ("lossy_turned.webp", &cat),
        ("lossy_turned_as_jpeg.webp", &cat),
        ("animated.webp", &cat),
        ("cmyk_without_adobe.jpg", &cat),
        ("grey.jpg", &in_grey(8)),
    ] {
        let apart = distance(&shown(name, &file(name)), expected);
        assert!(apart < 8.0, "{name}: {apart} grey levels apart");
    }
}

#[test]
fn a_lossy_webp_shows_white_where_it_is_transparent() {
    let seen = shown("lossy_transparent.webp", &file("lossy_transparent.webp"));
    for y in 0..seen.height() {
        assert_eq!(seen.get_pixel(seen.width() - 1, y).0, [255; 3], "row {y}");
    }
}
