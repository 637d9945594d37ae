//! DETR, RT-DETR and D-FINE as Hugging Face exports them: boxes, and logits before their activation.
//!
//! Source: transformers, `image_processing_detr.py` and `image_processing_rt_detr.py`,
//! `post_process_object_detection`.

use serde::Deserialize;

use super::boxes::{self, BoxFormat};
use super::{Candidate, Decoder, ScoreFilter};

/// What turns logits into scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Each logit alone: RT-DETR, D-FINE, Deformable DETR. A query may have several classes.
    Sigmoid,
    /// All of a query's logits, of which the last is the background's: DETR, YOLOS. A query has its best class only.
    Softmax,
}

impl Activation {
    /// The number of logits of a query.
    pub(super) fn columns(self, labels: usize) -> usize {
        match self {
            Self::Sigmoid => labels,
            Self::Softmax => labels + 1,
        }
    }
}

/// Boxes `[N, 4]` as centres in fractions of the input, and logits `[N, C]` or `[N, C + 1]`.
pub(super) struct Detr<'o> {
    pub(super) boxes: &'o [f32],
    pub(super) logits: &'o [f32],
    pub(super) columns: usize,
    pub(super) activation: Activation,
}

impl Detr<'_> {
    fn by_sigmoid(&self, filter: &ScoreFilter, found: &mut dyn FnMut(Candidate)) {
        // Compared as a logit, so that few exponentials are computed. Without a margin, rounding could lose a score
        // that is exactly at the threshold.
        let threshold = filter.min_confidence.min(1.0 - f32::EPSILON);
        let least = (threshold / (1.0 - threshold)).ln() - 1e-3;
        for (anchor, row) in self.logits.chunks_exact(self.columns).enumerate() {
            for (column, logit) in row.iter().enumerate().filter(|(_, logit)| **logit >= least) {
                let confidence = 1.0 / (1.0 + (-logit).exp());
                if filter.accepts(confidence, column) {
                    found(Candidate { confidence, anchor, column });
                }
            }
        }
    }

    fn by_softmax(&self, filter: &ScoreFilter, found: &mut dyn FnMut(Candidate)) {
        for (anchor, row) in self.logits.chunks_exact(self.columns + 1).enumerate() {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = row.iter().map(|logit| (logit - largest).exp()).sum();
            let classes = row[..self.columns].iter().enumerate();
            let best = classes.max_by(|a, b| a.1.total_cmp(b.1));
            if let Some((column, logit)) = best {
                let confidence = (logit - largest).exp() / sum;
                if filter.accepts(confidence, column) {
                    found(Candidate { confidence, anchor, column });
                }
            }
        }
    }
}

impl Decoder for Detr<'_> {
    fn candidates(&self, filter: &ScoreFilter, found: &mut dyn FnMut(Candidate)) {
        match self.activation {
            Activation::Sigmoid => self.by_sigmoid(filter, found),
            Activation::Softmax => self.by_softmax(filter, found),
        }
    }

    fn corners(&self, anchor: usize) -> [f32; 4] {
        BoxFormat::Centre.corners(boxes::at(self.boxes, anchor))
    }

    /// None: logits may be any numbers.
    fn probabilities(&self, _: &mut dyn FnMut(f32)) {}
}

#[cfg(test)]
mod tests {
    use super::{Activation, Candidate, Decoder, Detr, ScoreFilter};

    fn found(activation: Activation, logits: &[f32], min_confidence: f32) -> Vec<Candidate> {
        let boxes = [0.5, 0.5, 0.2, 0.4];
        let head = Detr { boxes: &boxes, logits, columns: 2, activation };
        assert_eq!(head.corners(0), [0.4, 0.3, 0.6, 0.7]);
        let mut found = Vec::new();
        let filter = ScoreFilter { min_confidence, wanted: &[true, true] };
        head.candidates(&filter, &mut |candidate| found.push(candidate));
        found
    }

    #[test]
    fn by_sigmoid_each_class_counts_alone() {
        let both = found(Activation::Sigmoid, &[0.0, 3.0_f32.ln()], 0.5);
        assert_eq!(both.len(), 2);
        assert_eq!((both[0].confidence, both[0].column), (0.5, 0));
        assert!((both[1].confidence - 0.75).abs() < 1e-6, "{both:?}");
        assert!(found(Activation::Sigmoid, &[-9.0, -9.0], 0.5).is_empty());
        assert_eq!(found(Activation::Sigmoid, &[-90.0, -90.0], 0.0).len(), 2);
        assert_eq!(found(Activation::Sigmoid, &[90.0, -90.0], 1.0).len(), 1);
    }

    #[test]
    fn by_softmax_the_best_class_counts_unless_it_is_the_background() {
        // 6, 1 and 3 of 10.
        let logits = [6.0_f32.ln(), 0.0, 3.0_f32.ln()];
        let best = found(Activation::Softmax, &logits, 0.5);
        assert_eq!((best.len(), best[0].column), (1, 0));
        assert!((best[0].confidence - 0.6).abs() < 1e-6, "{best:?}");
        assert!(found(Activation::Softmax, &[0.0, 0.0, 9.0], 0.5).is_empty());
    }
}
