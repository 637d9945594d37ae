//! Vectors of f32 lanes: one trait, implemented for each instruction set that the kernels run on.

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
pub(crate) mod portable;
mod two;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) mod wasm;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Sse2 as Lanes4;

pub(crate) use self::two::Two;
#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]
pub(crate) use portable::Portable as Lanes4;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use wasm::Simd128 as Lanes4;

/// A vector of f32 lanes.
///
/// The methods are inlined into kernels that are compiled for the instruction set, so a caller must make sure that
/// the processor has it.
pub(crate) trait Lanes: Copy {
    /// The number of lanes.
    const COUNT: usize;

    /// # Safety
    /// `source` is valid for reads of [`Lanes::COUNT`] numbers. The processor has the instruction set.
    unsafe fn load(source: *const f32) -> Self;

    /// # Safety
    /// `target` is valid for writes of [`Lanes::COUNT`] numbers. The processor has the instruction set.
    unsafe fn store(self, target: *mut f32);

    /// # Safety
    /// The processor has the instruction set.
    unsafe fn splat(value: f32) -> Self;

    /// `self * factor + summand`, rounded once or twice.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self;

    /// # Safety
    /// The processor has the instruction set.
    unsafe fn add(self, other: Self) -> Self;

    /// # Safety
    /// The processor has the instruction set.
    unsafe fn mul(self, other: Self) -> Self;

    /// The smaller numbers. Where one of `self` is not a number, it stays.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn min(self, other: Self) -> Self;

    /// The larger numbers. Where one of `self` is not a number, it stays.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn max(self, other: Self) -> Self;

    /// # Safety
    /// The processor has the instruction set.
    unsafe fn div(self, divisor: Self) -> Self;

    /// Two to the power of whole numbers from -126 to 127, each given as its sum with [`EXPONENT_OFFSET`].
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn power_of_two(self) -> Self;
}

/// 1.5 * 2^23. Adding a small number leaves it, rounded, in the sum's lowest bits.
pub(crate) const EXPONENT_OFFSET: f32 = 12_582_912.0;

/// The bits of a float after its exponent.
const MANTISSA_BITS: u32 = 23;

/// The bits of 1, which is 2 to the power of 0.
const ONE: u32 = 127 << MANTISSA_BITS;
