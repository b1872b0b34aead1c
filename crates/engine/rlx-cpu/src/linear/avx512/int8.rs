//! int8 activations against packed quants, with `vpdpbusd`.

use std::arch::x86_64::*;

use super::unpack::{group_scales, lines, super_scales};
use crate::linear::format::{BLOCK_GROUPS, Format, GROUP};
use crate::linear::plan::UNIT;
use crate::linear::prepare::GroupMeta;

/// How far ahead of the arithmetic weights are fetched: enough to cover the latency of DRAM at 16 GB/s.
const PREFETCH: usize = 4096;

/// As [`scalar::int8`](crate::linear::scalar::int8). Each group is unpacked once for all `T` tokens.
///
/// # Safety
/// As the scalar kernel, and the machine has AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
pub(crate) unsafe fn int8<F: Format, const T: usize>(
    panel: *const u8,
    groups: usize,
    mut q: *const i8,
    mut meta: *const GroupMeta,
    out: *mut f32,
) {
    let mut sums = [_mm512_setzero_ps(); T];
    let mut header = panel;
    let mut left = groups;
    // SAFETY: all addresses lie in the panel and the tile, whose lengths the caller promises; prefetches may go beyond.
    unsafe {
        while left > 0 {
            let count = left.min(BLOCK_GROUPS);
            let mut quants = header.add(F::header_bytes(count));
            let shared = super_scales::<F>(header);
            if T <= 2 {
                for line in 0..F::header_bytes(BLOCK_GROUPS).div_ceil(64) {
                    _mm_prefetch::<_MM_HINT_T0>(header.wrapping_add(PREFETCH + 64 * line).cast());
                }
            }
            for g in 0..count {
                if T <= 2 {
                    for line in 0..F::BITS {
                        _mm_prefetch::<_MM_HINT_T0>(quants.wrapping_add(PREFETCH + 64 * line).cast());
                    }
                }
                let weights = lines::<F>(quants);
                if F::SCALES == 1 {
                    let (scale, min) = group_scales::<F>(header, g, 0, shared);
                    for t in 0..T {
                        let meta = &*meta.add(t);
                        let isum = meta.isum[0].wrapping_add(meta.isum[1]);
                        let dot = dot::<8>(isum, F::ZERO, &weights, q.add(t * GROUP));
                        let dot = _mm512_cvtepi32_ps(dot);
                        let factor = _mm512_mul_ps(scale, _mm512_set1_ps(meta.scale));
                        sums[t] = _mm512_fmadd_ps(dot, factor, sums[t]);
                        if F::MIN_SIGN != 0 {
                            sums[t] = add_min::<F>(sums[t], min, meta.sum);
                        }
                    }
                } else {
                    let scales = [group_scales::<F>(header, g, 0, shared), group_scales::<F>(header, g, 1, shared)];
                    for t in 0..T {
                        let meta = &*meta.add(t);
                        for (s, (scale, min)) in scales.into_iter().enumerate() {
                            let dot = dot::<4>(meta.isum[s], F::ZERO, &weights[4 * s..], q.add(t * GROUP + 16 * s));
                            let dot = _mm512_cvtepi32_ps(dot);
                            let factor = _mm512_mul_ps(scale, _mm512_set1_ps(meta.scale));
                            sums[t] = _mm512_fmadd_ps(dot, factor, sums[t]);
                            if F::MIN_SIGN != 0 {
                                sums[t] = add_min::<F>(sums[t], min, meta.scale * meta.isum[s] as f32);
                            }
                        }
                    }
                }
                quants = quants.add(F::QUANT_BYTES);
                q = q.add(T * GROUP);
                meta = meta.add(T);
            }
            header = quants;
            left -= count;
        }
        for (t, sum) in sums.into_iter().enumerate() {
            _mm512_storeu_ps(out.add(t * UNIT), sum);
        }
    }
}

/// `LINES` lines times the `4 * LINES` activations at `q`, with the zero point taken off: the sum starts at `-zero * isum`.
///
/// # Safety
/// `q` points to `4 * LINES` values.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn dot<const LINES: usize>(isum: i32, zero: i32, weights: &[__m512i], q: *const i8) -> __m512i {
    let mut sum = _mm512_set1_epi32(isum.wrapping_mul(-zero));
    for j in 0..LINES {
        // SAFETY: the caller's promise.
        let x = _mm512_set1_epi32(unsafe { q.add(4 * j).cast::<i32>().read_unaligned() });
        sum = _mm512_dpbusd_epi32(sum, weights[j], x);
    }
    sum
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
fn add_min<F: Format>(sum: __m512, min: __m512, x: f32) -> __m512 {
    let x = _mm512_set1_ps(x);
    if F::MIN_SIGN < 0 { _mm512_fnmadd_ps(min, x, sum) } else { _mm512_fmadd_ps(min, x, sum) }
}
