//! Activations in two int8 parts against packed quants, with `sdot`.

use std::arch::aarch64::*;
use std::arch::asm;

use super::unpack::{QUARTER, QUARTERS, group_scales, is_offset, lines, super_scales};
use crate::linear::format::{BLOCK_GROUPS, Format, GROUP, GROUP_QUANTS, PANEL};
use crate::linear::plan::UNIT;
use crate::linear::prepare::GroupMeta;

/// As [`scalar::int8`](crate::linear::scalar::int8).
///
/// # Safety
/// As the scalar kernel, and the machine has the dot-product instructions.
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn int8<F: Format>(
    first: *const u8,
    panels: usize,
    groups: usize,
    q: *const i8,
    meta: *const GroupMeta,
    tokens: usize,
    out: *mut f32,
    _next: *const u8,
) {
    // SAFETY: the caller's promises; tiles are of 1, 2, 4 or 8 tokens.
    unsafe {
        for p in 0..panels {
            let panel = first.add(p * F::panel_bytes(groups));
            let out = out.add(p * PANEL);
            match tokens {
                1 => part::<F, 1>(panel, groups, q, meta, tokens, out),
                2 => part::<F, 2>(panel, groups, q, meta, tokens, out),
                _ => {
                    for t in (0..tokens).step_by(4) {
                        let (q, meta, out) = (q.add(t * GROUP_QUANTS), meta.add(t), out.add(t * UNIT));
                        part::<F, 4>(panel, groups, q, meta, tokens, out);
                    }
                }
            }
        }
    }
}

/// `N` of the `tokens` tokens of a tile times a panel.
///
/// # Safety
/// As [`int8`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn part<F: Format, const N: usize>(
    panel: *const u8,
    groups: usize,
    mut q: *const i8,
    mut meta: *const GroupMeta,
    tokens: usize,
    out: *mut f32,
) {
    let mut sums = [[vdupq_n_f32(0.0); N]; QUARTERS];
    let mut header = panel;
    let mut left = groups;
    // SAFETY: all addresses lie in the panel and the tile, whose lengths the caller promises.
    unsafe {
        while left > 0 {
            let count = left.min(BLOCK_GROUPS);
            let mut quants = header.add(F::header_bytes(count));
            let shared: [_; QUARTERS] = std::array::from_fn(|h| super_scales::<F>(header, h));
            for g in 0..count {
                for (h, sums) in sums.iter_mut().enumerate() {
                    let weights = lines::<F>(quants.add(4 * QUARTER * h));
                    for s in 0..F::SCALES {
                        let scales = group_scales::<F>(header, h, g, s, shared[h]);
                        for (n, sum) in sums.iter_mut().enumerate() {
                            *sum = add_group::<F>(&weights, s, scales, q.add(n * GROUP_QUANTS), &*meta.add(n), *sum);
                        }
                    }
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
                vst1q_f32(out.add(n * UNIT + h * QUARTER), *sum);
            }
        }
    }
}

/// `sum` plus the products of the columns of scale `s` of a group with a token's activations at `q`.
///
/// # Safety
/// `q` points to a group of activations, high parts before low ones; the machine has the dot-product instructions.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn add_group<F: Format>(
    weights: &[int8x16_t; 8],
    s: usize,
    (scale, min): (float32x4_t, float32x4_t),
    q: *const i8,
    meta: &GroupMeta,
    sum: float32x4_t,
) -> float32x4_t {
    let isum = if F::SCALES == 1 { meta.isum[0].wrapping_add(meta.isum[1]) } else { meta.isum[s] };
    let mut low = vdupq_n_s32(if is_offset::<F>() { 0 } else { isum.wrapping_mul(-F::ZERO) });
    let mut high = vdupq_n_s32(0);
    // A register of activations meets four lines.
    let per_scale = 2 / F::SCALES;
    for i in s * per_scale..(s + 1) * per_scale {
        let lines = &weights[4 * i..4 * i + 4];
        // SAFETY: the caller's promise.
        let (x_high, x_low) = unsafe { (vld1q_s8(q.add(16 * i)), vld1q_s8(q.add(GROUP + 16 * i))) };
        high = dot::<0>(high, lines[0], x_high);
        low = dot::<0>(low, lines[0], x_low);
        high = dot::<1>(high, lines[1], x_high);
        low = dot::<1>(low, lines[1], x_low);
        high = dot::<2>(high, lines[2], x_high);
        low = dot::<2>(low, lines[2], x_low);
        high = dot::<3>(high, lines[3], x_high);
        low = dot::<3>(low, lines[3], x_low);
    }
    let dot = vaddq_s32(low, vshlq_n_s32::<7>(high));
    let sum = vfmaq_f32(sum, vcvtq_f32_s32(dot), vmulq_n_f32(scale, meta.scale));
    let x = vdupq_n_f32(meta.scale * isum as f32);
    match F::MIN_SIGN {
        0 => sum,
        ..0 => vfmsq_f32(sum, min, x),
        _ => vfmaq_f32(sum, min, x),
    }
}

/// `sum` plus, row by row, the products of 4 columns with the four activations of lane `LANE` of `x`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const LANE: usize>(mut sum: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers alone, and the function's features have the instruction (whose intrinsic is not yet stable).
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {x:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            weights = in(vreg) weights,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
