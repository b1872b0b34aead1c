//! Activations in two int8 parts against packed quants, with `vpmaddubsw`.

use std::arch::x86_64::*;

use super::unpack::{FAR, HALF, group_scales, lines, prefetch, super_scales};
use crate::linear::fetch::panel_and_next;
use crate::linear::format::{BLOCK_GROUPS, Format, GROUP, GROUP_QUANTS, PANEL, ahead};
use crate::linear::plan::UNIT;
use crate::linear::prepare::GroupMeta;

/// As [`scalar::int8`](crate::linear::scalar::int8). One or two tokens take all 16 rows of a group before the next, so that weights
/// stream from memory at an even pace; more take 8 rows and 4 tokens at a time: what the 16 registers hold.
///
/// # Safety
/// As the scalar kernel, and the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn int8<F: Format>(
    first: *const u8,
    panels: usize,
    groups: usize,
    q: *const i8,
    meta: *const GroupMeta,
    tokens: usize,
    out: *mut f32,
    next: *const u8,
) {
    // SAFETY: the caller's promises; the parts cover the tile.
    unsafe {
        match tokens {
            1 => few::<F, 1>(first, panels, groups, q, meta, out, next),
            2 => few::<F, 2>(first, panels, groups, q, meta, out, next),
            _ => {
                for p in 0..panels {
                    let [panel, after] = panel_and_next(first, p, panels, F::panel_bytes(groups), next);
                    for half in 0..2 {
                        for t in (0..tokens).step_by(4) {
                            let (q, meta, out) = (q.add(t * GROUP_QUANTS), meta.add(t), out.add(t * UNIT + p * PANEL));
                            // What was read once is in the cache.
                            let next = if half == 0 && t == 0 { after } else { std::ptr::null() };
                            part::<F, 4, 1>([panel, next], half, groups, q, meta, tokens, out);
                        }
                    }
                }
            }
        }
    }
}

/// `N` tokens, all of the tile, times panels.
///
/// # Safety
/// As [`int8`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn few<F: Format, const N: usize>(
    first: *const u8,
    panels: usize,
    groups: usize,
    q: *const i8,
    meta: *const GroupMeta,
    out: *mut f32,
    next: *const u8,
) {
    let bytes = F::panel_bytes(groups);
    for p in 0..panels {
        let panels = panel_and_next(first, p, panels, bytes, next);
        // SAFETY: the caller's promises.
        unsafe { part::<F, N, 2>(panels, 0, groups, q, meta, N, out.add(p * PANEL)) };
    }
}

/// `N` of the `tokens` tokens of a tile times `H` halves of a panel, 8 rows each, from half `first` on.
///
/// # Safety
/// As [`int8`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn part<F: Format, const N: usize, const H: usize>(
    [panel, next]: [*const u8; 2],
    first: usize,
    groups: usize,
    mut q: *const i8,
    mut meta: *const GroupMeta,
    tokens: usize,
    out: *mut f32,
) {
    let streams = !next.is_null();
    let mut sums = [[_mm256_setzero_ps(); N]; H];
    let mut header = panel;
    let mut left = groups;
    // SAFETY: all addresses lie in the panel and the tile, whose lengths the caller promises; prefetches may go beyond.
    unsafe {
        while left > 0 {
            let count = left.min(BLOCK_GROUPS);
            let mut quants = header.add(F::header_bytes(count));
            let far = |p: *const u8| ahead(panel, next, p.addr() - panel.addr(), F::panel_bytes(groups), FAR);
            let shared: [_; H] = std::array::from_fn(|h| super_scales::<F>(header, first + h));
            if streams {
                let far = far(header);
                for line in 0..F::header_bytes(BLOCK_GROUPS).div_ceil(64) {
                    prefetch(header.wrapping_add(64 * line), far.wrapping_add(64 * line));
                }
            }
            for g in 0..count {
                if streams {
                    let far = far(quants);
                    for line in 0..F::BITS {
                        prefetch(quants.wrapping_add(64 * line), far.wrapping_add(64 * line));
                    }
                }
                for h in 0..H {
                    // Both halves read the same activations, which the compiler would keep in memory between: there are no registers.
                    let q = std::hint::black_box(q);
                    let weights = lines::<F>(quants.add(32 * (first + h)));
                    group::<F, N>(header, first + h, g, shared[h], &weights, q, meta, &mut sums[h]);
                }
                quants = quants.add(F::QUANT_BYTES);
                q = q.add(tokens * GROUP_QUANTS);
                meta = meta.add(tokens);
            }
            header = quants;
            left -= count;
        }
        for (h, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(out.add(n * UNIT + (first + h) * HALF), *sum);
            }
        }
    }
}

/// Adds group `g` of a block, 8 rows of it, times `N` tokens to their sums.
///
/// # Safety
/// As [`int8`]: `header` is the block's, `q` and `meta` are the group's.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn group<F: Format, const N: usize>(
    header: *const u8,
    half: usize,
    g: usize,
    shared: (__m256, __m256),
    weights: &[__m256i; 8],
    q: *const i8,
    meta: *const GroupMeta,
    sums: &mut [__m256; N],
) {
    let per_scale = 8 / F::SCALES;
    for s in 0..F::SCALES {
        // SAFETY: the caller's promises.
        unsafe {
            let (scale, min) = group_scales::<F>(header, half, g, s, shared);
            for (n, sum) in sums.iter_mut().enumerate() {
                let meta = &*meta.add(n);
                let isum = if F::SCALES == 1 { meta.isum[0].wrapping_add(meta.isum[1]) } else { meta.isum[s] };
                let weights = &weights[s * per_scale..(s + 1) * per_scale];
                let dot = dot::<F>(isum, weights, q.add(n * GROUP_QUANTS + 4 * s * per_scale));
                let factor = _mm256_mul_ps(scale, _mm256_set1_ps(meta.scale));
                *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), factor, *sum);
                if F::MIN_SIGN != 0 {
                    let x = _mm256_set1_ps(meta.scale * isum as f32);
                    *sum = if F::MIN_SIGN < 0 { _mm256_fnmadd_ps(min, x, *sum) } else { _mm256_fmadd_ps(min, x, *sum) };
                }
            }
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
/// `q` points to 4 high parts for each line, and a group further to their low parts.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot<F: Format>(isum: i32, weights: &[__m256i], q: *const i8) -> __m256i {
    let place = [_mm256_set1_epi16(128), _mm256_set1_epi16(1)];
    let x = |part: usize, j: usize| {
        // SAFETY: the caller's promise.
        _mm256_set1_epi32(unsafe { q.add(part * GROUP + 4 * j).cast::<i32>().read_unaligned() })
    };
    if F::BITS == 8 || F::CODES {
        let mut sum = _mm256_setzero_si256();
        for (j, &line) in weights.iter().enumerate() {
            let line = _mm256_xor_si256(line, _mm256_set1_epi8(-128));
            let magnitude = _mm256_abs_epi8(line);
            for (part, place) in place.into_iter().enumerate() {
                let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x(part, j), line));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, place));
            }
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
        for (part, place) in place.into_iter().enumerate() {
            let mut pairs = _mm256_maddubs_epi16(lines[0], x(part, c * run));
            for (j, &line) in lines.iter().enumerate().skip(1) {
                pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(line, x(part, c * run + j)));
            }
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, place));
        }
    }
    sum
}
