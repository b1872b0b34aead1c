//! f32 activations against float panels, converted to f32 in registers.

use std::arch::x86_64::*;

use super::unpack::{HALF, load_f16};
use crate::linear::fetch::{Ahead, Fetch};
use crate::linear::format::{self, PANEL};
use crate::linear::kernels;
use crate::linear::lines::{FloatLines, LINE};
use crate::linear::plan::UNIT;

/// As [`scalar::float`](crate::linear::scalar::float).
///
/// # Safety
/// As the scalar kernel, and the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn float<const DTYPE: u8, const T: usize>(
    panels: [*const u8; 2],
    pairs: usize,
    x: FloatLines,
    _tokens: usize,
    out: *mut f32,
    fetch: Fetch,
) {
    for p in 0..2 {
        if p == 1 && panels[1] == panels[0] {
            break;
        }
        // SAFETY: the caller's promises.
        unsafe {
            let out = out.add(p * PANEL);
            // Few tokens: several sums per result hide the latency of the FMA.
            if T <= 2 {
                tile::<DTYPE, T, 2>(panels, p, pairs, x, out, fetch);
            } else {
                tile::<DTYPE, T, 1>(panels, p, pairs, x, out, fetch);
            }
        }
    }
}

/// `T` tokens times panel `p`, with `U` independent sums per result: pairs of columns go to them in turn.
///
/// # Safety
/// As [`float`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const DTYPE: u8, const T: usize, const U: usize>(
    panels: [*const u8; 2],
    p: usize,
    pairs: usize,
    x: FloatLines,
    out: *mut f32,
    fetch: Fetch,
) {
    let panel = panels[p];
    // More tokens take too long for the panels to be a stream.
    let next = if p == 0 && panels[1] != panel { panels[1] } else { fetch.next(0) };
    let ahead = Ahead::of_floats(T);
    let mut sums = [[[_mm256_setzero_ps(); T]; 2]; U];
    // SAFETY: pairs below `pairs` lie in the panel and the tile.
    unsafe {
        let bytes = 2 * PANEL * kernels::float_dtype(DTYPE).block_bytes();
        // The lines of a single token are one.
        let together = if T == 1 { 2 * LINE } else { LINE / 2 };
        for first in (0..pairs).step_by(together) {
            let x = FloatLines { first: x.first.add(first / (LINE / 2) * x.line), ..x };
            let places = (T <= 2).then(|| {
                let place = |distance| format::ahead(panel, next, first * bytes, pairs * bytes, distance);
                (ahead, [place(ahead.first), place(ahead.second)])
            });
            if T > 2 {
                fetch.of_line(p, first / (LINE / 2));
            }
            let panel = panel.add(first * bytes);
            let count = (pairs - first).min(together);
            let mut pair = 0;
            while pair + U <= count {
                for (u, sums) in sums.iter_mut().enumerate() {
                    step::<DTYPE, T>(panel, places, pair + u, x.columns_from(2 * (pair + u)), sums);
                }
                pair += U;
            }
            while pair < count {
                step::<DTYPE, T>(panel, places, pair, x.columns_from(2 * pair), &mut sums[0]);
                pair += 1;
            }
        }
        for t in 0..T {
            for h in 0..2 {
                let mut sum = sums[0][h][t];
                for other in &sums[1..] {
                    sum = _mm256_add_ps(sum, other[h][t]);
                }
                _mm256_storeu_ps(out.add(t * UNIT + h * HALF), sum);
            }
        }
    }
}

/// Two columns of a panel times `T` tokens, whose values are at `x` and every line on; as far behind the places beside `ahead`
/// (near, far) lies what is fetched, if anything is.
///
/// # Safety
/// As [`float`], with `pair` below the number of pairs.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn step<const DTYPE: u8, const T: usize>(
    panel: *const u8,
    ahead: Option<(Ahead, [*const u8; 2])>,
    pair: usize,
    x: FloatLines,
    sums: &mut [[__m256; T]; 2],
) {
    // SAFETY: the caller's promises; prefetches may go beyond the end.
    unsafe {
        let bytes = 2 * PANEL * kernels::float_dtype(DTYPE).block_bytes();
        if let Some((ahead, places)) = ahead {
            for line in 0..bytes / 64 {
                let [near, far] = places.map(|place| place.wrapping_add(pair * bytes + 64 * line));
                ahead.prefetch(near, far);
            }
        }
        for (c, column) in columns::<DTYPE>(panel, pair).into_iter().enumerate() {
            for t in 0..T {
                let x = _mm256_set1_ps(*x.first.add(t * x.token + c));
                for h in 0..2 {
                    sums[h][t] = _mm256_fmadd_ps(column[h], x, sums[h][t]);
                }
            }
        }
    }
}

/// Two columns of a float panel, in halves of 8 rows.
///
/// # Safety
/// `panel` is a float panel of the type with more than `pair` pairs of columns.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn columns<const DTYPE: u8>(panel: *const u8, pair: usize) -> [[__m256; 2]; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let at = panel.add(pair * 2 * PANEL * kernels::float_dtype(DTYPE).block_bytes());
        std::array::from_fn(|c| {
            std::array::from_fn(|h| match DTYPE {
                kernels::F32 => _mm256_loadu_ps(at.add(64 * c + 32 * h).cast()),
                kernels::F16 => load_f16(at.add(32 * c + 16 * h)),
                _ => {
                    let both = _mm256_loadu_si256(at.add(32 * h).cast());
                    _mm256_castsi256_ps(if c == 0 {
                        _mm256_slli_epi32::<16>(both)
                    } else {
                        _mm256_and_si256(both, _mm256_set1_epi32(0xFFFF_0000u32 as i32))
                    })
                }
            })
        })
    }
}
