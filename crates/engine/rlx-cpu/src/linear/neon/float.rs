//! f32 activations against float panels, converted to f32 in registers.

use std::arch::aarch64::*;

use super::unpack::{QUARTER, QUARTERS, load_f16};
use crate::linear::fetch::Fetch;
use crate::linear::format::PANEL;
use crate::linear::kernels;
use crate::linear::lines::{FloatLines, LINE};
use crate::linear::plan::UNIT;

/// As [`scalar::float`](crate::linear::scalar::float).
///
/// # Safety
/// As the scalar kernel.
#[target_feature(enable = "neon")]
pub(crate) unsafe fn float<const DTYPE: u8, const T: usize>(
    panels: [*const u8; 2],
    pairs: usize,
    x: FloatLines,
    _tokens: usize,
    out: *mut f32,
    _fetch: Fetch,
) {
    for p in 0..2 {
        if p == 1 && panels[1] == panels[0] {
            break;
        }
        // SAFETY: the caller's promises.
        unsafe {
            // Few tokens: a sum for each column of a pair hides the latency of the FMA.
            if T <= 2 {
                tile::<DTYPE, T, 2>(panels[p], pairs, x, out.add(p * PANEL));
            } else {
                tile::<DTYPE, T, 1>(panels[p], pairs, x, out.add(p * PANEL));
            }
        }
    }
}

/// `T` tokens times a panel, with `U` independent sums per result.
///
/// # Safety
/// As [`float`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const DTYPE: u8, const T: usize, const U: usize>(
    panel: *const u8,
    pairs: usize,
    x: FloatLines,
    out: *mut f32,
) {
    let mut sums = [[[vdupq_n_f32(0.0); T]; QUARTERS]; U];
    // SAFETY: pairs below `pairs` lie in the panel and the tile.
    unsafe {
        for pair in 0..pairs {
            let x = FloatLines { first: x.first.add(2 * pair / LINE * x.line + 2 * pair % LINE), ..x };
            for c in 0..2 {
                let x: [f32; T] = std::array::from_fn(|t| *x.first.add(t * x.token + c));
                for (h, sums) in sums[c % U].iter_mut().enumerate() {
                    let column = column::<DTYPE>(panel, pair, c, h);
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = vfmaq_n_f32(*sum, column, x);
                    }
                }
            }
        }
        for h in 0..QUARTERS {
            for t in 0..T {
                let sum = sums[1..].iter().fold(sums[0][h][t], |sum, other| vaddq_f32(sum, other[h][t]));
                vst1q_f32(out.add(t * UNIT + h * QUARTER), sum);
            }
        }
    }
}

/// The rows of a quarter in column `c` of a pair of columns of a float panel.
///
/// # Safety
/// `panel` is a float panel of the type with more than `pair` pairs of columns.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn column<const DTYPE: u8>(panel: *const u8, pair: usize, c: usize, quarter: usize) -> float32x4_t {
    let rows = QUARTER * quarter;
    let column = (2 * pair + c) * PANEL + rows;
    // SAFETY: the caller's promise.
    unsafe {
        match DTYPE {
            kernels::F32 => vld1q_f32(panel.cast::<f32>().add(column)),
            kernels::F16 => load_f16(panel.add(2 * column)),
            _ => {
                // A word has both columns of a row.
                let both = vld1q_u32(panel.cast::<u32>().add(pair * PANEL + rows));
                vreinterpretq_f32_u32(if c == 0 {
                    vshlq_n_u32::<16>(both)
                } else {
                    vandq_u32(both, vdupq_n_u32(0xFFFF_0000))
                })
            }
        }
    }
}
