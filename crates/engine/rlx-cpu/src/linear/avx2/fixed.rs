//! Fixed-point products: `vpmaddwd` takes twice as many products per instruction as f32 FMA.
//!
//! Activations become integers of up to 16 bits in blocks of [`FIXED_BLOCK`] columns that share a scale. Packed quants become the integers
//! that they are, times their integer scale where the type has one, without any rounding; floats become integers of up to 16 bits in blocks of the same
//! columns. Sums of a *run* of columns (a block, or a group where types have scales of groups) are exact in 32 bits, and only they meet a scale.

use std::arch::x86_64::*;

use super::float::columns;
use super::unpack::{FAR, HALF, group_scales, integer_scales, lines, prefetch, super_scales};
use crate::linear::format::{BLOCK_GROUPS, Format, GROUP, PANEL};
use crate::linear::lines::{SHORT_LINE, for_each_token};
use crate::linear::plan::{FIXED_BLOCK, FIXED_MAX, FIXED_WEIGHT_LENGTH, UNIT, fixed_run};
use crate::linear::prepare::FixedMeta;

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
        let mut totals = [_mm256_setzero_ps(); T];
        for_each_token!(t in T {
            let factor = _mm256_mul_ps(own, _mm256_set1_ps((*meta.add(t)).scale));
            let sum = _mm256_cvtepi32_ps(sums[t]);
            let total = if add {
                _mm256_fmadd_ps(sum, factor, _mm256_loadu_ps(out.add(t * UNIT)))
            } else {
                _mm256_mul_ps(sum, factor)
            };
            // At once where nothing more is added: registers are few.
            if MINS == 0 {
                _mm256_storeu_ps(out.add(t * UNIT), total);
            } else {
                totals[t] = total;
            }
        });
        if MINS == 0 {
            return;
        }
        for m in 0..MINS {
            let min = _mm256_loadu_ps(scales.add((1 + m) * PANEL));
            for_each_token!(t in T {
                let sum = (*meta.add(t)).sum(RUN, MINS, run, m);
                totals[t] = _mm256_fmadd_ps(min, _mm256_set1_ps(sum), totals[t]);
            });
        }
        for_each_token!(t in T {
            _mm256_storeu_ps(out.add(t * UNIT), totals[t]);
        });
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
    let (columns, mins) = const { fixed_run::<F>() };
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
                    prefetch(quants.wrapping_add(64 * line), quants.wrapping_add(FAR + 64 * line));
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
    // SAFETY: the caller's promises.
    unsafe {
        for first in (0..pairs).step_by(FIXED_BLOCK / 2) {
            let count = (pairs - first).min(FIXED_BLOCK / 2);
            let columns = |pair: usize| columns::<DTYPE>(panel, first + pair);
            for h in 0..2 {
                let (inverse, scale) = block_scales(count, |pair| columns(pair).map(|column| column[h]));
                _mm256_storeu_ps(scales.add(h * HALF), scale);
                for pair in 0..count {
                    let integers = columns(pair).map(|column| _mm256_cvtps_epi32(_mm256_mul_ps(column[h], inverse)));
                    let high = _mm256_slli_epi32::<16>(integers[1]);
                    let both = _mm256_blend_epi16::<0xAA>(integers[0], high);
                    _mm256_storeu_si256(out.add(2 * (pair * PANEL + h * HALF)).cast(), both);
                }
            }
            out = out.add(2 * count * PANEL);
            scales = scales.add(PANEL);
        }
    }
}

/// What 8 rows of a block of `pairs` pairs of columns are multiplied by to become integers, with lengths of [`FIXED_WEIGHT_LENGTH`] at most,
/// and their scales. Where a row holds what is no number, its scale is none either.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn block_scales(pairs: usize, columns: impl Fn(usize) -> [__m256; 2]) -> (__m256, __m256) {
    let magnitude = _mm256_set1_epi32(0x7FFF_FFFF);
    // As integers, magnitudes order like their values, with infinity and NaN on top.
    let mut largest = [_mm256_setzero_si256(); 2];
    let mut squares = [_mm256_setzero_ps(); 2];
    for pair in 0..pairs {
        let columns = columns(pair);
        squares = [0, 1].map(|c| _mm256_fmadd_ps(columns[c], columns[c], squares[c]));
        let magnitudes = columns.map(|column| _mm256_and_si256(_mm256_castps_si256(column), magnitude));
        largest = [0, 1].map(|c| _mm256_max_epi32(largest[c], magnitudes[c]));
    }
    let largest = _mm256_castsi256_ps(_mm256_max_epi32(largest[0], largest[1]));
    // Values near the subnormals count as zero: their reciprocal would overflow.
    let tiny = _mm256_cmp_ps::<_CMP_LT_OQ>(largest, _mm256_set1_ps(FIXED_MAX * f32::MIN_POSITIVE));
    let unit = _mm256_andnot_ps(tiny, _mm256_div_ps(_mm256_set1_ps(1.0), largest));
    // Squares of numbers much larger or smaller than weights are would overflow or vanish.
    let low = _mm256_cmp_ps::<_CMP_LT_OQ>(largest, _mm256_set1_ps(1e-12));
    let high = _mm256_cmp_ps::<_CMP_GT_OQ>(largest, _mm256_set1_ps(1e12));
    let mut factor = unit;
    if _mm256_movemask_ps(_mm256_or_ps(low, high)) != 0 {
        squares = [_mm256_setzero_ps(); 2];
        for pair in 0..pairs {
            let columns = columns(pair).map(|column| _mm256_mul_ps(column, unit));
            squares = [0, 1].map(|c| _mm256_fmadd_ps(columns[c], columns[c], squares[c]));
        }
        factor = _mm256_set1_ps(1.0);
    }
    let length = _mm256_mul_ps(_mm256_sqrt_ps(_mm256_add_ps(squares[0], squares[1])), factor);
    let most = _mm256_div_ps(_mm256_set1_ps(FIXED_WEIGHT_LENGTH), _mm256_max_ps(length, _mm256_set1_ps(1.0)));
    (_mm256_mul_ps(unit, most), _mm256_andnot_ps(tiny, _mm256_div_ps(largest, most)))
}
