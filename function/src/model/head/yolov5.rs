//! YOLOv5 and v7: one output with a row for each box, whose score is objectness times class score. YOLOX has the same
//! layout, but its boxes are decoded differently: see [`super::yolox`].
//!
//! Source: Ultralytics' yolov5, `models/yolo.py`, class `Detect`, whose boxes are in pixels.

use super::boxes::{BoxFormat, scaled};
use super::yolox::Grid;
use super::{Candidate, Decoder, ScoreFilter};

/// `[N, 5 + C]`: x, y, width, height, objectness, then the classes.
pub(super) struct Objectness<'o> {
    pub(super) rows: &'o [f32],
    pub(super) columns: usize,
    /// How boxes are decoded, unless they are in pixels already.
    pub(super) grid: Option<Grid>,
    pub(super) scale: (f32, f32),
}

impl Decoder for Objectness<'_> {
    fn candidates(&self, filter: &ScoreFilter, found: &mut dyn FnMut(Candidate)) {
        for (anchor, row) in self.rows.chunks_exact(5 + self.columns).enumerate() {
            let objectness = row[4];
            // Class scores are at most 1, so the confidence cannot be larger.
            if objectness < filter.min_confidence {
                continue;
            }
            for (column, class) in row[5..].iter().enumerate() {
                let confidence = objectness * class;
                if filter.accepts(confidence, column) {
                    found(Candidate { confidence, anchor, column });
                }
            }
        }
    }

    fn corners(&self, anchor: usize) -> [f32; 4] {
        let row = self.rows.chunks_exact(5 + self.columns).nth(anchor).unwrap_or_default();
        let [x, y, width, height, ..] = *row else { return [0.0; 4] };
        let centre = [x, y, width, height];
        let pixels = match &self.grid {
            Some(grid) => grid.decode(centre, anchor),
            None => centre,
        };
        scaled(BoxFormat::Centre.corners(pixels), self.scale)
    }

    fn probabilities(&self, visit: &mut dyn FnMut(f32)) {
        self.rows.chunks_exact(5 + self.columns).flat_map(|row| &row[4..]).copied().for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Decoder, Objectness, ScoreFilter};

    fn found(head: &Objectness) -> Vec<Candidate> {
        let mut found = Vec::new();
        let filter = ScoreFilter { min_confidence: 0.5, wanted: &[true, true] };
        head.candidates(&filter, &mut |candidate| found.push(candidate));
        found
    }

    const ROWS: [f32; 14] = [
        40.0, 20.0, 20.0, 10.0, 0.8, 0.9, 0.1, // objectness 0.8
        0.0, 0.0, 0.0, 0.0, 0.4, 1.0, 1.0, // below the threshold
    ];

    #[test]
    fn a_score_is_objectness_times_class() {
        let head =
            Objectness { rows: &ROWS, columns: 2, grid: None, scale: (1.0 / 128.0, 1.0 / 64.0) };
        assert_eq!(found(&head), [Candidate { confidence: 0.8 * 0.9, anchor: 0, column: 0 }]);
        let corners = [30.0 / 128.0, 15.0 / 64.0, 50.0 / 128.0, 25.0 / 64.0];
        assert_eq!(head.corners(0), corners);
    }
}
