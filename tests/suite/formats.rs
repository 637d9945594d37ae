//! Every format, colour and orientation a picture may come in: the same cat is found in all.

use image::{DynamicImage, ImageFormat, RgbImage};
use jpeg_encoder::ColorType;
use spotter_tests::reference::{self, Detection};
use spotter_tests::server::Server;
use spotter_tests::{client, pictures};

fn detect(name: &str, picture: &[u8]) -> Vec<Detection> {
    let reply = client::post_picture(&Server::shared().url("/detect"), picture);
    assert_eq!(reply.status, 200, "{name}: {}", String::from_utf8_lossy(&reply.body));
    reference::of_reply(&reply.json())
}

/// The upright picture as the service sees it: annotated, where nothing is certain enough to draw.
fn shown(name: &str, picture: &[u8]) -> RgbImage {
    let url = Server::shared().url("/detect?annotate=png&min_confidence=1");
    let reply = client::post_picture(&url, picture);
    assert_eq!(reply.status, 200, "{name}: {}", String::from_utf8_lossy(&reply.body));
    image::load_from_memory(&reply.body).expect("a picture").into_rgb8()
}

/// The cat must be found where it is in the PNG, whatever small harm the format does to colours.
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
    // A grey cat is a little less of a cat, but in the same place.
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

/// Files of another program (`tests/pictures/make-orientations.py`), with a colour in each corner.
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
