//! Fixed-point products with `vpdpwssd`: twice as many per instruction as f32 FMA, and no scale until the end of a run of columns.

use std::arch::x86_64::*;

use crate::linear::format::PANEL;
use crate::linear::lines::{FIXED_WORDS, for_each_token};
use crate::linear::plan::{FIXED_BLOCK, UNIT};
use crate::linear::prepare::FixedMeta;

/// As [`avx2::fixed`](crate::linear::avx2::fixed), but `x` has longer lines, `[pairs / 32][T][32]`. Two panels share what is read
/// of it.
///
/// # Safety
/// As the kernel for AVX2, and the machine has AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
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
        if panels[0] == panels[1] {
            tile::<T, RUN, MINS, 1>([panels[0]], [scales[0]], pairs, x, meta, out, add);
        } else {
            tile::<T, RUN, MINS, 2>(panels, scales, pairs, x, meta, out, add);
        }
    }
}

/// `T` tokens times `P` panels.
///
/// # Safety
/// As [`fixed`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn tile<const T: usize, const RUN: usize, const MINS: usize, const P: usize>(
    panels: [*const i16; P],
    scales: [*const f32; P],
    pairs: usize,
    x: *const i32,
    meta: *const FixedMeta,
    out: *mut f32,
    add: bool,
) {
    // SAFETY: pairs below `pairs` lie in the panels and the tile; runs and blocks are those of the pairs.
    unsafe {
        for (run, first) in (0..pairs).step_by(RUN / 2).enumerate() {
            let mut sums = [[_mm512_setzero_si512(); T]; P];
            let block = run * RUN / FIXED_BLOCK;
            let end = pairs.min(first + RUN / 2);
            for line in (first..end).step_by(const { if RUN / 2 < FIXED_WORDS { RUN / 2 } else { FIXED_WORDS } }) {
                let x = x.add(line / FIXED_WORDS * FIXED_WORDS * T + line % FIXED_WORDS);
                let panels = panels.map(|panel| panel.add(2 * line * PANEL));
                for pair in 0..(end - line).min(FIXED_WORDS).min(RUN / 2) {
                    let weights = panels.map(|panel| _mm512_loadu_si512(panel.add(2 * pair * PANEL).cast()));
                    for_each_token!(t in T {
                        let x = _mm512_set1_epi32(*x.add(t * FIXED_WORDS + pair));
                        for p in 0..P {
                            sums[p][t] = _mm512_dpwssd_epi32(sums[p][t], weights[p], x);
                        }
                    });
                }
            }
            let add = add || run > 0;
            let meta = meta.add(block * T);
            scale::<T, RUN, MINS>(sums[0], scales[0], run, meta, out, add);
            if P == 2 {
                scale::<T, RUN, MINS>(sums[P - 1], scales[P - 1], run, meta, out.add((P - 1) * PANEL), add);
            }
        }
    }
}

/// The sums of run `run` of a panel times their scales, and the minima times the sums of activations.
///
/// # Safety
/// As [`fixed`], with `meta` at the run's block.
#[inline(always)]
unsafe fn scale<const T: usize, const RUN: usize, const MINS: usize>(
    sums: [__m512i; T],
    scales: *const f32,
    run: usize,
    meta: *const FixedMeta,
    out: *mut f32,
    add: bool,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let scales = scales.add(run * (1 + MINS) * PANEL);
        let own = _mm512_loadu_ps(scales);
        let mut totals = [_mm512_setzero_ps(); T];
        for_each_token!(t in T {
            let factor = _mm512_mul_ps(own, _mm512_set1_ps((*meta.add(t)).scale));
            let sum = _mm512_cvtepi32_ps(sums[t]);
            let total = if add {
                _mm512_fmadd_ps(sum, factor, _mm512_loadu_ps(out.add(t * UNIT)))
            } else {
                _mm512_mul_ps(sum, factor)
            };
            // At once where nothing more is added: registers are few.
            if MINS == 0 {
                _mm512_storeu_ps(out.add(t * UNIT), total);
            } else {
                totals[t] = total;
            }
        });
        if MINS == 0 {
            return;
        }
        for m in 0..MINS {
            let min = _mm512_loadu_ps(scales.add((1 + m) * PANEL));
            for_each_token!(t in T {
                let sum = (*meta.add(t)).sum(RUN, MINS, run, m);
                totals[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(sum), totals[t]);
            });
        }
        for_each_token!(t in T {
            _mm512_storeu_ps(out.add(t * UNIT), totals[t]);
        });
    }
}
