//! The activation function that a convolution applies to its sums.

use crate::element_wise::Function;
use crate::lanes::Lanes;

/// `clamp(max(x, slope · x), low, high)`: the identity, Clip, ReLU, ReLU6 and LeakyReLU of ONNX; then perhaps a function
/// that takes longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Activation {
    /// The factor for negative numbers, 0 to 1; 1 for none.
    pub(crate) slope: f32,
    pub(crate) low: f32,
    pub(crate) high: f32,
    /// Applied to what is stored, band by band, while it is in the cache: the sums leave no registers for it.
    pub(crate) function: Option<Function>,
}

impl Activation {
    /// No activation.
    pub(crate) const IDENTITY: Self =
        Self { slope: 1.0, low: f32::NEG_INFINITY, high: f32::INFINITY, function: None };

    /// This activation, followed by a lower bound.
    pub(crate) fn at_least(self, bound: f32) -> Self {
        Self { low: self.low.max(bound), high: self.high.max(bound), ..self }
    }

    /// This activation, followed by an upper bound.
    pub(crate) fn at_most(self, bound: f32) -> Self {
        Self { low: self.low.min(bound), high: self.high.min(bound), ..self }
    }

    /// Applies the function to numbers that are stored.
    pub(crate) fn finish(self, output: &mut [f32]) {
        if let Some(function) = self.function {
            function.apply(output);
        }
    }

    /// The activation in vectors, without the function.
    ///
    /// # Safety
    /// The processor has the instruction set of `L`.
    #[inline(always)]
    pub(crate) unsafe fn vectors<L: Lanes>(self) -> ActivationVectors<L> {
        // SAFETY: the caller's promise.
        unsafe {
            ActivationVectors {
                slope: L::splat(self.slope),
                low: L::splat(self.low),
                high: L::splat(self.high),
            }
        }
    }
}

/// An [`Activation`] with each number in all lanes.
#[derive(Clone, Copy)]
pub(crate) struct ActivationVectors<L> {
    slope: L,
    low: L,
    high: L,
}

impl<L: Lanes> ActivationVectors<L> {
    /// # Safety
    /// The processor has the instruction set of `L`.
    #[inline(always)]
    pub(crate) unsafe fn apply(self, sums: L) -> L {
        // SAFETY: the caller's promise.
        unsafe { sums.max(sums.mul(self.slope)).max(self.low).min(self.high) }
    }
}
