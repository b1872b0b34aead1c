//! Groups of the packed layout in registers.

use std::arch::x86_64::*;

use crate::linear::format::{CODEBOOK, Format, PANEL};

/// The eight logical lines of a group: unsigned bytes, a row per 32-bit lane.
///
/// # Safety
/// `quants` holds a group of `F`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn lines<F: Format>(quants: *const u8) -> [__m512i; 8] {
    let mut out = [_mm512_setzero_si512(); 8];
    // SAFETY: a group has `BITS` lines.
    let load = |i: usize| unsafe { _mm512_loadu_si512(quants.add(64 * i).cast()) };
    let low4 = _mm512_set1_epi8(0x0F);
    match F::BITS {
        8 => {
            for (j, out) in out.iter_mut().enumerate() {
                *out = load(j);
            }
            return out;
        }
        4..=6 => {
            for i in 0..4 {
                let line = load(i);
                out[i] = _mm512_and_si512(line, low4);
                out[i + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(line), low4);
            }
        }
        _ => {
            let low2 = _mm512_set1_epi8(3);
            for i in 0..2 {
                let line = load(i);
                out[4 * i] = _mm512_and_si512(line, low2);
                out[4 * i + 1] = _mm512_and_si512(_mm512_srli_epi16::<2>(line), low2);
                out[4 * i + 2] = _mm512_and_si512(_mm512_srli_epi16::<4>(line), low2);
                out[4 * i + 3] = _mm512_and_si512(_mm512_srli_epi16::<6>(line), low2);
            }
        }
    }
    match F::BITS {
        // One more bit a line: bytes that have bit j set get it added.
        3 | 5 => {
            let high = load(if F::BITS == 5 { 4 } else { 2 });
            let bit = _mm512_set1_epi8(if F::BITS == 5 { 16 } else { 4 });
            for (j, out) in out.iter_mut().enumerate() {
                let set = _mm512_test_epi8_mask(high, _mm512_set1_epi8((1u8 << j) as i8));
                *out = _mm512_mask_add_epi8(*out, set, *out, bit);
            }
        }
        6 => {
            // Two more bits: the wanted pair moves to bits 4 and 5, and is merged where the mask is set.
            let mask = _mm512_set1_epi8(0x30);
            const MERGE: i32 = 0xF8; // a | (b & c)
            for h in 0..2 {
                let high = load(4 + h);
                let pairs =
                    [_mm512_slli_epi16::<4>(high), _mm512_slli_epi16::<2>(high), high, _mm512_srli_epi16::<2>(high)];
                for (j, pair) in pairs.into_iter().enumerate() {
                    out[4 * h + j] = _mm512_ternarylogic_epi32::<MERGE>(out[4 * h + j], pair, mask);
                }
            }
        }
        _ => {}
    }
    if F::CODES {
        // SAFETY: the codebook has 16 bytes.
        let table = unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(CODEBOOK.as_ptr().cast())) };
        for out in out.iter_mut() {
            *out = _mm512_shuffle_epi8(table, *out);
        }
    }
    out
}

/// 16 f16 as f32.
///
/// # Safety
/// `p` points to 32 readable bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load_f16(p: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(p.cast()) })
}

/// `d` and `dmin` (0 without minima) of a block whose scales belong to 256 columns; zeros for other types.
///
/// # Safety
/// `header` points to a block of `F`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn super_scales<F: Format>(header: *const u8) -> (__m512, __m512) {
    let zero = _mm512_setzero_ps();
    if !F::SUPER {
        return (zero, zero);
    }
    // SAFETY: the header starts with 16 f16 `d`, then `dmin` if there are minima.
    unsafe {
        let dmin = if F::MIN_SIGN != 0 { load_f16(header.add(2 * PANEL)) } else { zero };
        // Minima stay six bits up in their words; powers of two change no digit.
        let dmin = if F::SIX_BIT_SCALES { _mm512_mul_ps(dmin, _mm512_set1_ps(1.0 / 64.0)) } else { dmin };
        (load_f16(header), dmin)
    }
}

/// Scale and unsigned minimum (`d * scale`, `dmin * min`) of the rows for scale `s` of group `group`, given [`super_scales`].
///
/// # Safety
/// `header` points to a block of `F` with more than `group` groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn group_scales<F: Format>(
    header: *const u8,
    group: usize,
    s: usize,
    (d, dmin): (__m512, __m512),
) -> (__m512, __m512) {
    let zero = _mm512_setzero_ps();
    // SAFETY: the group's scales lie in the header.
    unsafe {
        let own = header.add(F::SUPER_BYTES + group * F::GROUP_SCALE_BYTES);
        if !F::SUPER {
            let m = if F::MIN_SIGN != 0 { load_f16(own.add(2 * PANEL)) } else { zero };
            return (load_f16(own), m);
        }
        if !F::SUBSCALES {
            return (d, zero);
        }
        if F::SIX_BIT_SCALES {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(own.cast()));
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(own.add(PANEL).cast()));
            let high = _mm256_or_si256(_mm256_srli_epi32::<12>(words), _mm256_slli_epi32::<4>(bytes));
            let bits = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(words), high);
            let scale = _mm512_cvtepi32_ps(_mm512_and_si512(bits, _mm512_set1_epi32(63)));
            let min = _mm512_cvtepi32_ps(_mm512_and_si512(bits, _mm512_set1_epi32(63 << 6)));
            return (_mm512_mul_ps(d, scale), _mm512_mul_ps(dmin, min));
        }
        let bytes = _mm_loadu_si128(own.add(PANEL * s).cast());
        if F::NIBBLE_SCALES {
            let wide = _mm512_cvtepu8_epi32(bytes);
            let scale = _mm512_cvtepi32_ps(_mm512_and_si512(wide, _mm512_set1_epi32(15)));
            let min = _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(wide));
            return (_mm512_mul_ps(d, scale), _mm512_mul_ps(dmin, min));
        }
        let scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)));
        if F::MIN_SIGN == 0 {
            return (scale, zero);
        }
        let min = _mm_loadu_si128(own.add(PANEL * (F::SCALES + s)).cast());
        (scale, _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(min))))
    }
}
