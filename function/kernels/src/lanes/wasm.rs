//! WebAssembly's 128-bit vectors.

#![allow(clippy::wildcard_imports, reason = "intrinsics are named by their set")]

use core::arch::wasm32::*;

use super::{Lanes, MANTISSA_BITS, ONE};

/// Four lanes.
#[derive(Clone, Copy)]
pub(crate) struct Simd128(pub(crate) v128);

impl Lanes for Simd128 {
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        // SAFETY: the caller's promise; WebAssembly allows any alignment.
        Self(unsafe { v128_load(source.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32) {
        // SAFETY: the caller's promise; WebAssembly allows any alignment.
        unsafe { v128_store(target.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(f32x4_splat(value))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        #[cfg(target_feature = "relaxed-simd")]
        return Self(f32x4_relaxed_madd(self.0, factor.0, summand.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        return Self(f32x4_add(f32x4_mul(self.0, factor.0), summand.0));
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(f32x4_add(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(f32x4_mul(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(f32x4_pmin(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(f32x4_pmax(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn div(self, divisor: Self) -> Self {
        Self(f32x4_div(self.0, divisor.0))
    }

    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        Self(i32x4_add(i32x4_shl(self.0, MANTISSA_BITS), u32x4_splat(ONE)))
    }
}
