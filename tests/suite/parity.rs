//! The same detections as the reference pipeline (ONNX Runtime) on the same network.

use std::path::{Path, PathBuf};

use detector::model::Model;
use detector::tensor;
use spotter_tests::reference::{self, Detection, Tolerance};
use spotter_tests::server::Server;
use spotter_tests::{client, native, pictures, root};

/// Every picture there is a reference for, with its path.
fn references() -> Vec<(PathBuf, reference::Reference)> {
    let mut sets =
        vec![(root().join("tests/pictures"), root().join("tests/pictures/reference.json"))];
    if let Some(shared) = pictures::shared() {
        let file = shared.join("model/reference/ssdlite_mobilenet_v2.json");
        sets.push((shared, file));
    }
    sets.iter()
        .flat_map(|(folder, file)| {
            reference::read(file)
                .into_iter()
                .map(|(name, reference)| (folder.join(name), reference))
        })
        .collect()
}

fn assert_none(differences: &[String]) {
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn end_to_end_the_component_finds_what_the_reference_finds() {
    let url = Server::shared().url("/detect?min_confidence=0.05");
    let tolerance = Tolerance { confidence: 0.05, overlap: 0.9 };
    let mut differences = Vec::new();
    let references = references();
    for (path, reference) in &references {
        let reply = client::post_picture(&url, &std::fs::read(path).expect("a picture")).json();
        assert_eq!(reply["image"]["width"], reference.width, "{}", path.display());
        assert_eq!(reply["image"]["height"], reference.height, "{}", path.display());
        let ours = reference::of_reply(&reply);
        let found = reference::differences(&reference.detections, &ours, 0.5, tolerance);
        differences.extend(
            found.into_iter().map(|difference| format!("{}: {difference}", path.display())),
        );
    }
    assert!(references.len() >= 4);
    assert_none(&differences);
}

#[test]
fn fed_the_same_pixels_the_network_gives_the_same_detections() {
    let model = native::model();
    let mut compared = 0;
    for (path, reference) in references() {
        let Some(pixels) = resized(&path) else { continue };
        let ours = detect_in_pixels(&model, &pixels, &reference);
        let tolerance = Tolerance { confidence: 0.01, overlap: 0.98 };
        assert_none(&reference::differences(&reference.detections, &ours, 0.5, tolerance));
        compared += 1;
    }
    assert!(compared >= 3, "{compared} pictures compared");
}

/// The reference's own 300x300 input for a picture, where it is kept.
fn resized(path: &Path) -> Option<Vec<u8>> {
    let name = format!("{}.png", path.file_stem()?.to_str()?);
    let committed = root().join("tests/pictures/resized").join(&name);
    let shared =
        pictures::shared().map(|shared| shared.join("model/reference/resized").join(&name));
    let file = std::iter::once(committed).chain(shared).find(|file| file.exists())?;
    std::fs::read(file).ok()
}

fn detect_in_pixels(
    model: &Model,
    pixels: &[u8],
    reference: &reference::Reference,
) -> Vec<Detection> {
    let picture = detector::picture::decode(pixels, false).expect("a picture");
    let (tensor, placement) = tensor::fit(&picture, &model.manifest().input).expect("a tensor");
    let candidates = model.run(tensor).expect("the network runs");
    let mut options = model.default_options();
    options.min_confidence = 0.05;
    let (width, height) = (f64::from(reference.width) / 300.0, f64::from(reference.height) / 300.0);
    detector::detections::select(&candidates, &placement, model, &options)
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
