//! The same detections as the reference pipeline (ONNX Runtime) on the same network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use detector::model::Model;
use detector::options::Options;
use detector::picture::Purpose;
use detector::preprocess;
use spotter_tests::reference::{self, Comparison, Detection, Reference, Tolerance};
use spotter_tests::server::Server;
use spotter_tests::{client, native, pictures, root};

/// Pictures, and the reference's detections in them.
struct Set {
    folder: PathBuf,
    references: BTreeMap<String, Reference>,
    /// The folder with the reference's own input of the network, for some of the pictures.
    resized: PathBuf,
    /// Boxes with a higher confidence are compared.
    threshold: f64,
    /// At least this many boxes must match.
    least: usize,
}

fn sets() -> Vec<Set> {
    let folder = root().join("tests/pictures");
    let committed = Set {
        references: reference::read(&folder.join("reference.json")),
        resized: folder.join("resized"),
        folder,
        threshold: 0.1,
        least: 100,
    };
    let shared = pictures::shared().map(|folder| Set {
        references: reference::read(&folder.join("model/reference/ssdlite_mobilenet_v2.json")),
        resized: folder.join("model/reference/resized"),
        folder,
        // This reference was made before the network's weights were stored as f16. It keeps at most a hundred boxes,
        // and in one picture all of these are above 0.1.
        threshold: 0.2,
        least: 10,
    });
    std::iter::once(committed).chain(shared).collect()
}

/// Our pixels differ slightly from the reference's: two JPEG decoders differ by a grey level here and there, and our
/// resize rounds twice. This tolerance is the largest change that such differences cause in the network's output
/// (`tests/pictures/make-reference.py --shake`).
#[test]
fn end_to_end_the_component_finds_what_the_reference_finds() {
    // Down to the threshold minus the tolerance, and more than a hundred, because the mosaics are crowded.
    let url = Server::shared().url("/detect?min_confidence=0.05&max_detections=1000");
    // Halved colours are interpolated differently by the two JPEG decoders. That moves a confidence by up to 0.085 in
    // the middle of the sigmoid, and by far less near 0.1.
    let tolerance = Tolerance { confidence: 0.09, overlap: 0.9 };
    for set in sets() {
        let mut all = Comparison::default();
        for (name, reference) in &set.references {
            let picture = std::fs::read(set.folder.join(name)).expect("a picture");
            let reply = client::post_picture(&url, &picture).json();
            assert_eq!(reply["image"]["width"], reference.width, "{name}");
            assert_eq!(reply["image"]["height"], reference.height, "{name}");
            let ours = reference::of_reply(&reply);
            let found = reference::compare(&reference.detections, &ours, set.threshold, tolerance);
            all.add(name, found);
        }
        all.check(set.least);
    }
}

#[test]
fn fed_the_same_pixels_the_network_gives_the_same_detections() {
    let model = native::model();
    let tolerance = Tolerance { confidence: 0.01, overlap: 0.98 };
    for set in sets() {
        let mut all = Comparison::default();
        for (name, reference) in &set.references {
            let file = set.resized.join(Path::new(name).with_extension("png").file_name().unwrap());
            let Ok(pixels) = std::fs::read(file) else { continue };
            let ours = detect_in_pixels(&model, &pixels, reference);
            let found = reference::compare(&reference.detections, &ours, set.threshold, tolerance);
            all.add(name, found);
        }
        all.check(set.least);
    }
}

fn detect_in_pixels(model: &Model, pixels: &[u8], reference: &Reference) -> Vec<Detection> {
    let picture = detector::picture::decode(pixels, Purpose::Drawing).expect("a picture");
    let (tensor, transform) =
        preprocess::to_tensor(&picture, &model.config().input).expect("a tensor");
    let outputs = model.run(tensor).expect("the network runs");
    let mut options = Options::new(model.thresholds());
    options.min_confidence = 0.05;
    options.max_detections = 1000;
    let (width, height) = (f64::from(reference.width) / 300.0, f64::from(reference.height) / 300.0);
    detector::non_maximum_suppression::select(&outputs, &transform, model, &options)
        .into_iter()
        .map(|detection| {
            let frame = detection.bounding_box;
            Detection {
                label: detection.label.to_owned(),
                class_id: detection.class_id,
                confidence: f64::from(detection.confidence),
                corners: [
                    f64::from(frame.x_min) * width,
                    f64::from(frame.y_min) * height,
                    f64::from(frame.x_max) * width,
                    f64::from(frame.y_max) * height,
                ],
            }
        })
        .collect()
}
