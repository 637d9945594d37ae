//! Boxes, labels and scores after suppression, as torchvision's detectors and TensorFlow's detection API give them.
//!
//! Sources: torchvision, `models/detection/ssd.py`, `postprocess_detections` (corners in pixels, labels from 1);
//! TensorFlow, `object_detection/exporter_lib_v2.py` (`y_min, x_min, y_max, x_max` in fractions, labels from 1).

use super::boxes::{self, BoxFormat, scaled};
use super::{Candidate, Decoder, ScoreFilter};

/// Boxes `[N, 4]`, labels `[N]`, scores `[N]`.
pub(super) struct Ssd<'o> {
    pub(super) boxes: &'o [f32],
    pub(super) labels: &'o [f32],
    pub(super) scores: &'o [f32],
    pub(super) format: BoxFormat,
    pub(super) scale: (f32, f32),
    pub(super) first_label: u32,
}

/// The default: label 0 is the background.
pub(super) fn first_label() -> u32 {
    1
}

/// The column of a label, which is a whole number of at least `first`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
pub(super) fn column(label: f32, first: u32) -> Option<usize> {
    let column = label.round() - first as f32;
    (column >= 0.0).then_some(column as usize)
}

impl Decoder for Ssd<'_> {
    fn candidates(&self, filter: &ScoreFilter, found: &mut dyn FnMut(Candidate)) {
        for (anchor, (&confidence, &label)) in self.scores.iter().zip(self.labels).enumerate() {
            if let Some(column) = column(label, self.first_label)
                && filter.accepts(confidence, column)
            {
                found(Candidate { confidence, anchor, column });
            }
        }
    }

    fn corners(&self, anchor: usize) -> [f32; 4] {
        scaled(self.format.corners(boxes::at(self.boxes, anchor)), self.scale)
    }

    fn probabilities(&self, visit: &mut dyn FnMut(f32)) {
        self.scores.iter().copied().for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::{BoxFormat, Candidate, Decoder, ScoreFilter, Ssd, column};

    #[test]
    fn labels_are_counted_from_the_first() {
        assert_eq!(column(1.0, 1), Some(0));
        assert_eq!(column(0.0, 1), None);
        assert_eq!(column(f32::NAN, 0), None);
        assert_eq!(column(-3.0, 0), None);
        let head = Ssd {
            boxes: &[0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 1.0, 1.0],
            labels: &[2.0, 0.0],
            scores: &[0.9, 0.9],
            format: BoxFormat::CornersYx,
            scale: (1.0, 1.0),
            first_label: 1,
        };
        let mut found = Vec::new();
        let filter = ScoreFilter { min_confidence: 0.5, wanted: &[true, true] };
        head.candidates(&filter, &mut |candidate| found.push(candidate));
        assert_eq!(found, [Candidate { confidence: 0.9, anchor: 0, column: 1 }]);
        assert_eq!(head.corners(0), [0.2, 0.1, 0.4, 0.3]);
    }
}
