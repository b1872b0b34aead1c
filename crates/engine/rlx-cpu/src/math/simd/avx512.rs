//! Sixteen lanes of AVX-512.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use half::{bf16, f16};

use super::Simd;

/// A ZMM register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(crate) __m512);

macro_rules! operator {
    ($trait:ident, $method:ident, $intrinsic:ident) => {
        impl $trait for Avx512 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: this type is only used in code compiled for AVX-512 (see `simd_dispatch!`).
                Avx512(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    };
}
operator!(Add, add, _mm512_add_ps);
operator!(Sub, sub, _mm512_sub_ps);
operator!(Mul, mul, _mm512_mul_ps);
operator!(Div, div, _mm512_div_ps);

/// Lanes below `n` set, for masked loads and stores.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

// SAFETY of every block below: the instruction set is there (this type is only used in code compiled for AVX-512, see
// `simd_dispatch!`), and pointers are valid by the caller's promise.
impl Simd for Avx512 {
    const LANES: usize = 16;
    type Mask = __mmask16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see above.
        Avx512(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: see above.
        Avx512(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        // SAFETY: see above; masked lanes are not touched.
        Avx512(unsafe { _mm512_maskz_loadu_ps(first(n), p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        // SAFETY: see above; masked lanes are not touched.
        unsafe { _mm512_mask_storeu_ps(p, first(n), self.0) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: see above.
        Avx512(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16) {
        // SAFETY: see above.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let high = _mm512_srli_epi32::<16>(bits);
            let odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
            let nearest = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
            // Rounding could carry away what makes a NaN one.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
            let words = _mm512_mask_mov_epi32(nearest, nan, quiet);
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(words));
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: see above.
        Avx512(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        Avx512(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above. The instruction returns its second operand when either is NaN.
        Avx512(unsafe { _mm512_max_ps(other.0, self.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        Avx512(unsafe { _mm512_min_ps(other.0, self.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        Avx512(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see above. Zero fraction bits, ties to even.
        Avx512(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        // SAFETY: see above.
        Avx512(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }
    #[inline(always)]
    fn lt(self, other: Self) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn select(mask: __mmask16, yes: Self, no: Self) -> Self {
        // SAFETY: see above.
        Avx512(unsafe { _mm512_mask_blend_ps(mask, no.0, yes.0) })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn store_sums(v: [Self; 4], p: *mut f32) {
        // SAFETY: see above.
        unsafe {
            let [a, b, c, d] = v.map(|v| v.0);
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let x = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xEE>(ab, cd));
            let x = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x)));
        }
    }
    #[inline(always)]
    unsafe fn transpose(src: *const f32, src_stride: usize, dst: *mut f32, dst_stride: usize) {
        // SAFETY: see above.
        unsafe {
            // Each register takes the same quarter of rows r, r + 4, r + 8, r + 12, so that the shuffles within 128 bits
            // finish the job. No closures: they would be functions without the features.
            for quarter in 0..4 {
                let mut r = [_mm512_setzero_ps(); 4];
                for (i, r) in r.iter_mut().enumerate() {
                    let row = src.add(i * src_stride + quarter * 4);
                    let x = _mm512_castps128_ps512(_mm_loadu_ps(row));
                    let x = _mm512_insertf32x4::<1>(x, _mm_loadu_ps(row.add(4 * src_stride)));
                    let x = _mm512_insertf32x4::<2>(x, _mm_loadu_ps(row.add(8 * src_stride)));
                    *r = _mm512_insertf32x4::<3>(x, _mm_loadu_ps(row.add(12 * src_stride)));
                }
                let lo01 = _mm512_unpacklo_ps(r[0], r[1]);
                let hi01 = _mm512_unpackhi_ps(r[0], r[1]);
                let lo23 = _mm512_unpacklo_ps(r[2], r[3]);
                let hi23 = _mm512_unpackhi_ps(r[2], r[3]);
                let columns = [
                    _mm512_shuffle_ps::<0x44>(lo01, lo23),
                    _mm512_shuffle_ps::<0xEE>(lo01, lo23),
                    _mm512_shuffle_ps::<0x44>(hi01, hi23),
                    _mm512_shuffle_ps::<0xEE>(hi01, hi23),
                ];
                for (i, column) in columns.into_iter().enumerate() {
                    _mm512_storeu_ps(dst.add((quarter * 4 + i) * dst_stride), column);
                }
            }
        }
    }
    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: prefetching has no effect but on speed, at any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_first(p: *const u8) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
