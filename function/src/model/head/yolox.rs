//! YOLOX: boxes as offsets within the cells of a grid for each stride.
//!
//! Source: Megvii's YOLOX, `yolox/models/yolo_head.py`, `decode_outputs`.

use crate::model::InputConfig;

/// YOLOX's strides.
pub(super) fn strides() -> Vec<u32> {
    vec![8, 16, 32]
}

/// The number of cells of all strides.
pub(super) fn cells(strides: &[u32], input: &InputConfig) -> usize {
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
    pub(super) fn new(strides: &[u32], input: &InputConfig) -> Self {
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
    pub(super) fn decode(&self, [x, y, width, height]: [f32; 4], anchor: usize) -> [f32; 4] {
        let (stride, [column, row]) = self.cell(anchor);
        [(x + column) * stride, (y + row) * stride, width.exp() * stride, height.exp() * stride]
    }
}

#[cfg(test)]
mod tests {
    use super::{Grid, Level};

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
