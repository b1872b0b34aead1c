//! Activations in two int8 parts against packed quants, with `vpdpbusd`.

use std::arch::x86_64::*;

use super::unpack::{group_scales, lines, super_scales};
use crate::linear::fetch::{Ahead, panel_and_next};
use crate::linear::format::{self, BLOCK_GROUPS, Format, GROUP, GROUP_QUANTS, PANEL};
use crate::linear::plan::UNIT;
use crate::linear::prepare::GroupMeta;

/// As [`scalar::int8`](crate::linear::scalar::int8).
///
/// # Safety
/// As the scalar kernel, and the machine has AVX-512 with VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
pub(crate) unsafe fn int8<F: Format, const T: usize>(
    first: *const u8,
    panels: usize,
    groups: usize,
    q: *const i8,
    meta: *const GroupMeta,
    _tokens: usize,
    out: *mut f32,
    next: *const u8,
) {
    let ahead = Ahead::of_quants(F::BITS);
    let bytes = F::panel_bytes(groups);
    for p in 0..panels {
        let panels = panel_and_next(first, p, panels, bytes, next);
        // SAFETY: the caller's promises.
        unsafe { one_panel::<F, T>(panels, groups, q, meta, out.add(p * PANEL), ahead) };
    }
}

/// One panel. Each group is unpacked once for all `T` tokens of the tile.
///
/// # Safety
/// As [`int8`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn one_panel<F: Format, const T: usize>(
    [panel, next]: [*const u8; 2],
    groups: usize,
    mut q: *const i8,
    mut meta: *const GroupMeta,
    out: *mut f32,
    ahead: Ahead,
) {
    let streams = !next.is_null();
    let mut sums = [_mm512_setzero_ps(); T];
    let mut header = panel;
    let mut left = groups;
    // SAFETY: all addresses lie in the panel and the tile, whose lengths the caller promises; prefetches may go beyond.
    unsafe {
        while left > 0 {
            let count = left.min(BLOCK_GROUPS);
            let mut quants = header.add(F::header_bytes(count));
            let shared = super_scales::<F>(header);
            let far = |p: *const u8| {
                format::ahead(panel, next, p.addr() - panel.addr(), F::panel_bytes(groups), ahead.second)
            };
            if streams {
                let (near, far) = (header.wrapping_add(ahead.first), far(header));
                for line in 0..F::header_bytes(BLOCK_GROUPS).div_ceil(64) {
                    ahead.prefetch(near.wrapping_add(64 * line), far.wrapping_add(64 * line));
                }
            }
            for g in 0..count {
                if streams {
                    let (near, far) = (quants.wrapping_add(ahead.first), far(quants));
                    for line in 0..F::BITS {
                        ahead.prefetch(near.wrapping_add(64 * line), far.wrapping_add(64 * line));
                    }
                }
                let weights = lines::<F>(quants);
                for s in 0..F::SCALES {
                    let (scale, min) = group_scales::<F>(header, g, s, shared);
                    let per_scale = 8 / F::SCALES;
                    let isum = |t: usize| {
                        let isum = (*meta.add(t)).isum;
                        if F::SCALES == 1 { isum[0].wrapping_add(isum[1]) } else { isum[s] }
                    };
                    // Tokens side by side, so that as many products are in flight as the latency asks for. Starting at
                    // `-zero * isum` takes the zero point off.
                    let mut lows: [__m512i; T] =
                        std::array::from_fn(|t| _mm512_set1_epi32(isum(t).wrapping_mul(-F::ZERO)));
                    let mut highs = [_mm512_setzero_si512(); T];
                    for j in s * per_scale..(s + 1) * per_scale {
                        for (t, (high, low)) in highs.iter_mut().zip(&mut lows).enumerate() {
                            let x = q.add(t * GROUP_QUANTS + 4 * j);
                            let quad = |part: usize| x.add(part * GROUP).cast::<i32>().read_unaligned();
                            *high = _mm512_dpbusd_epi32(*high, weights[j], _mm512_set1_epi32(quad(0)));
                            *low = _mm512_dpbusd_epi32(*low, weights[j], _mm512_set1_epi32(quad(1)));
                        }
                    }
                    for t in 0..T {
                        let meta = &*meta.add(t);
                        let factor = _mm512_mul_ps(scale, _mm512_set1_ps(meta.scale));
                        let dot = _mm512_add_epi32(_mm512_slli_epi32::<7>(highs[t]), lows[t]);
                        sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), factor, sums[t]);
                        if F::MIN_SIGN != 0 {
                            let sum = if F::SCALES == 1 { meta.sum } else { meta.scale * isum(t) as f32 };
                            sums[t] = add_min::<F>(sums[t], min, sum);
                        }
                    }
                }
                quants = quants.add(F::QUANT_BYTES);
                q = q.add(T * GROUP_QUANTS);
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

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
fn add_min<F: Format>(sum: __m512, min: __m512, x: f32) -> __m512 {
    let x = _mm512_set1_ps(x);
    if F::MIN_SIGN < 0 { _mm512_fnmadd_ps(min, x, sum) } else { _mm512_fmadd_ps(min, x, sum) }
}
