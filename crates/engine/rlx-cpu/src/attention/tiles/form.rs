//! How tiles hold numbers in 16 bits.

use std::arch::x86_64::*;

use super::{Square, amx, fixed};
use crate::math::simd::{Avx512, Simd};

/// A form of numbers, and what multiplies tiles of it.
///
/// # Safety
/// Every function is called on a processor with the form's instructions, and inlined into code that is compiled for them.
pub(super) trait Form {
    /// Largest length of a row of queries or keys, which is scaled to it; none leaves rows as they are.
    const ROW: Option<f32>;
    /// Largest value of a channel of values, which is scaled to it; none leaves channels as they are.
    const VALUE: Option<f32>;
    /// What a weight of 1 is kept as.
    const WEIGHT: f32;
    /// A sum of weights as they are kept.
    type Sum: Copy;

    /// 32 numbers of one row, in an order of the form's own.
    unsafe fn join(low: Avx512, high: Avx512) -> __m512i;
    /// 16 numbers of one row and 16 of the next, in pairs.
    unsafe fn pairs(low: Avx512, high: Avx512) -> __m512i;
    /// No sum yet.
    unsafe fn nothing() -> Self::Sum;
    /// As [`pairs`](Form::pairs), of weights of 16 columns for two tokens, which are added to the sum.
    unsafe fn weights(low: Avx512, high: Avx512, sum: &mut Self::Sum) -> __m512i;
    /// The sum, with weights of up to 1.
    unsafe fn sum(sum: Self::Sum) -> Avx512;
    /// The product of tiles.
    const SQUARE: Square;
}

/// bf16, multiplied by the AMX unit: rounds to eight bits.
pub(super) struct Bf16;

// SAFETY of the blocks: the caller's promise; permutations are within 64 bytes of plain data.
impl Form for Bf16 {
    const ROW: Option<f32> = None;
    const VALUE: Option<f32> = None;
    const WEIGHT: f32 = 1.0;
    type Sum = [Avx512; 2];

    #[inline(always)]
    unsafe fn join(low: Avx512, high: Avx512) -> __m512i {
        // SAFETY: see above.
        unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high.0, low.0)) }
    }
    #[inline(always)]
    unsafe fn pairs(low: Avx512, high: Avx512) -> __m512i {
        let mut order = [0u16; 32];
        for i in 0..32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
        }
        // SAFETY: see above.
        unsafe { _mm512_permutexvar_epi16(std::mem::transmute::<[u16; 32], __m512i>(order), Self::join(low, high)) }
    }
    #[inline(always)]
    unsafe fn nothing() -> [Avx512; 2] {
        [Avx512::zero(); 2]
    }
    #[inline(always)]
    unsafe fn weights(low: Avx512, high: Avx512, sum: &mut [Avx512; 2]) -> __m512i {
        *sum = [sum[0] + low, sum[1] + high];
        // SAFETY: see above.
        unsafe { Self::pairs(low, high) }
    }
    #[inline(always)]
    unsafe fn sum(sum: [Avx512; 2]) -> Avx512 {
        sum[0] + sum[1]
    }
    const SQUARE: Square = amx::square;
}

/// Integers, multiplied by `vpdpwssd`. Rows of queries and keys have a length of 2^15, so that no product of two exceeds some 2^30
/// whatever their width (Cauchy and Schwarz); numbers are rounded to within a 65,000th part of their row's length.
pub(super) struct Fixed;

impl Fixed {
    /// Sums of a tile's 64 products of weights and values are within 32 bits.
    const LARGEST_WEIGHT: f32 = 16383.0;
    const LARGEST_VALUE: f32 = 2047.0;
}

const _: () = assert!(
    Fixed::LARGEST_WEIGHT as i64 * Fixed::LARGEST_VALUE as i64 * (crate::attention::plan::TILE_TOKENS as i64) < 1 << 31
);

// SAFETY of the blocks: the caller's promise.
impl Form for Fixed {
    const ROW: Option<f32> = Some(32767.0);
    const VALUE: Option<f32> = Some(Self::LARGEST_VALUE);
    const WEIGHT: f32 = Self::LARGEST_WEIGHT;
    type Sum = [__m512i; 2];

    #[inline(always)]
    unsafe fn join(low: Avx512, high: Avx512) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_packs_epi32(_mm512_cvtps_epi32(low.0), _mm512_cvtps_epi32(high.0)) }
    }
    #[inline(always)]
    unsafe fn pairs(low: Avx512, high: Avx512) -> __m512i {
        // SAFETY: see above.
        unsafe {
            let high = _mm512_slli_epi32::<16>(_mm512_cvtps_epi32(high.0));
            _mm512_mask_blend_epi16(0xAAAA_AAAA, _mm512_cvtps_epi32(low.0), high)
        }
    }
    #[inline(always)]
    unsafe fn nothing() -> [__m512i; 2] {
        // SAFETY: see above.
        unsafe { [_mm512_setzero_si512(); 2] }
    }
    #[inline(always)]
    unsafe fn weights(low: Avx512, high: Avx512, sum: &mut [__m512i; 2]) -> __m512i {
        // SAFETY: see above.
        unsafe {
            let (low, high) = (_mm512_cvtps_epi32(low.0), _mm512_cvtps_epi32(high.0));
            *sum = [_mm512_add_epi32(sum[0], low), _mm512_add_epi32(sum[1], high)];
            // Weights are not negative.
            _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
        }
    }
    #[inline(always)]
    unsafe fn sum(sum: [__m512i; 2]) -> Avx512 {
        // SAFETY: see above.
        let sum = unsafe { _mm512_cvtepi32_ps(_mm512_add_epi32(sum[0], sum[1])) };
        Avx512(sum) * Avx512::splat(1.0 / Self::LARGEST_WEIGHT)
    }
    const SQUARE: Square = fixed::square;
}
