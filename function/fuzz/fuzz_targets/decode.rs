//! Any bytes as a picture: refused or decoded, and then resized, without a panic.

#![no_main]

use detector::model::Manifest;
use libfuzzer_sys::fuzz_target;

const MANIFEST: &str = include_str!("../../model/nanodet_g/model.toml");

fuzz_target!(|bytes: &[u8]| {
    let input = Manifest::parse(MANIFEST).expect("a manifest").input;
    if let Ok(picture) = detector::picture::decode(bytes, true) {
        let size = picture.upright_size();
        assert!(u64::from(size.width) * u64::from(size.height) <= 50_000_000);
        detector::tensor::fit(&picture, &input).expect("a tensor");
        picture.into_upright();
    }
});
