//! The vectors of x86-64: AVX2 with FMA, AVX-512, and SSE2 for processors with neither.

#![allow(clippy::wildcard_imports, reason = "intrinsics are named by their set")]

use core::arch::x86_64::*;

use super::{Lanes, MANTISSA_BITS, ONE};

/// Implements [`Lanes`] for a vector type from its intrinsics. `broadcast` loads one number into all lanes.
macro_rules! lanes {
    ($name:ident, $vector:ty, $count:literal, $load:ident, $store:ident, $splat:ident, $add:ident, $mul:ident,
     $min:ident, $max:ident, $div:ident, |$a:ident, $b:ident, $c:ident| $mul_add:expr,
     |$number:ident| $power_of_two:expr) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $name($vector);

        // SAFETY (all blocks): the caller promises that the processor has the instruction set and that the pointer
        // is valid for as many numbers as it says; the loads and stores need no alignment.
        #[allow(
            clippy::undocumented_unsafe_blocks,
            reason = "one comment above holds for every method"
        )]
        impl Lanes for $name {
            const COUNT: usize = $count;

            #[inline(always)]
            unsafe fn load(source: *const f32) -> Self {
                Self(unsafe { $load(source) })
            }

            #[inline(always)]
            unsafe fn store(self, target: *mut f32) {
                unsafe { $store(target, self.0) }
            }

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                Self(unsafe { $splat(value) })
            }

            #[inline(always)]
            unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
                let ($a, $b, $c) = (self.0, factor.0, summand.0);
                Self(unsafe { $mul_add })
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                Self(unsafe { $mul(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn min(self, other: Self) -> Self {
                // The instruction returns its second operand if one is not a number.
                Self(unsafe { $min(other.0, self.0) })
            }

            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                Self(unsafe { $max(other.0, self.0) })
            }

            #[inline(always)]
            unsafe fn div(self, divisor: Self) -> Self {
                Self(unsafe { $div(self.0, divisor.0) })
            }

            #[inline(always)]
            unsafe fn power_of_two(self) -> Self {
                let $number = self.0;
                Self(unsafe { $power_of_two })
            }
        }
    };
}

lanes!(
    Avx2,
    __m256,
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_add_ps,
    _mm256_mul_ps,
    _mm256_min_ps,
    _mm256_max_ps,
    _mm256_div_ps,
    |a, b, c| _mm256_fmadd_ps(a, b, c),
    |number| _mm256_castsi256_ps(_mm256_add_epi32(
        _mm256_slli_epi32::<{ MANTISSA_BITS as i32 }>(_mm256_castps_si256(number)),
        _mm256_set1_epi32(ONE as i32)
    ))
);
lanes!(
    Avx512,
    __m512,
    16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_add_ps,
    _mm512_mul_ps,
    _mm512_min_ps,
    _mm512_max_ps,
    _mm512_div_ps,
    |a, b, c| _mm512_fmadd_ps(a, b, c),
    |number| _mm512_castsi512_ps(_mm512_add_epi32(
        _mm512_slli_epi32::<{ MANTISSA_BITS }>(_mm512_castps_si512(number)),
        _mm512_set1_epi32(ONE as i32)
    ))
);
lanes!(
    Sse2,
    __m128,
    4,
    _mm_loadu_ps,
    _mm_storeu_ps,
    _mm_set1_ps,
    _mm_add_ps,
    _mm_mul_ps,
    _mm_min_ps,
    _mm_max_ps,
    _mm_div_ps,
    |a, b, c| _mm_add_ps(_mm_mul_ps(a, b), c),
    |number| _mm_castsi128_ps(_mm_add_epi32(
        _mm_slli_epi32::<{ MANTISSA_BITS as i32 }>(_mm_castps_si128(number)),
        _mm_set1_epi32(ONE as i32)
    ))
);
