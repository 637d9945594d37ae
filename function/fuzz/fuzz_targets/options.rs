//! Any text as a query: read or refused with a 4xx, and every option that is read is within its range.

#![no_main]

use detector::api::{DetectRequest, Request};
use detector::model::{Labels, ModelConfig};
use detector::options::Options;
use libfuzzer_sys::fuzz_target;

const MANIFEST: &str = include_str!("../../model/nanodet_g/model.toml");
const LABELS: &str = include_str!("../../model/nanodet_g/labels.txt");

fuzz_target!(|query: &str| {
    let manifest = ModelConfig::parse(MANIFEST).expect("a manifest");
    let labels = Labels::parse(LABELS, &manifest).expect("labels");
    let request =
        Request { query, content_type: Some("image/png"), body: b"x", ..Request::default() };
    match DetectRequest::read(&request, &labels, Options::new(&manifest.thresholds)) {
        Ok(DetectRequest { options, .. }) => {
            assert!((0.0..=1.0).contains(&options.min_confidence));
            assert!((0.0..=1.0).contains(&options.iou_threshold));
            assert!((1..=1000).contains(&options.max_detections));
            assert!(options.classes.iter().flatten().all(|column| *column < labels.columns()));
        }
        Err(error) => assert!((400..500).contains(&error.status()), "{error}"),
    }
});
