//! Reference detections: those of another runtime in the same pictures, with the same network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// The reference's detections in one picture.
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

impl Detection {
    fn is_of_class_of(&self, other: &Self) -> bool {
        self.label == other.label && self.class_id == other.class_id
    }
}

/// How far our detections may differ from the reference's.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub confidence: f64,
    pub overlap: f64,
}

/// Reads a file of reference detections, by picture.
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

/// The result of comparing our detections with the reference's.
#[derive(Debug, Default)]
pub struct Comparison {
    /// How many boxes above the threshold have a match.
    pub matched: usize,
    /// Boxes that only one side has, possibly because of rounding.
    pub tosses: Vec<String>,
    /// Boxes that only one side has, and rounding does not explain.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Adds the result of one picture.
    pub fn add(&mut self, picture: &str, other: Self) {
        let named = |line: String| format!("{picture}: {line}");
        self.matched += other.matched;
        self.tosses.extend(other.tosses.into_iter().map(named));
        self.differences.extend(other.differences.into_iter().map(named));
    }

    /// Fails if any box differs, if fewer than `least` boxes match, or if more than one in twenty is put down to
    /// rounding, since so many could hide a fault.
    pub fn check(&self, least: usize) {
        let Self { matched, tosses, differences } = self;
        println!("{matched} boxes matched, {} decided by rounding", tosses.len());
        assert!(
            differences.is_empty() && tosses.len() * 20 <= *matched,
            "{matched} boxes matched\n\n{} differ:\n{}\n\n{} decided by rounding:\n{}",
            differences.len(),
            differences.join("\n"),
            tosses.len(),
            tosses.join("\n"),
        );
        assert!(*matched >= least, "{matched} boxes matched, fewer than {least}");
    }
}

/// Compares the boxes above `threshold` one to one. Both lists must reach down to the threshold minus the tolerance,
/// so that a box just above the threshold is matched with one just below it.
pub fn compare(
    reference: &[Detection],
    ours: &[Detection],
    threshold: f64,
    tolerance: Tolerance,
) -> Comparison {
    let pairs = pairs(reference, ours, tolerance);
    let is_above = |detection: &Detection| detection.confidence > threshold;
    let matched = pairs
        .iter()
        .filter(|(theirs, own)| is_above(&reference[*theirs]) || is_above(&ours[*own]))
        .count();
    let missing = unpaired(reference, pairs.iter().map(|(theirs, _)| *theirs));
    let added = unpaired(ours, pairs.iter().map(|(_, own)| *own));
    let mut comparison = Comparison { matched, ..Comparison::default() };
    for (name, unpaired, side, others) in
        [("missing", &missing, reference, &added), ("added", &added, ours, &missing)]
    {
        for detection in unpaired.iter().filter(|detection| is_above(detection)) {
            let line = format!("{name}: {detection:?}");
            if is_rounding_difference(detection, side, others, tolerance) {
                comparison.tosses.push(line);
            } else {
                comparison.differences.push(line);
            }
        }
    }
    comparison
}

/// Pairs of a reference box and one of ours that are the same. Each box is in at most one pair. Pairs that overlap
/// most are chosen first, which hardly matters, because boxes of one class hardly overlap each other.
fn pairs(reference: &[Detection], ours: &[Detection], tolerance: Tolerance) -> Vec<(usize, usize)> {
    let mut candidates: Vec<(f64, usize, usize)> = Vec::new();
    for (index, theirs) in reference.iter().enumerate() {
        for (own_index, own) in ours.iter().enumerate() {
            let overlap = overlap(&theirs.corners, &own.corners);
            let apart = (theirs.confidence - own.confidence).abs();
            if theirs.is_of_class_of(own)
                && apart <= tolerance.confidence
                && overlap >= tolerance.overlap
            {
                candidates.push((overlap, index, own_index));
            }
        }
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (_, index, own_index) in candidates {
        if pairs.iter().all(|pair| pair.0 != index && pair.1 != own_index) {
            pairs.push((index, own_index));
        }
    }
    pairs
}

fn unpaired(all: &[Detection], paired: impl Iterator<Item = usize>) -> Vec<&Detection> {
    let paired: BTreeSet<usize> = paired.collect();
    let others = all.iter().enumerate().filter(|(index, _)| !paired.contains(index));
    others.map(|(_, detection)| detection).collect()
}

/// The overlap above which the less confident of two boxes of a class is suppressed.
const NMS_IOU_THRESHOLD: f64 = 0.5;

/// How close to it an overlap must be for rounding to decide.
const IOU_TOLERANCE: f64 = 0.02;

/// Whether rounding may explain why only one side has this box. There are two cases. Either a more confident box on
/// the same side almost suppresses it. Or only the other side has a box that would suppress it and is at least about
/// as confident: of two boxes that exclude each other, each side kept a different one.
///
/// A box that is merely less confident than one on the other side may be explained in this way, but not one that is
/// clearly more confident.
fn is_rounding_difference(
    detection: &Detection,
    side: &[Detection],
    unpaired_others: &[&Detection],
    tolerance: Tolerance,
) -> bool {
    let overlap = |other: &Detection| overlap(&other.corners, &detection.corners);
    let is_spared_by_a_hair = side.iter().any(|other| {
        other.is_of_class_of(detection)
            && other.confidence > detection.confidence
            && (overlap(other) - NMS_IOU_THRESHOLD).abs() <= IOU_TOLERANCE
    });
    let has_a_rival = unpaired_others.iter().any(|other| {
        other.is_of_class_of(detection)
            && other.confidence >= detection.confidence - tolerance.confidence
            && overlap(other) >= NMS_IOU_THRESHOLD - IOU_TOLERANCE
    });
    is_spared_by_a_hair || has_a_rival
}

#[cfg(test)]
mod tests {
    use super::{Detection, Tolerance, compare};

    /// A box of 100x100 pixels, at this distance from the left.
    fn cat(confidence: f64, left: f64) -> Detection {
        let corners = [left, 0.0, left + 100.0, 100.0];
        Detection { label: "cat".to_owned(), class_id: 17, confidence, corners }
    }

    /// The numbers of boxes that match, that differ because of rounding, and that differ otherwise.
    fn outcome(reference: &[Detection], ours: &[Detection]) -> [usize; 3] {
        let tolerance = Tolerance { confidence: 0.05, overlap: 0.9 };
        let found = compare(reference, ours, 0.1, tolerance);
        [found.matched, found.tosses.len(), found.differences.len()]
    }

    #[test]
    fn each_box_is_matched_once() {
        assert_eq!(outcome(&[cat(0.8, 0.0)], &[cat(0.79, 2.0)]), [1, 0, 0]);
        assert_eq!(outcome(&[cat(0.8, 0.0)], &[cat(0.8, 1.0), cat(0.79, 2.0)]), [1, 0, 1]);
        assert_eq!(outcome(&[cat(0.8, 0.0)], &[cat(0.8, 300.0)]), [0, 0, 2]);
    }

    #[test]
    fn a_box_just_above_the_threshold_finds_its_like_below() {
        assert_eq!(outcome(&[cat(0.11, 0.0)], &[cat(0.09, 0.0)]), [1, 0, 0]);
        assert_eq!(outcome(&[cat(0.11, 0.0)], &[]), [0, 0, 1]);
        assert_eq!(outcome(&[cat(0.09, 0.0)], &[]), [0, 0, 0]);
    }

    #[test]
    fn rounding_may_choose_between_rivals_but_not_change_a_confidence() {
        assert_eq!(outcome(&[cat(0.5, 0.0)], &[cat(0.48, 20.0)]), [0, 2, 0]);
        // They overlap by 0.49.
        assert_eq!(outcome(&[cat(0.8, 0.0), cat(0.3, 34.0)], &[cat(0.8, 0.0)]), [1, 1, 0]);
        assert_eq!(outcome(&[cat(0.8, 0.0)], &[cat(0.6, 0.0)]), [0, 1, 1]);
    }
}
