//! Fixed-point products with `vpdpwssd`: twice as many per instruction as f32 FMA, and no scale until the end of a run of columns.

use std::arch::x86_64::*;

use crate::linear::format::{GROUP, PANEL};
use crate::linear::lines::LINE;
use crate::linear::plan::{FIXED_BLOCK, UNIT};
use crate::linear::prepare::FixedMeta;

/// As [`avx2::fixed`](crate::linear::avx2::fixed). Two panels share what is read of the activations.
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
            for line in (first..pairs.min(first + RUN / 2)).step_by(LINE) {
                for pair in line..pairs.min(line + LINE) {
                    let weights = panels.map(|panel| _mm512_loadu_si512(panel.add(2 * pair * PANEL).cast()));
                    for t in 0..T {
                        let x = _mm512_set1_epi32(*x.add(line * T + t * LINE + (pair - line)));
                        for p in 0..P {
                            sums[p][t] = _mm512_dpwssd_epi32(sums[p][t], weights[p], x);
                        }
                    }
                }
            }
            let block = run * RUN / FIXED_BLOCK;
            for p in 0..P {
                let own = |i: usize| _mm512_loadu_ps(scales[p].add((run * (1 + MINS) + i) * PANEL));
                let scale = own(0);
                for t in 0..T {
                    let meta = &*meta.add(block * T + t);
                    let factor = _mm512_mul_ps(scale, _mm512_set1_ps(meta.scale));
                    let sum = _mm512_cvtepi32_ps(sums[p][t]);
                    let out = out.add(t * UNIT + p * PANEL);
                    let mut total = if run == 0 && !add {
                        _mm512_mul_ps(sum, factor)
                    } else {
                        _mm512_fmadd_ps(sum, factor, _mm512_loadu_ps(out))
                    };
                    for m in 0..MINS {
                        let columns = RUN / MINS;
                        let of = run * RUN % FIXED_BLOCK / columns + m;
                        let x = if columns == GROUP { meta.groups[of] } else { meta.halves[of] };
                        total = _mm512_fmadd_ps(own(1 + m), _mm512_set1_ps(x), total);
                    }
                    _mm512_storeu_ps(out, total);
                }
            }
        }
    }
}
