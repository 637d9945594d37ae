//! Any bytes as a picture: refused or decoded, and then resized, without a panic, in the memory of an instance.

#![no_main]

use std::alloc::System;

use cap::Cap;
use detector::model::ModelConfig;
use libfuzzer_sys::fuzz_target;

const MANIFEST: &str = include_str!("../../model/nanodet_g/model.toml");

/// What an instance of 256 MiB has left after the model, its activations and the request's body.
const MEMORY_BYTES: usize = 200 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY_BYTES);

fuzz_target!(|bytes: &[u8]| {
    let input = ModelConfig::parse(MANIFEST).expect("a manifest").input;
    if let Ok(picture) = detector::picture::decode(bytes, true) {
        let size = picture.upright_size();
        assert!(u64::from(size.width) * u64::from(size.height) <= 50_000_000);
        detector::preprocess::to_tensor(&picture, &input).expect("a tensor");
        picture.into_upright();
    }
});
