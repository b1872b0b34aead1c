//! int8 activations against packed quants, with `vpmaddubsw`.

use std::arch::x86_64::*;

use super::unpack::{HALF, group_scales, lines, super_scales};
use crate::linear::format::{BLOCK_GROUPS, Format, GROUP};
use crate::linear::plan::UNIT;
use crate::linear::prepare::GroupMeta;

/// Weights are fetched from memory into the second-level cache this far ahead of the arithmetic,
const FAR: usize = 4096;
/// and this far ahead into the first: few of its misses can wait for memory at a time.
const NEAR: usize = 512;

/// As [`scalar::int8`](crate::linear::scalar::int8), 8 rows and up to 4 tokens at a time: what the 16 registers hold.
///
/// # Safety
/// As the scalar kernel, and the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn int8<F: Format>(
    panel: *const u8,
    groups: usize,
    q: *const i8,
    meta: *const GroupMeta,
    tokens: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promises; the parts cover the tile.
    unsafe {
        for half in 0..2 {
            let out = out.add(HALF * half);
            match tokens {
                1 => part::<F, 1>(panel, half, groups, q, meta, tokens, out),
                2 => part::<F, 2>(panel, half, groups, q, meta, tokens, out),
                _ => {
                    for t in (0..tokens).step_by(4) {
                        let out = out.add(t * UNIT);
                        part::<F, 4>(panel, half, groups, q.add(t * GROUP), meta.add(t), tokens, out);
                    }
                }
            }
        }
    }
}

/// `N` of the `tokens` tokens of a tile times 8 rows.
///
/// # Safety
/// As [`int8`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn part<F: Format, const N: usize>(
    panel: *const u8,
    half: usize,
    groups: usize,
    mut q: *const i8,
    mut meta: *const GroupMeta,
    tokens: usize,
    out: *mut f32,
) {
    let mut sums = [_mm256_setzero_ps(); N];
    let mut header = panel;
    let mut left = groups;
    // SAFETY: all addresses lie in the panel and the tile, whose lengths the caller promises; prefetches may go beyond.
    unsafe {
        while left > 0 {
            let count = left.min(BLOCK_GROUPS);
            let mut quants = header.add(F::header_bytes(count));
            let shared = super_scales::<F>(header, half);
            for g in 0..count {
                if N <= 2 && half == 0 {
                    for line in 0..F::BITS {
                        prefetch(quants.wrapping_add(64 * line));
                    }
                }
                let weights = lines::<F>(quants.add(32 * half));
                let per_scale = 8 / F::SCALES;
                for s in 0..F::SCALES {
                    let (scale, min) = group_scales::<F>(header, half, g, s, shared);
                    for n in 0..N {
                        let meta = &*meta.add(n);
                        let isum = if F::SCALES == 1 { meta.isum[0].wrapping_add(meta.isum[1]) } else { meta.isum[s] };
                        let weights = &weights[s * per_scale..(s + 1) * per_scale];
                        let dot = dot::<F>(isum, weights, q.add(n * GROUP + 4 * s * per_scale));
                        let factor = _mm256_mul_ps(scale, _mm256_set1_ps(meta.scale));
                        sums[n] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), factor, sums[n]);
                        if F::MIN_SIGN != 0 {
                            let x = _mm256_set1_ps(meta.scale * isum as f32);
                            sums[n] = if F::MIN_SIGN < 0 {
                                _mm256_fnmadd_ps(min, x, sums[n])
                            } else {
                                _mm256_fmadd_ps(min, x, sums[n])
                            };
                        }
                    }
                }
                quants = quants.add(F::QUANT_BYTES);
                q = q.add(tokens * GROUP);
                meta = meta.add(tokens);
            }
            header = quants;
            left -= count;
        }
        for (n, sum) in sums.into_iter().enumerate() {
            _mm256_storeu_ps(out.add(n * UNIT), sum);
        }
    }
}

/// Lines times the activations at `q`, with the zero point taken off.
///
/// Pairs of products are summed in 16 bits, of several lines as far as they fit: 15 * 127 * 2 eight times, 31 * 127 * 2 four
/// times, 63 * 127 * 2 twice. Quants of 8 bits are made signed, and their sign is moved to the activation: 128 * 127 * 2 fits
/// once.
///
/// # Safety
/// `q` points to 4 values for each line.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot<F: Format>(isum: i32, weights: &[__m256i], q: *const i8) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    // SAFETY: the caller's promise.
    let x = |j: usize| _mm256_set1_epi32(unsafe { q.add(4 * j).cast::<i32>().read_unaligned() });
    if F::BITS == 8 || F::CODES {
        let mut sum = _mm256_setzero_si256();
        for (j, &line) in weights.iter().enumerate() {
            let line = _mm256_xor_si256(line, _mm256_set1_epi8(-128));
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(line), _mm256_sign_epi8(x(j), line));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        }
        return sum;
    }
    let run = match F::BITS {
        6 => 2,
        5 => 4,
        _ => 8,
    };
    let mut sum = _mm256_set1_epi32(isum.wrapping_mul(-F::ZERO));
    for (c, lines) in weights.chunks(run).enumerate() {
        let mut pairs = _mm256_maddubs_epi16(lines[0], x(c * run));
        for (j, &line) in lines.iter().enumerate().skip(1) {
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(line, x(c * run + j)));
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    sum
}

/// Fetches what comes after the line at `p`; the addresses may lie beyond the end.
#[inline(always)]
fn prefetch(p: *const u8) {
    // SAFETY: prefetching never faults.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(p.wrapping_add(FAR).cast());
        _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(NEAR).cast());
    }
}
