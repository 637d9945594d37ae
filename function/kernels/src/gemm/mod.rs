//! The kernel of all other convolutions: a product of the image's windows with the weights.
//!
//! The windows are read as they are, one after another, so those of a pointwise convolution are its input. The weights
//! are packed once. Each tile of the product stays
//! in registers while the sum over the window is computed; bias, residual and activation are applied as it is stored.

#[cfg_attr(target_arch = "wasm32", path = "dot.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "outer.rs")]
mod form;

use crate::activation::Activation;
use crate::instructions::Instructions;
use crate::lanes::Lanes;

/// The steps of the sum that a kernel takes at once. Windows are padded with zeros to a multiple of it.
pub(crate) const STEP: usize = 4;

/// Weights, packed for one instruction set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packed {
    instructions: Instructions,
    /// The number of outputs of a window.
    columns: usize,
    /// The numbers of a window: a multiple of [`STEP`].
    window: usize,
    weights: Vec<f32>,
    /// Padded with zeros to whole panels.
    bias: Vec<f32>,
}

/// Weights before packing: `[columns, window]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'w> {
    pub(crate) values: &'w [f32],
    /// One for each column.
    pub(crate) bias: &'w [f32],
}

/// What happens to a sum before it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epilogue<'r> {
    /// Added to the sums, in the shape of the output.
    pub(crate) residual: Option<&'r [f32]>,
    pub(crate) activation: Activation,
}

impl Packed {
    /// Packs weights for an instruction set.
    pub(crate) fn new(weights: Weights, instructions: Instructions) -> Self {
        let columns = weights.bias.len();
        let length = weights.values.len() / columns.max(1);
        let window = length.next_multiple_of(STEP);
        let panel = form::panel_columns(instructions);
        let padded_columns = columns.next_multiple_of(panel);
        let mut packed = vec![0.0; padded_columns * window];
        for (index, &value) in weights.values.iter().enumerate() {
            packed[form::position(index / length, index % length, window, panel)] = value;
        }
        let mut bias = weights.bias.to_vec();
        bias.resize(padded_columns, 0.0);
        Self { instructions, columns, window, weights: packed, bias }
    }

    /// The numbers of a window: a multiple of [`STEP`].
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Computes `output`, `[rows, columns]`, from `windows`, `[rows, window]`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn multiply(&self, windows: &[f32], epilogue: Epilogue, output: &mut [f32]) {
        let Epilogue { residual, activation } = epilogue;
        let rows = windows.len() / self.window;
        assert_eq!(windows.len(), rows * self.window, "windows");
        assert_eq!(output.len(), rows * self.columns, "output");
        assert!(residual.is_none_or(|residual| residual.len() == output.len()), "residual");
        let product = Product {
            packed: self,
            rows,
            windows: windows.as_ptr(),
            residual: residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
            activation,
            output: output.as_mut_ptr(),
        };
        // SAFETY: the lengths were checked above, and weights are packed for instructions that the processor has.
        unsafe { form::product(&product) }
    }
}

/// The operands of a product, whose lengths [`Packed::multiply`] has checked.
struct Product<'p> {
    packed: &'p Packed,
    rows: usize,
    windows: *const f32,
    /// Null if there is none.
    residual: *const f32,
    activation: Activation,
    output: *mut f32,
}

impl Product<'_> {
    /// A window.
    fn row(&self, row: usize) -> *const f32 {
        self.windows.wrapping_add(row * self.packed.window)
    }

    /// Adds the residual and applies the activation to the sums of one row, from `column` on, and stores them. The
    /// sums beyond the last column are dropped.
    ///
    /// # Safety
    /// The row and the column are within the output, and the processor has the instruction set of `L`.
    #[inline(always)]
    unsafe fn store<L: Lanes>(&self, row: usize, column: usize, sums: L) {
        let columns = self.packed.columns;
        let position = row * columns + column;
        // SAFETY: whole vectors are read and written only if they end within the row.
        unsafe {
            let activation = self.activation.vectors::<L>();
            if column + L::COUNT <= columns {
                let mut sums = sums;
                if !self.residual.is_null() {
                    sums = sums.add(L::load(self.residual.add(position)));
                }
                activation.apply(sums).store(self.output.add(position));
            } else {
                let mut numbers = [0.0_f32; MAX_LANES];
                let count = columns - column;
                if !self.residual.is_null() {
                    std::ptr::copy_nonoverlapping(
                        self.residual.add(position),
                        numbers.as_mut_ptr(),
                        count,
                    );
                }
                let sums = activation.apply(sums.add(L::load(numbers.as_ptr())));
                sums.store(numbers.as_mut_ptr());
                std::ptr::copy_nonoverlapping(numbers.as_ptr(), self.output.add(position), count);
            }
        }
    }
}

/// The most lanes of any instruction set.
const MAX_LANES: usize = 16;
