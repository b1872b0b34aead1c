//! Fixed-point products: `vpmaddwd` takes twice as many products per instruction as f32 FMA.
//!
//! Activations become 15-bit integers in blocks of [`FIXED_BLOCK`] columns that share a scale. Packed quants become the integers
//! that they are, times their integer scale where the type has one, without any rounding; floats become 12-bit integers in blocks of the same
//! columns. Sums of a *run* of columns are exact in 32 bits, and only they meet a scale: a run is a block where the largest products allow
//! it, else half of one.

use std::arch::x86_64::*;

use super::float::columns;
use super::unpack::{HALF, group_scales, integer_scales, lines, prefetch, super_scales};
use crate::linear::format::{BLOCK_GROUPS, Format, GROUP, PANEL};
use crate::linear::lines::{SHORT_LINE, for_each_token};
use crate::linear::plan::{FIXED_BLOCK, FIXED_MAX_ACTIVATION, FIXED_MAX_WEIGHT, UNIT};
use crate::linear::prepare::FixedMeta;

/// Columns and minima of a run of `F`. Types with a scale per group end runs there.
pub(crate) const fn run<F: Format>() -> (usize, usize) {
    let most = FIXED_MAX_ACTIVATION as i64 * F::LARGEST_PRODUCT as i64;
    assert!(most * (GROUP as i64) < 1 << 31);
    let columns = if F::SUPER && most * (FIXED_BLOCK as i64) < 1 << 31 { FIXED_BLOCK } else { GROUP };
    (columns, if F::MIN_SIGN == 0 { 0 } else { F::SCALES * columns / GROUP })
}

/// `T` tokens times two panels: `out[t * UNIT + 16 * panel + row]`, which is added to if `add`. The same panel twice is one, whose place
/// is the first.
///
/// Panels hold `[pairs][16][2]` i16; `scales` `[runs][1 + MINS][16]` f32, the scale and the minima of a run of `RUN` columns; `x` `[pairs / 4][T][4]`
/// pairs of i16; `meta` `[blocks][T]`.
///
/// # Safety
/// The lengths are as above, the last run and block being shorter if need be; `out` has room for `T` rows of a unit; the machine
/// has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn fixed<const T: usize, const RUN: usize, const MINS: usize>(
    panels: [*const i16; 2],
    scales: [*const f32; 2],
    pairs: usize,
    x: *const i32,
    meta: *const FixedMeta,
    out: *mut f32,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        tile::<T, RUN, MINS>(panels[0], scales[0], pairs, x, meta, out, add);
        if panels[1] != panels[0] {
            tile::<T, RUN, MINS>(panels[1], scales[1], pairs, x, meta, out.add(PANEL), add);
        }
    }
}

/// `T` tokens times one panel.
///
/// # Safety
/// As [`fixed`].
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const T: usize, const RUN: usize, const MINS: usize>(
    panel: *const i16,
    scales: *const f32,
    pairs: usize,
    x: *const i32,
    meta: *const FixedMeta,
    out: *mut f32,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        for (run, first) in (0..pairs).step_by(RUN / 2).enumerate() {
            let mut sums = [[_mm256_setzero_si256(); T]; 2];
            let block = run * RUN / FIXED_BLOCK;
            let end = pairs.min(first + RUN / 2);
            for line in (first..end).step_by(SHORT_LINE) {
                let x = x.add(line * T);
                for pair in 0..(end - line).min(SHORT_LINE) {
                    let at = panel.add(2 * (line + pair) * PANEL);
                    let weights = [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(2 * HALF).cast())];
                    for_each_token!(t in T {
                        let x = _mm256_set1_epi32(*x.add(t * SHORT_LINE + pair));
                        sums[0][t] = _mm256_add_epi32(sums[0][t], _mm256_madd_epi16(weights[0], x));
                        sums[1][t] = _mm256_add_epi32(sums[1][t], _mm256_madd_epi16(weights[1], x));
                    });
                }
            }
            let add = add || run > 0;
            let meta = meta.add(block * T);
            scale::<T, RUN, MINS>(sums[0], scales, run, meta, out, add);
            scale::<T, RUN, MINS>(sums[1], scales.add(HALF), run, meta, out.add(HALF), add);
        }
    }
}

/// The sums of run `run` of half a panel times their scales, and the minima times the sums of activations.
///
/// # Safety
/// As [`fixed`], with `meta` at the run's block.
#[inline(always)]
unsafe fn scale<const T: usize, const RUN: usize, const MINS: usize>(
    sums: [__m256i; T],
    scales: *const f32,
    run: usize,
    meta: *const FixedMeta,
    out: *mut f32,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let scales = scales.add(run * (1 + MINS) * PANEL);
        let own = _mm256_loadu_ps(scales);
        for t in 0..T {
            let meta = &*meta.add(t);
            let factor = _mm256_mul_ps(own, _mm256_set1_ps(meta.scale));
            let sum = _mm256_cvtepi32_ps(sums[t]);
            let out = out.add(t * UNIT);
            let mut total =
                if add { _mm256_fmadd_ps(sum, factor, _mm256_loadu_ps(out)) } else { _mm256_mul_ps(sum, factor) };
            for m in 0..MINS {
                let min = _mm256_loadu_ps(scales.add((1 + m) * PANEL));
                total = _mm256_fmadd_ps(min, _mm256_set1_ps(meta.sum(RUN, MINS, run, m)), total);
            }
            _mm256_storeu_ps(out, total);
        }
    }
}

/// A panel of quants in the layout of [`fixed`].
///
/// # Safety
/// `panel` holds `groups` groups of `F`; `out` and `scales` have room; the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn quants_to_fixed<F: Format>(panel: *const u8, groups: usize, mut out: *mut i16, scales: *mut f32) {
    let zero = _mm256_set1_epi16(F::ZERO as i16);
    // Two of the four bytes of a row, as 16 bits each.
    let pick = |b: i8| _mm256_set1_epi32(i32::from_le_bytes([b as u8, 0x80, b as u8 + 1, 0x80]));
    let rows = _mm256_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0C0C_0C0C, 0, 0x0404_0404, 0x0808_0808, 0x0C0C_0C0C);
    let picks = [pick(0), pick(2)].map(|pick| _mm256_or_si256(pick, rows));
    let (columns, mins) = const { run::<F>() };
    let groups_of_run = columns / GROUP;
    let mut header = panel;
    // SAFETY: all addresses lie in the panel and the output, whose lengths the caller promises; prefetches may go beyond.
    unsafe {
        for first in (0..groups).step_by(BLOCK_GROUPS) {
            let count = (groups - first).min(BLOCK_GROUPS);
            let mut quants = header.add(F::header_bytes(count));
            let shared: [_; 2] = std::array::from_fn(|half| super_scales::<F>(header, half));
            for g in 0..count {
                for line in 0..F::BITS {
                    prefetch(quants.wrapping_add(64 * line));
                }
                let (run, place) = ((first + g) / groups_of_run, (first + g) % groups_of_run);
                let own = scales.add(run * (1 + mins) * PANEL);
                for half in 0..2 {
                    let weights = lines::<F>(quants.add(32 * half));
                    for s in 0..F::SCALES {
                        let (scale, min) = group_scales::<F>(header, half, g, s, shared[half]);
                        if s == 0 && place == 0 {
                            let scale = if F::SUPER { shared[half].0 } else { scale };
                            _mm256_storeu_ps(own.add(half * HALF), scale);
                        }
                        if F::MIN_SIGN != 0 {
                            let min = if F::MIN_SIGN < 0 { _mm256_sub_ps(_mm256_setzero_ps(), min) } else { min };
                            _mm256_storeu_ps(own.add((1 + place * F::SCALES + s) * PANEL + half * HALF), min);
                        }
                        let factor = integer_scales::<F>(header, half, g, s);
                        let per_scale = 8 / F::SCALES;
                        for j in s * per_scale..(s + 1) * per_scale {
                            for (b, pick) in picks.into_iter().enumerate() {
                                let mut q = _mm256_shuffle_epi8(weights[j], pick);
                                if F::ZERO != 0 {
                                    q = _mm256_sub_epi16(q, zero);
                                }
                                if F::SUBSCALES {
                                    q = _mm256_mullo_epi16(q, factor);
                                }
                                let pair = 2 * j + b;
                                _mm256_storeu_si256(out.add(2 * (pair * PANEL + half * HALF)).cast(), q);
                            }
                        }
                    }
                }
                quants = quants.add(F::QUANT_BYTES);
                out = out.add(GROUP * PANEL);
            }
            header = quants;
        }
    }
}

/// A float panel of `pairs` pairs of columns as fixed-point numbers, in the layout of [`fixed`].
///
/// # Safety
/// `panel` is a float panel of the type of that many pairs; `out` and `scales` have room; the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn floats_to_fixed<const DTYPE: u8>(
    panel: *const u8,
    pairs: usize,
    mut out: *mut i16,
    mut scales: *mut f32,
) {
    let mut values = [0.0f32; FIXED_BLOCK * PANEL];
    // SAFETY: the caller's promises.
    unsafe {
        for first in (0..pairs).step_by(FIXED_BLOCK / 2) {
            let count = (pairs - first).min(FIXED_BLOCK / 2);
            for pair in 0..count {
                for (c, column) in columns::<DTYPE>(panel, first + pair).into_iter().enumerate() {
                    for (h, half) in column.into_iter().enumerate() {
                        _mm256_storeu_ps(values.as_mut_ptr().add((2 * pair + c) * PANEL + h * HALF), half);
                    }
                }
            }
            block_to_fixed(values.as_ptr(), count, out, scales);
            out = out.add(2 * count * PANEL);
            scales = scales.add(PANEL);
        }
    }
}

/// A block of `pairs` pairs of columns, `[columns][16]`, as integers up to [`FIXED_MAX_WEIGHT`] and a scale per row. Where a row holds
/// what is no number, its scale is none either.
///
/// # Safety
/// `values`, `out` and `scales` have the lengths that this needs; the machine has AVX2.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block_to_fixed(values: *const f32, pairs: usize, out: *mut i16, scales: *mut f32) {
    let magnitude = _mm256_set1_epi32(0x7FFF_FFFF);
    let low = _mm256_set1_epi32(0xFFFF);
    for h in 0..2 {
        // SAFETY: the caller's promise.
        unsafe {
            // As integers, magnitudes order like their values, with infinity and NaN on top.
            let mut largest = _mm256_setzero_si256();
            for column in 0..2 * pairs {
                let bits = _mm256_loadu_si256(values.add(column * PANEL + h * HALF).cast());
                largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude));
            }
            let largest = _mm256_castsi256_ps(largest);
            // Values near the subnormals count as zero: their reciprocal would overflow.
            let tiny = _mm256_cmp_ps::<_CMP_LT_OQ>(largest, _mm256_set1_ps(FIXED_MAX_WEIGHT * f32::MIN_POSITIVE));
            let scale = _mm256_div_ps(largest, _mm256_set1_ps(FIXED_MAX_WEIGHT));
            let inverse = _mm256_andnot_ps(tiny, _mm256_div_ps(_mm256_set1_ps(FIXED_MAX_WEIGHT), largest));
            _mm256_storeu_ps(scales.add(h * HALF), _mm256_andnot_ps(tiny, scale));
            for pair in 0..pairs {
                let integers: [__m256i; 2] = std::array::from_fn(|c| {
                    let value = _mm256_loadu_ps(values.add((2 * pair + c) * PANEL + h * HALF));
                    _mm256_cvtps_epi32(_mm256_mul_ps(value, inverse))
                });
                let both = _mm256_or_si256(_mm256_and_si256(integers[0], low), _mm256_slli_epi32::<16>(integers[1]));
                _mm256_storeu_si256(out.add(2 * (pair * PANEL + h * HALF)).cast(), both);
            }
        }
    }
}
