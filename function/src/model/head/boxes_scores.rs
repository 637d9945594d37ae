//! Boxes and scores in two outputs, as this project's own models return them.

use super::boxes::{self, BoxFormat};
use super::{Candidate, Decoder, ScoreFilter};

/// Boxes `[N, 4]` in fractions of the input, and scores `[N, C]`.
pub(super) struct BoxesScores<'o> {
    pub(super) boxes: &'o [f32],
    pub(super) scores: &'o [f32],
    pub(super) columns: usize,
    pub(super) format: BoxFormat,
}

impl Decoder for BoxesScores<'_> {
    fn candidates(&self, filter: &ScoreFilter, found: &mut dyn FnMut(Candidate)) {
        for (anchor, scores) in self.scores.chunks_exact(self.columns.max(1)).enumerate() {
            // Few boxes have such a score, and a sum without branches is vectorised.
            let above =
                scores.iter().map(|score| u32::from(*score >= filter.min_confidence)).sum::<u32>();
            if above == 0 {
                continue;
            }
            for (column, &confidence) in scores.iter().enumerate() {
                if filter.accepts(confidence, column) {
                    found(Candidate { confidence, anchor, column });
                }
            }
        }
    }

    fn corners(&self, anchor: usize) -> [f32; 4] {
        self.format.corners(boxes::at(self.boxes, anchor))
    }

    fn probabilities(&self, visit: &mut dyn FnMut(f32)) {
        self.scores.iter().copied().for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::{BoxFormat, BoxesScores, Candidate, Decoder, ScoreFilter};

    #[test]
    fn scores_of_wanted_columns_are_found_with_their_boxes() {
        let head = BoxesScores {
            boxes: &[0.5, 0.5, 0.2, 0.4, 0.0, 0.0, 1.0, 1.0],
            scores: &[0.1, 0.9, 0.8, 0.7],
            columns: 2,
            format: BoxFormat::Centre,
        };
        let mut found = Vec::new();
        let filter = ScoreFilter { min_confidence: 0.5, wanted: &[false, true] };
        head.candidates(&filter, &mut |candidate| found.push(candidate));
        let at = |confidence, anchor| Candidate { confidence, anchor, column: 1 };
        assert_eq!(found, [at(0.9, 0), at(0.7, 1)]);
        assert_eq!(head.corners(0), [0.4, 0.3, 0.6, 0.7]);
    }
}
