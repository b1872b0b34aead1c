//! Packed quants to floats.

use std::arch::x86_64::*;

use super::unpack::{group_scales, lines, super_scales};
use crate::linear::format::{BLOCK_GROUPS, Format, GROUP, PANEL};

/// As [`scalar::dequantise`](crate::linear::scalar::dequantise), bit for bit: no fused operations.
///
/// # Safety
/// As the scalar function, and the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) unsafe fn dequantise<F: Format>(panel: *const u8, groups: usize, mut out: *mut f32) {
    let mut header = panel;
    let mut left = groups;
    let low = _mm512_set1_epi32(0xFF);
    let zero = _mm512_set1_epi32(F::ZERO);
    // SAFETY: all addresses lie in the panel and the output, whose lengths the caller promises.
    unsafe {
        while left > 0 {
            let count = left.min(BLOCK_GROUPS);
            let mut quants = header.add(F::header_bytes(count));
            let shared = super_scales::<F>(header);
            for g in 0..count {
                let weights = lines::<F>(quants);
                let first = group_scales::<F>(header, g, 0, shared);
                let scales = [first, if F::SCALES == 2 { group_scales::<F>(header, g, 1, shared) } else { first }];
                for (j, line) in weights.into_iter().enumerate() {
                    let (scale, min) = scales[j / 4];
                    let bytes = [
                        _mm512_and_si512(line, low),
                        _mm512_and_si512(_mm512_srli_epi32::<8>(line), low),
                        _mm512_and_si512(_mm512_srli_epi32::<16>(line), low),
                        _mm512_srli_epi32::<24>(line),
                    ];
                    for (b, q) in bytes.into_iter().enumerate() {
                        let q = _mm512_cvtepi32_ps(_mm512_sub_epi32(q, zero));
                        let mut value = _mm512_mul_ps(scale, q);
                        if F::MIN_SIGN > 0 {
                            value = _mm512_add_ps(value, min);
                        } else if F::MIN_SIGN < 0 {
                            value = _mm512_sub_ps(value, min);
                        }
                        _mm512_storeu_ps(out.add((4 * j + b) * PANEL), value);
                    }
                }
                quants = quants.add(F::QUANT_BYTES);
                out = out.add(GROUP * PANEL);
            }
            header = quants;
            left -= count;
        }
    }
}
