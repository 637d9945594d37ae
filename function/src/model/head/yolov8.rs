//! YOLOv8, v9, v11 and v12: one output with a row for each number and a column for each box.
//!
//! Source: Ultralytics, `nn/modules/head.py`, class `Detect`: boxes are decoded to pixels of the input, and scores
//! have passed the sigmoid.

use super::boxes::{BoxFormat, scaled};
use super::{Candidate, Decoder, ScoreFilter};

/// `[4 + C, N]`: x, y, width and height in pixels of the input, then a row for each class.
pub(super) struct Yolov8<'o> {
    boxes: &'o [f32],
    scores: &'o [f32],
    anchors: usize,
    scale: (f32, f32),
}

impl<'o> Yolov8<'o> {
    pub(super) fn new(values: &'o [f32], columns: usize, scale: (f32, f32)) -> Self {
        let anchors = values.len() / (4 + columns);
        let (boxes, scores) = values.split_at(4 * anchors);
        Self { boxes, scores, anchors, scale }
    }
}

impl Decoder for Yolov8<'_> {
    fn candidates(&self, filter: &ScoreFilter, found: &mut dyn FnMut(Candidate)) {
        let rows = self.scores.chunks_exact(self.anchors.max(1));
        for (column, row) in rows.enumerate() {
            if !filter.wanted.get(column).is_some_and(|wanted| *wanted) {
                continue;
            }
            for (anchor, &confidence) in row.iter().enumerate() {
                if confidence >= filter.min_confidence {
                    found(Candidate { confidence, anchor, column });
                }
            }
        }
    }

    fn corners(&self, anchor: usize) -> [f32; 4] {
        let number =
            |row: usize| self.boxes.get(row * self.anchors + anchor).copied().unwrap_or_default();
        scaled(BoxFormat::Centre.corners([0, 1, 2, 3].map(number)), self.scale)
    }

    fn probabilities(&self, visit: &mut dyn FnMut(f32)) {
        self.scores.iter().copied().for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Decoder, ScoreFilter, Yolov8};

    #[test]
    fn a_column_is_a_box_and_a_row_a_class() {
        // Three boxes, two classes; the input is 128x64.
        let values = [
            50.0, 10.0, 0.0, // x
            25.0, 10.0, 0.0, // y
            20.0, 10.0, 0.0, // width
            30.0, 10.0, 0.0, // height
            0.9, 0.2, 0.6, // the first class
            0.1, 0.7, 0.0, // the second
        ];
        let head = Yolov8::new(&values, 2, (1.0 / 128.0, 1.0 / 64.0));
        let mut found = Vec::new();
        let filter = ScoreFilter { min_confidence: 0.5, wanted: &[true, true] };
        head.candidates(&filter, &mut |candidate| found.push(candidate));
        let at = |confidence, anchor, column| Candidate { confidence, anchor, column };
        assert_eq!(found, [at(0.9, 0, 0), at(0.6, 2, 0), at(0.7, 1, 1)]);
        let corners = [40.0 / 128.0, 10.0 / 64.0, 60.0 / 128.0, 40.0 / 64.0];
        assert_eq!(head.corners(0), corners);
    }
}
