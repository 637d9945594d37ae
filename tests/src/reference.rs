//! Reference outputs: what another runtime finds in the same pictures with the same network.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// What the reference found in one picture.
#[derive(Clone, Debug, Deserialize)]
pub struct Reference {
    pub width: u32,
    pub height: u32,
    pub detections: Vec<Detection>,
}

/// One detection, of the reference or of ours.
#[derive(Clone, Debug, Deserialize)]
pub struct Detection {
    pub label: String,
    pub class_id: u32,
    pub confidence: f64,
    /// `x_min, y_min, x_max, y_max` in pixels.
    #[serde(rename = "box")]
    pub corners: [f64; 4],
}

/// How far ours may be from the reference.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub confidence: f64,
    pub overlap: f64,
}

/// Reads a file of references by picture.
pub fn read(path: &Path) -> BTreeMap<String, Reference> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("reference outputs")
}

/// The detections of a reply of `POST /detect`.
pub fn of_reply(reply: &Value) -> Vec<Detection> {
    let detections = reply["detections"].as_array().unwrap_or_else(|| panic!("{reply}"));
    detections
        .iter()
        .map(|detection| Detection {
            label: detection["label"].as_str().expect("a label").to_owned(),
            class_id: detection["class_id"].as_u64().expect("an id") as u32,
            confidence: detection["confidence"].as_f64().expect("a confidence"),
            corners: ["x_min", "y_min", "x_max", "y_max"]
                .map(|corner| detection["box"][corner].as_f64().expect("a corner")),
        })
        .collect()
}

/// Intersection over union of two boxes.
pub fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let area = |c: &[f64; 4]| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let common = area(&[a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let all = area(a) + area(b) - common;
    if all > 0.0 { common / all } else { 0.0 }
}

/// Says how ours differ from the reference above `threshold`, in either direction; nothing where
/// they do not. A detection within the tolerance of the threshold may be on either side of it.
pub fn differences(
    reference: &[Detection],
    ours: &[Detection],
    threshold: f64,
    tolerance: Tolerance,
) -> Vec<String> {
    let missing = unmatched(reference, ours, threshold, tolerance);
    let added = unmatched(ours, reference, threshold, tolerance);
    let missing = missing.into_iter().map(|detection| format!("missing: {detection:?}"));
    let added = added.into_iter().map(|detection| format!("added: {detection:?}"));
    missing.chain(added).collect()
}

fn unmatched<'d>(
    wanted: &'d [Detection],
    among: &[Detection],
    threshold: f64,
    tolerance: Tolerance,
) -> Vec<&'d Detection> {
    let is_matched = |detection: &Detection| {
        among.iter().any(|other| {
            other.label == detection.label
                && other.class_id == detection.class_id
                && (other.confidence - detection.confidence).abs() <= tolerance.confidence
                && overlap(&other.corners, &detection.corners) >= tolerance.overlap
        })
    };
    let above = wanted.iter().filter(|detection| detection.confidence > threshold);
    above.filter(|detection| !is_matched(detection)).collect()
}
