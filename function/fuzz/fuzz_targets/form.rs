//! Any bytes as a body of `multipart/form-data; boundary=x`: read or refused with a 4xx, without a panic.

#![no_main]

use detector::api::{DetectRequest, Request};
use detector::model::{Labels, ModelConfig};
use detector::options::{MAX_PICTURES, Options};
use libfuzzer_sys::fuzz_target;

const MANIFEST: &str = include_str!("../../model/nanodet_g/model.toml");
const LABELS: &str = include_str!("../../model/nanodet_g/labels.txt");

fuzz_target!(|body: &[u8]| {
    let manifest = ModelConfig::parse(MANIFEST).expect("a manifest");
    let labels = Labels::parse(LABELS, &manifest).expect("labels");
    let request = Request {
        content_type: Some("multipart/form-data; boundary=x"),
        body,
        ..Request::default()
    };
    match DetectRequest::read(&request, &labels, Options::new(&manifest.thresholds)) {
        Ok(read) => assert!(read.pictures.len() <= MAX_PICTURES),
        Err(error) => assert!((400..500).contains(&error.status()), "{error}"),
    }
});
