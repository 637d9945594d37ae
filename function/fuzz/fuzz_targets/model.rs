//! Any text as a `model.toml` is refused, or its values are those that an API's options may have, and a picture fits
//! its input.

#![no_main]

use detector::model::{Labels, MAX_DETECTIONS, ModelConfig};
use detector::options::Options;
use detector::picture::{Picture, Purpose};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static PICTURE: LazyLock<Picture> = LazyLock::new(|| {
    detector::picture::decode(include_bytes!("../seeds/decode/png"), Purpose::Drawing)
        .expect("a picture")
});

/// The largest side of an input whose tensor is made each time, in pixels.
const MAX_SIDE_PIXELS: u32 = 64;

fuzz_target!(|text: &str| {
    let Ok(config) = ModelConfig::parse(text) else { return };
    let options = Options::new(&config.thresholds);
    assert!((0.0..=1.0).contains(&options.min_confidence));
    assert!((0.0..=1.0).contains(&options.iou_threshold));
    assert!((1..=MAX_DETECTIONS).contains(&options.max_detections));
    let outputs = config.output.head.outputs();
    assert!(!outputs.is_empty());
    if let Ok(labels) = Labels::parse("cat\n-\ndog\n", &config) {
        assert!(labels.entries().is_sorted_by(|(one, _), (next, _)| one < next));
    }
    let input = &config.input;
    assert_eq!(input.shape().iter().product::<usize>(), (3 * input.width * input.height) as usize);
    if input.width.max(input.height) <= MAX_SIDE_PIXELS {
        let (tensor, _) = detector::preprocess::to_tensor(&PICTURE, input).expect("a tensor");
        assert_eq!(tensor.shape, input.shape());
        assert!((0..3).all(|channel| input.normalised(channel, 255).is_finite()));
    }
});
