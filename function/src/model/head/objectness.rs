//! YOLOv5, v7 and YOLOX: one output with a row for each box, in which a score is objectness times class.
//!
//! Sources: Ultralytics' yolov5, `models/yolo.py`, class `Detect`, whose boxes are in pixels; Megvii's YOLOX,
//! `yolox/models/yolo_head.py`, `decode_outputs`, whose boxes are decoded here.

use super::boxes::{BoxFormat, scaled};
use super::{Candidate, Decoder, Filter};
use crate::model::Input;

/// `[N, 5 + C]`: x, y, width, height, objectness, then the classes.
pub(super) struct Objectness<'o> {
    pub(super) rows: &'o [f32],
    pub(super) columns: usize,
    /// How boxes are decoded, unless they are in pixels already.
    pub(super) grid: Option<Grid>,
    pub(super) scale: (f32, f32),
}

/// YOLOX's strides.
pub(super) fn strides() -> Vec<u32> {
    vec![8, 16, 32]
}

/// The number of cells of all strides.
pub(super) fn cells(strides: &[u32], input: &Input) -> usize {
    Grid::new(strides, input).levels.iter().map(|level| level.columns * level.rows).sum()
}

/// The cells of the grids, stride by stride, each from left to right and from top to bottom.
pub(super) struct Grid {
    levels: Vec<Level>,
}

struct Level {
    stride: f32,
    columns: usize,
    rows: usize,
}

impl Grid {
    pub(super) fn new(strides: &[u32], input: &Input) -> Self {
        let level = |&stride: &u32| {
            let cells = |side: u32| side.checked_div(stride).unwrap_or_default() as usize;
            Level { stride: stride as f32, columns: cells(input.width), rows: cells(input.height) }
        };
        Self { levels: strides.iter().map(level).collect() }
    }

    /// The stride, and the column and row, of a cell.
    fn cell(&self, anchor: usize) -> (f32, [f32; 2]) {
        let mut index = anchor;
        for Level { stride, columns, rows } in &self.levels {
            if index < columns * rows {
                return (*stride, [(index % columns) as f32, (index / columns) as f32]);
            }
            index -= columns * rows;
        }
        (0.0, [0.0, 0.0])
    }

    /// A box in pixels.
    fn decode(&self, [x, y, width, height]: [f32; 4], anchor: usize) -> [f32; 4] {
        let (stride, [column, row]) = self.cell(anchor);
        [(x + column) * stride, (y + row) * stride, width.exp() * stride, height.exp() * stride]
    }
}

impl Decoder for Objectness<'_> {
    fn candidates(&self, filter: &Filter, found: &mut dyn FnMut(Candidate)) {
        for (anchor, row) in self.rows.chunks_exact(5 + self.columns).enumerate() {
            let objectness = row[4];
            // No class makes a score larger.
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
    use super::{Candidate, Decoder, Filter, Grid, Level, Objectness};

    fn found(head: &Objectness) -> Vec<Candidate> {
        let mut found = Vec::new();
        let filter = Filter { min_confidence: 0.5, wanted: &[true, true] };
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

    #[test]
    fn a_cell_is_found_by_its_number_and_its_box_by_its_stride() {
        let level = |stride, columns, rows| Level { stride, columns, rows };
        let grid = Grid { levels: vec![level(8.0, 4, 2), level(16.0, 2, 1)] };
        assert_eq!(grid.cell(0), (8.0, [0.0, 0.0]));
        assert_eq!(grid.cell(6), (8.0, [2.0, 1.0]));
        assert_eq!(grid.cell(9), (16.0, [1.0, 0.0]));
        // Beyond the last cell: an empty box.
        assert_eq!(grid.cell(10), (0.0, [0.0, 0.0]));
        let width = 2.0_f32.ln();
        assert_eq!(grid.decode([0.5, 0.25, width, 0.0], 9), [24.0, 4.0, width.exp() * 16.0, 16.0]);
    }
}
