//! YOLOv10, YOLO26 and other exports that return only the best boxes, one row for each, so there is nothing left to
//! suppress.
//!
//! Source: Ultralytics, `nn/modules/head.py`, `Detect.postprocess`.

use super::boxes::{BoxFormat, scaled};
use super::ssd::column;
use super::{Candidate, Decoder, ScoreFilter};

/// `[N, 6]`: x_min, y_min, x_max, y_max, score, class.
pub(super) struct EndToEnd<'o> {
    pub(super) rows: &'o [f32],
    pub(super) scale: (f32, f32),
}

impl Decoder for EndToEnd<'_> {
    fn candidates(&self, filter: &ScoreFilter, found: &mut dyn FnMut(Candidate)) {
        for (anchor, [.., confidence, class]) in self.rows.as_chunks::<6>().0.iter().enumerate() {
            if let Some(column) = column(*class, 0)
                && filter.accepts(*confidence, column)
            {
                found(Candidate { confidence: *confidence, anchor, column });
            }
        }
    }

    fn corners(&self, anchor: usize) -> [f32; 4] {
        let row = self.rows.as_chunks::<6>().0.get(anchor).copied().unwrap_or_default();
        let [x_min, y_min, x_max, y_max, _, _] = row;
        scaled(BoxFormat::Corners.corners([x_min, y_min, x_max, y_max]), self.scale)
    }

    fn probabilities(&self, visit: &mut dyn FnMut(f32)) {
        self.rows.as_chunks::<6>().0.iter().map(|row| row[4]).for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Decoder, EndToEnd, ScoreFilter};

    #[test]
    fn a_row_is_a_box_its_score_and_its_class() {
        let rows = [
            10.0, 5.0, 50.0, 25.0, 0.9, 1.0, // the second class
            0.0, 0.0, 1.0, 1.0, 0.9, 7.0, // a class without a label
            0.0, 0.0, 1.0, 1.0, 0.1, 0.0, // below the threshold
        ];
        let head = EndToEnd { rows: &rows, scale: (1.0 / 128.0, 1.0 / 64.0) };
        let mut found = Vec::new();
        let filter = ScoreFilter { min_confidence: 0.5, wanted: &[true, true] };
        head.candidates(&filter, &mut |candidate| found.push(candidate));
        assert_eq!(found, [Candidate { confidence: 0.9, anchor: 0, column: 1 }]);
        let corners = [10.0 / 128.0, 5.0 / 64.0, 50.0 / 128.0, 25.0 / 64.0];
        assert_eq!(head.corners(0), corners);
    }
}
