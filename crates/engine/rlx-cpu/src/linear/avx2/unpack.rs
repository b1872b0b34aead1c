//! Groups of the packed layout in registers, 8 rows at a time.

use std::arch::x86_64::*;

use crate::linear::format::{CODEBOOK, Format, PANEL};

/// Weights are fetched from memory into the second-level cache this far ahead of the arithmetic,
pub(super) const FAR: usize = 4096;
/// and this far ahead into the first: few of its misses can wait for memory at a time.
const NEAR: usize = 512;

/// Rows of half a line.
pub(super) const HALF: usize = 8;

/// One half of the eight logical lines of a group: unsigned bytes, a row per 32-bit lane.
///
/// # Safety
/// `quants` points to a group of `F`, plus 32 for the second half.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn lines<F: Format>(quants: *const u8) -> [__m256i; 8] {
    let mut out = [_mm256_setzero_si256(); 8];
    // SAFETY: a group has `BITS` lines.
    let load = |i: usize| unsafe { _mm256_loadu_si256(quants.add(64 * i).cast()) };
    let low4 = _mm256_set1_epi8(0x0F);
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
                out[i] = _mm256_and_si256(line, low4);
                out[i + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(line), low4);
            }
        }
        _ => {
            let low2 = _mm256_set1_epi8(3);
            for i in 0..2 {
                let line = load(i);
                out[4 * i] = _mm256_and_si256(line, low2);
                out[4 * i + 1] = _mm256_and_si256(_mm256_srli_epi16::<2>(line), low2);
                out[4 * i + 2] = _mm256_and_si256(_mm256_srli_epi16::<4>(line), low2);
                out[4 * i + 3] = _mm256_and_si256(_mm256_srli_epi16::<6>(line), low2);
            }
        }
    }
    match F::BITS {
        // One more bit a line: where bit j is set, the comparison gives all ones, of which one bit is kept.
        3 | 5 => {
            let high = load(if F::BITS == 5 { 4 } else { 2 });
            let bit = _mm256_set1_epi8(if F::BITS == 5 { 16 } else { 4 });
            for (j, out) in out.iter_mut().enumerate() {
                let select = _mm256_set1_epi8((1u8 << j) as i8);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(high, select), select);
                *out = _mm256_or_si256(*out, _mm256_and_si256(set, bit));
            }
        }
        6 => {
            let mask = _mm256_set1_epi8(0x30);
            for h in 0..2 {
                let high = load(4 + h);
                let pairs =
                    [_mm256_slli_epi16::<4>(high), _mm256_slli_epi16::<2>(high), high, _mm256_srli_epi16::<2>(high)];
                for (j, pair) in pairs.into_iter().enumerate() {
                    out[4 * h + j] = _mm256_or_si256(out[4 * h + j], _mm256_and_si256(pair, mask));
                }
            }
        }
        _ => {}
    }
    if F::CODES {
        // SAFETY: the codebook has 16 bytes.
        let table = unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(CODEBOOK.as_ptr().cast())) };
        for out in out.iter_mut() {
            *out = _mm256_shuffle_epi8(table, *out);
        }
    }
    out
}

/// 8 f16 as f32.
///
/// # Safety
/// `p` points to 16 readable bytes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn load_f16(p: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(p.cast()) })
}

/// `d` and `dmin` (0 without minima) of the rows of a half, of a block whose scales belong to 256 columns; zeros for other
/// types.
///
/// # Safety
/// `header` points to a block of `F`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn super_scales<F: Format>(header: *const u8, half: usize) -> (__m256, __m256) {
    let zero = _mm256_setzero_ps();
    if !F::SUPER {
        return (zero, zero);
    }
    // SAFETY: the header starts with 16 f16 `d`, then `dmin` if there are minima.
    unsafe {
        let own = header.add(2 * HALF * half);
        let dmin = if F::MIN_SIGN != 0 { load_f16(own.add(2 * PANEL)) } else { zero };
        // Minima stay six bits up in their words; powers of two change no digit.
        let dmin = if F::SIX_BIT_SCALES { _mm256_mul_ps(dmin, _mm256_set1_ps(1.0 / 64.0)) } else { dmin };
        (load_f16(own), dmin)
    }
}

/// Scale and unsigned minimum (`d * scale`, `dmin * min`) of the rows of a half for scale `s` of group `group`, given
/// [`super_scales`].
///
/// # Safety
/// `header` points to a block of `F` with more than `group` groups.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn group_scales<F: Format>(
    header: *const u8,
    half: usize,
    group: usize,
    s: usize,
    (d, dmin): (__m256, __m256),
) -> (__m256, __m256) {
    let zero = _mm256_setzero_ps();
    // SAFETY: the group's scales lie in the header.
    unsafe {
        let own = header.add(F::SUPER_BYTES + group * F::GROUP_SCALE_BYTES);
        if !F::SUPER {
            let own = own.add(2 * HALF * half);
            let m = if F::MIN_SIGN != 0 { load_f16(own.add(2 * PANEL)) } else { zero };
            return (load_f16(own), m);
        }
        if !F::SUBSCALES {
            return (d, zero);
        }
        if F::SIX_BIT_SCALES {
            let bits = twelve_bits(own, half);
            let scale = _mm256_cvtepi32_ps(_mm256_and_si256(bits, _mm256_set1_epi32(63)));
            let min = _mm256_cvtepi32_ps(_mm256_and_si256(bits, _mm256_set1_epi32(63 << 6)));
            return (_mm256_mul_ps(d, scale), _mm256_mul_ps(dmin, min));
        }
        let own = own.add(HALF * half);
        let bytes = _mm_loadl_epi64(own.add(PANEL * s).cast());
        if F::NIBBLE_SCALES {
            let wide = _mm256_cvtepu8_epi32(bytes);
            let scale = _mm256_cvtepi32_ps(_mm256_and_si256(wide, _mm256_set1_epi32(15)));
            let min = _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(wide));
            return (_mm256_mul_ps(d, scale), _mm256_mul_ps(dmin, min));
        }
        let scale = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
        if F::MIN_SIGN == 0 {
            return (scale, zero);
        }
        let min = _mm_loadl_epi64(own.add(PANEL * (F::SCALES + s)).cast());
        (scale, _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(min))))
    }
}

/// The twelve bits of scale and minimum of the rows of a half, and above them any.
///
/// # Safety
/// `own` points to the scales of a group of a type with six-bit scales.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn twelve_bits(own: *const u8, half: usize) -> __m256i {
    // SAFETY: the scales are 16 bytes of words and 8 bytes more.
    unsafe {
        let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(own.cast()));
        if half == 0 {
            return words;
        }
        let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(own.add(PANEL).cast()));
        _mm256_or_si256(_mm256_srli_epi32::<12>(words), _mm256_slli_epi32::<4>(bytes))
    }
}

/// The integer scales `s` of group `group` of the rows of a half, each in both 16-bit parts of its lane; any, where the type has none.
///
/// # Safety
/// As [`group_scales`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn integer_scales<F: Format>(header: *const u8, half: usize, group: usize, s: usize) -> __m256i {
    if !F::SUBSCALES {
        return _mm256_setzero_si256();
    }
    if F::SIX_BIT_SCALES {
        // SAFETY: the group's scales lie in the header.
        let bits = unsafe { twelve_bits(header.add(F::SUPER_BYTES + group * F::GROUP_SCALE_BYTES), half) };
        let scale = _mm256_and_si256(bits, _mm256_set1_epi32(63));
        return _mm256_or_si256(scale, _mm256_slli_epi32::<16>(scale));
    }
    // SAFETY: the group's scales lie in the header.
    let bytes = unsafe {
        let own = header.add(F::SUPER_BYTES + group * F::GROUP_SCALE_BYTES);
        _mm_loadl_epi64(own.add(PANEL * s + HALF * half).cast())
    };
    let bytes = if F::NIBBLE_SCALES { _mm_and_si128(bytes, _mm_set1_epi8(15)) } else { bytes };
    _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(bytes, bytes))
}

/// Fetches the line at `far`, and what comes soon after the one at `p`; the addresses may lie beyond the end.
#[inline(always)]
pub(super) fn prefetch(p: *const u8, far: *const u8) {
    // SAFETY: prefetching never faults.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(far.cast());
        _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(NEAR).cast());
    }
}
