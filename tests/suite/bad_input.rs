//! Every kind of bad input is answered with the right status and a stable code.

use image::{DynamicImage, ImageFormat, RgbImage};
use serde_json::json;
use spotter_tests::client::{self, Reply};
use spotter_tests::pictures;
use spotter_tests::server::Server;

fn url(path: &str) -> String {
    Server::shared().url(path)
}

fn assert_refused(name: &str, reply: &Reply, status: u16, code: &str) -> String {
    let message = reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!((reply.status, reply.error_code().as_str()), (status, code), "{name}: {message}");
    assert!(message.len() > 10, "{name}: {message}");
    message
}

fn post(content_type: &str, body: &[u8]) -> Reply {
    client::send("POST", &url("/detect"), &[("content-type", content_type)], body)
}

#[test]
fn pictures_that_are_none_are_refused() {
    let cat = DynamicImage::ImageRgb8(pictures::cat());
    let jpeg = pictures::jpeg(&pictures::cat());
    let png = pictures::encode(&cat, ImageFormat::Png);
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let damaged = {
        let mut bytes = png.clone();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0xaa);
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("nothing", vec![], 400, "empty_body"),
        ("text", b"this is no picture, though it is long enough".to_vec(), 422, "not_a_picture"),
        ("one byte", vec![0xff], 422, "not_a_picture"),
        ("a PDF", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj".to_vec(), 422, "not_a_picture"),
        ("a TIFF", b"II\x2a\0\x08\0\0\0\0\0\0\0\0\0\0\0".to_vec(), 422, "not_a_picture"),
        ("a JPEG's first bytes", jpeg[..20].to_vec(), 422, "truncated_picture"),
        ("half a JPEG", half(&jpeg), 422, "truncated_picture"),
        (
            "half a progressive JPEG",
            half(&pictures::progressive_jpeg(&pictures::cat())),
            422,
            "truncated_picture",
        ),
        ("half a PNG", half(&png), 422, "truncated_picture"),
        ("half a GIF", half(&pictures::encode(&cat, ImageFormat::Gif)), 422, "truncated_picture"),
        ("half a BMP", half(&pictures::encode(&cat, ImageFormat::Bmp)), 422, "truncated_picture"),
        ("half a WebP", half(&pictures::encode(&cat, ImageFormat::WebP)), 422, "truncated_picture"),
        ("a damaged PNG", damaged, 422, "not_a_picture"),
        ("a GIF without pixels", gif_of((0, 0), (1, 1)), 422, "not_a_picture"),
    ];
    for (name, body, status, code) in cases {
        assert_refused(name, &post("image/jpeg", &body), status, code);
    }
}

/// A PNG header of this size, with a checksum, and no pixels.
fn png_of_size(width: u32, height: u32) -> Vec<u8> {
    let mut png = pictures::encode(&DynamicImage::new_rgb8(1, 1), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_picture_that_is_too_large_is_refused_before_it_is_decoded() {
    for (width, height) in [(8193, 10), (10, 8193), (65_500, 65_500), (8192, 8192), (8000, 6300)] {
        let reply = post("image/png", &png_of_size(width, height));
        let message = assert_refused("too large", &reply, 413, "picture_too_large");
        assert!(message.contains(&format!("{width}x{height}")), "{message}");
    }
}

#[test]
fn fifty_megapixels_are_detected_in_and_a_heavier_encoding_of_them_is_refused() {
    let picture =
        RgbImage::from_fn(8000, 6250, |x, y| image::Rgb([(x / 32) as u8, (y / 32) as u8, 128]));
    assert_eq!(post("image/jpeg", &pictures::jpeg(&picture)).status, 200);
    let reply = post("image/jpeg", &pictures::progressive_jpeg(&picture));
    assert_refused("progressive", &reply, 413, "picture_too_large");
}

/// A JPEG whose first marker follows a byte that only fills (ITU-T T.81, B.1.1.2).
fn with_fill_byte(jpeg: &[u8]) -> Vec<u8> {
    [&jpeg[..2], &[0xff], &jpeg[2..]].concat()
}

/// A picture whose bytes are as good as random.
fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(width, height, |_, _| {
        image::Rgb([(); 3].map(|()| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    })
}

#[test]
fn an_annotated_png_that_would_take_too_much_memory_is_refused_and_a_jpeg_is_not() {
    let noise = noise(6100, 4500);
    let mut picture = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut picture, 25);
    encoder.encode(noise.as_raw(), 6100, 4500, jpeg_encoder::ColorType::Rgb).expect("a JPEG");
    assert!(picture.len() < 10 << 20, "{} bytes", picture.len());
    let ask = |format: &str| {
        let url = url(&format!("/detect?annotate={format}"));
        client::send("POST", &url, &[("content-type", "image/jpeg")], &picture)
    };
    let message = assert_refused("noise", &ask("png"), 413, "picture_too_large");
    assert!(message.contains("72 MiB as a PNG: ask for a JPEG"), "{message}");
    assert_eq!(ask("jpeg").status, 200);
}

#[test]
fn what_would_need_too_much_memory_or_time_is_refused() {
    // 240 MB of pixels before they are converted.
    let deep = image::DynamicImage::new_rgba16(6000, 5000);
    let reply = post("image/png", &pictures::encode(&deep, ImageFormat::Png));
    assert_refused("16-bit RGBA", &reply, 413, "picture_too_large");
    // Eight pictures of 25 megapixels each: the first four are answered.
    let large = with_fill_byte(&pictures::jpeg(&RgbImage::new(5000, 5000)));
    let part: (&str, Option<&str>, &[u8]) = ("image", Some("a.jpg"), &large);
    let reply = client::post_form(&url("/detect"), &[part; 8]).json();
    let replies = reply.as_array().expect("a list");
    let refused = |reply: &serde_json::Value| reply["error"]["code"] == "picture_too_large";
    assert_eq!(replies.iter().filter(|reply| refused(reply)).count(), 4, "{reply}");
}

/// A GIF with a screen and one frame of these sizes, and the data of a single pixel.
fn gif_of(screen: (u16, u16), frame: (u16, u16)) -> Vec<u8> {
    let size = |(width, height): (u16, u16)| [width.to_le_bytes(), height.to_le_bytes()].concat();
    let palette = [0x80_u8, 0, 0, 0, 0, 0, 0, 0, 0];
    let pixels = [0_u8, 2, 2, 0x4c, 0x01, 0, 0x3b];
    let screen = [size(screen), palette.to_vec()].concat();
    [b"GIF89a".to_vec(), screen, vec![0x2c, 0, 0, 0, 0], size(frame), pixels.to_vec()].concat()
}

/// A PNG whose colour profile inflates to 300 MB.
fn png_with_a_large_profile() -> Vec<u8> {
    let mut info = png::Info::with_size(1, 1);
    info.icc_profile = Some(vec![0; 300 << 20].into());
    let mut bytes = Vec::new();
    let encoder = png::Encoder::with_info(&mut bytes, info).expect("an encoder");
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&[0])).expect("a PNG");
    bytes
}

/// A chunk of a WebP.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).expect("a size").to_le_bytes();
    let padding = vec![0; content.len() % 2];
    [name, size.as_slice(), content, &padding].concat()
}

/// A WebP with a canvas of 1x1 and one lossy frame of 16,383x16,383, and no pixels.
fn webp_of_a_large_frame() -> Vec<u8> {
    let mut frame = vec![0x10_u8, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f];
    frame.resize(74, 0);
    let chunks = [chunk(b"VP8X", &[0; 10]), chunk(b"VP8 ", &frame)];
    chunk(b"RIFF", &[b"WEBP".to_vec(), chunks.concat()].concat())
}

/// An animated WebP of 8x8 with the alpha values of one frame, but with the pixels of a larger one.
fn webp_of_another_frame() -> Vec<u8> {
    let sides = [7_u8, 0, 0, 7, 0, 0];
    let larger = &pictures::bytes("formats/lossy.webp")[12..];
    let alpha = chunk(b"ALPH", &[0; 65]);
    let frame = [[0_u8; 6].as_slice(), &sides, &[0; 4], &alpha, larger].concat();
    let chunks = [
        chunk(b"VP8X", &[[0x12_u8, 0, 0, 0].as_slice(), &sides].concat()),
        chunk(b"ANIM", &[0; 6]),
        chunk(b"ANMF", &frame),
    ];
    chunk(b"RIFF", &[b"WEBP".to_vec(), chunks.concat()].concat())
}

/// A progressive JPEG of 4000x4000 with the largest sampling factors for one component and the smallest for the rest,
/// and with the factors of each kind exchanged.
fn jpegs_of_uneven_sampling() -> Vec<Vec<u8>> {
    let jpeg = pictures::progressive_jpeg(&RgbImage::new(4000, 4000));
    let start = jpeg.windows(2).position(|pair| pair == [0xff, 0xc2]).expect("a frame");
    let with = |factors: [u8; 3]| {
        let mut jpeg = jpeg.clone();
        for (component, factors) in factors.into_iter().enumerate() {
            jpeg[start + 11 + 3 * component] = factors;
        }
        jpeg
    };
    [[0x44, 0x11, 0x11], [0x11, 0x44, 0x44], [0x44; 3], [0x41, 0x14, 0x22]].map(with).to_vec()
}

#[test]
fn small_files_that_would_take_much_memory_are_refused() {
    let gif = gif_of((1, 1), (10_000, 10_000));
    assert!(gif.len() <= 40, "{}", gif.len());
    assert_refused("a GIF's frame", &post("image/gif", &gif), 413, "picture_too_large");
    let png = png_with_a_large_profile();
    assert!(png.len() < 400_000, "{}", png.len());
    let message = assert_refused("a profile", &post("image/png", &png), 413, "picture_too_large");
    assert!(message.contains("metadata"), "{message}");
    let webp = webp_of_a_large_frame();
    assert_refused("a WebP's frame", &post("image/webp", &webp), 422, "not_a_picture");
    let webp = webp_of_another_frame();
    assert_refused("another frame", &post("image/webp", &webp), 422, "not_a_picture");
    for jpeg in jpegs_of_uneven_sampling() {
        let status = post("image/jpeg", &jpeg).status;
        assert!(status < 500, "{status}");
    }
}

#[test]
fn a_large_body_of_nonsense_is_refused_at_once() {
    let list = format!("{{\"image\": [{}]}}", vec!["0"; 4_000_000].join(","));
    assert_refused("a list", &post("application/json", list.as_bytes()), 400, "bad_json");
    assert_refused("zeros", &post("application/json", &list.as_bytes()[10..]), 400, "bad_json");
    let long = "a".repeat(4_000_000);
    for (key, code) in [("classes", "unknown_class"), ("min_confidence", "bad_option")] {
        let reply = client::post_json(&url("/detect"), &json!({"image": "", key: long}));
        let message = assert_refused(key, &reply, 400, code);
        assert!(message.len() < 400, "{}", message.len());
    }
    let reply = client::post_json(&url("/detect"), &json!({"image": "", long: "x"}));
    assert!(assert_refused("a long key", &reply, 400, "unknown_option").len() < 400);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let reply = post("image/jpeg", &vec![0xff; (10 << 20) + 1]);
    assert_refused("body", &reply, 413, "body_too_large");
}

#[test]
fn bad_options_are_named_with_their_value_and_range() {
    let picture = pictures::bytes("skimage_chelsea.png");
    let cases = [
        ("min_confidence=2", "bad_option", ["min_confidence", "\"2\"", "0 to 1"]),
        ("min_confidence=high", "bad_option", ["min_confidence", "\"high\"", "0 to 1"]),
        ("min_confidence=NaN", "bad_option", ["min_confidence", "\"NaN\"", "0 to 1"]),
        ("iou_threshold=-0.1", "bad_option", ["iou_threshold", "\"-0.1\"", "0 to 1"]),
        ("max_detections=0", "bad_option", ["max_detections", "\"0\"", "1 to 1000"]),
        ("max_detections=1.5", "bad_option", ["max_detections", "\"1.5\"", "1 to 1000"]),
        ("annotate=maybe", "bad_option", ["annotate", "\"maybe\"", "true"]),
        ("classes=", "bad_option", ["classes", "\"\"", "person,dog"]),
        ("classes=person,dgo", "unknown_class", ["\"dgo\"", "`dog`", "/labels"]),
        (
            "min_confidance=0.5",
            "unknown_option",
            ["min_confidance", "did you mean", "`min_confidence`"],
        ),
    ];
    for (query, code, words) in cases {
        let reply = client::post_picture(&url(&format!("/detect?{query}")), &picture);
        let message = assert_refused(query, &reply, 400, code);
        for word in words {
            assert!(message.contains(word), "{query}: {message} lacks {word}");
        }
    }
}

#[test]
fn bodies_that_are_not_what_they_say_are_refused() {
    assert_refused("text", &post("text/plain", b"hello"), 415, "unsupported_media_type");
    assert_refused("no type at all", &post("nonsense", b"hello"), 415, "unsupported_media_type");
    let curl = post("application/x-www-form-urlencoded", &pictures::bytes("skimage_chelsea.png"));
    let hint = assert_refused("curl's default", &curl, 415, "unsupported_media_type");
    assert!(hint.contains("-F image=@"), "{hint}");
    for (name, body) in [
        ("no JSON", "{"),
        ("a list", "[]"),
        ("no image", "{}"),
        ("an image that is a number", r#"{"image": 7}"#),
        ("an empty list", r#"{"image": []}"#),
        ("a list of numbers", r#"{"image": [7]}"#),
    ] {
        assert_refused(name, &post("application/json", body.as_bytes()), 400, "bad_json");
    }
    assert_refused(
        "deep JSON",
        &post("application/json", "[".repeat(100_000).as_bytes()),
        400,
        "bad_json",
    );
    assert_refused(
        "base64",
        &client::post_json(&url("/detect"), &json!({"image": "***"})),
        400,
        "bad_base64",
    );
    assert_refused("empty JSON", &post("application/json", b""), 400, "empty_body");
    assert_refused(
        "an empty picture",
        &client::post_json(&url("/detect"), &json!({"image": ""})),
        400,
        "empty_body",
    );
    let unknown = client::post_json(&url("/detect"), &json!({"image": "", "clases": "dog"}));
    assert_refused("an unknown key", &unknown, 400, "unknown_option");
}

#[test]
fn broken_forms_are_refused() {
    assert_refused("no boundary", &post("multipart/form-data", b"hello"), 400, "bad_form");
    assert_refused(
        "not a form",
        &post("multipart/form-data; boundary=x", b"hello"),
        400,
        "bad_form",
    );
    let (content_type, body) =
        client::form(&[("image", Some("a.png"), &pictures::bytes("skimage_chelsea.png"))]);
    assert_refused("half a form", &post(&content_type, &body[..body.len() / 2]), 400, "bad_form");
    let nothing = client::post_form(&url("/detect"), &[("min_confidence", None, b"0.5")]);
    assert_refused("no image", &nothing, 400, "bad_form");
    let other = client::post_form(&url("/detect"), &[("file", Some("a.png"), b"x")]);
    let hint = assert_refused("another name", &other, 400, "bad_form");
    assert!(hint.contains("must be named `image`, not `file`"), "{hint}");
    let picture: (&str, Option<&str>, &[u8]) = ("image", Some("a.png"), b"x");
    let many = client::post_form(&url("/detect"), &[picture; 17]);
    assert_refused("17 pictures", &many, 400, "too_many_pictures");
    let many = client::post_json(&url("/detect"), &json!({"image": vec!["eA=="; 17]}));
    let message = assert_refused("17 pictures in JSON", &many, 400, "too_many_pictures");
    assert!(message.contains("17 pictures; the limit is 16"), "{message}");
}

#[test]
fn after_all_of_that_the_next_request_is_answered() {
    for _ in 0..3 {
        assert_eq!(post("image/png", &png_of_size(70_000, 70_000)).status, 413);
        let reply = client::post_picture(&url("/detect"), &pictures::bytes("skimage_chelsea.png"));
        assert_eq!(reply.status, 200);
    }
}
