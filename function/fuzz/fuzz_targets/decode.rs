//! Any bytes as a picture: refused or decoded, and then resized, without a panic, in the memory of an instance.

#![no_main]

use std::alloc::System;

use cap::Cap;
use detector::model::ModelConfig;
use detector::picture::{self, ImageSize, Purpose};
use detector::preprocess;
use libfuzzer_sys::fuzz_target;

const MANIFEST: &str = include_str!("../../model/nanodet_g/model.toml");

/// What an instance of 256 MiB has left after the model, its activations and the request's body.
const MEMORY_BYTES: usize = 200 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY_BYTES);

fuzz_target!(|bytes: &[u8]| {
    let input = ModelConfig::parse(MANIFEST).expect("a manifest").input;
    // Small pictures too are decoded at a fraction of their size.
    let divisor = [1, 2, 4, 8][bytes.len() % 4];
    let smaller =
        |size: ImageSize| ImageSize { width: size.width / divisor, height: size.height / divisor };
    if let Ok(picture) = picture::decode(bytes, Purpose::Resizing(&smaller)) {
        preprocess::to_tensor(&picture, &input).expect("a tensor");
    }
    if let Ok(picture) = picture::decode(bytes, Purpose::Drawing) {
        let size = picture.upright_size();
        assert!(u64::from(size.width) * u64::from(size.height) <= 50_000_000);
        preprocess::to_tensor(&picture, &input).expect("a tensor");
        picture.into_upright();
    }
});
