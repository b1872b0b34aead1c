//! Packed quants to floats.

use std::arch::x86_64::*;

use super::unpack::{HALF, group_scales, lines, super_scales};
use crate::linear::format::{BLOCK_GROUPS, Format, GROUP, PANEL};

/// As [`scalar::dequantise`](crate::linear::scalar::dequantise), bit for bit: no fused operations.
///
/// # Safety
/// As the scalar function, and the machine has AVX2 and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn dequantise<F: Format>(panel: *const u8, groups: usize, mut out: *mut f32) {
    let mut header = panel;
    let mut left = groups;
    let low = _mm256_set1_epi32(0xFF);
    let zero = _mm256_set1_epi32(F::ZERO);
    // SAFETY: all addresses lie in the panel and the output, whose lengths the caller promises.
    unsafe {
        while left > 0 {
            let count = left.min(BLOCK_GROUPS);
            let quants = header.add(F::header_bytes(count));
            for half in 0..2 {
                let shared = super_scales::<F>(header, half);
                for g in 0..count {
                    let weights = lines::<F>(quants.add(g * F::QUANT_BYTES + 32 * half));
                    let first = group_scales::<F>(header, half, g, 0, shared);
                    let scales =
                        [first, if F::SCALES == 2 { group_scales::<F>(header, half, g, 1, shared) } else { first }];
                    for (j, line) in weights.into_iter().enumerate() {
                        let (scale, min) = scales[j / 4];
                        let bytes = [
                            _mm256_and_si256(line, low),
                            _mm256_and_si256(_mm256_srli_epi32::<8>(line), low),
                            _mm256_and_si256(_mm256_srli_epi32::<16>(line), low),
                            _mm256_srli_epi32::<24>(line),
                        ];
                        for (b, q) in bytes.into_iter().enumerate() {
                            let q = _mm256_cvtepi32_ps(_mm256_sub_epi32(q, zero));
                            let mut value = _mm256_mul_ps(scale, q);
                            if F::MIN_SIGN > 0 {
                                value = _mm256_add_ps(value, min);
                            } else if F::MIN_SIGN < 0 {
                                value = _mm256_sub_ps(value, min);
                            }
                            let column = g * GROUP + 4 * j + b;
                            _mm256_storeu_ps(out.add(column * PANEL + half * HALF), value);
                        }
                    }
                }
            }
            out = out.add(count * GROUP * PANEL);
            header = quants.add(count * F::QUANT_BYTES);
            left -= count;
        }
    }
}
