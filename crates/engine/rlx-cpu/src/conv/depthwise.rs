//! Depthwise convolution: each channel by itself.

use super::ConvArgs;
use super::kernel::DepthwiseTaps;
use crate::math::ActivationMath;
use crate::math::simd::{Simd, simd_dispatch};
use crate::{Isa, ThreadCtx};

/// Most rows that are summed together, so that each weight is read once for all of them.
const TILE: usize = 4;

/// This thread's share of the rows.
pub(super) fn depthwise(ctx: &ThreadCtx<'_>, isa: Isa, kernel: &DepthwiseTaps, args: &ConvArgs<'_>) {
    let channels = kernel.channels;
    let bias = args.bias.unwrap_or(kernel.zeros());
    assert_eq!(bias.len(), channels, "length of the bias");
    assert_eq!(args.slides.window().taps, kernel.taps(), "taps of the window");
    let mut seen: Vec<&[f32]> = Vec::with_capacity(TILE * kernel.taps());
    let share = ctx.share(args.rows, TILE);
    for first in share.clone().step_by(TILE) {
        let count = (share.end - first).min(TILE);
        seen.clear();
        for t in first..first + count {
            let rows = args.slides.rows(t);
            seen.extend(rows.map(|row| row.map_or(kernel.zeros(), |row| args.x.row(row, channels))));
        }
        let mut out: [&mut [f32]; TILE] = Default::default();
        for (i, out) in out.iter_mut().enumerate().take(count) {
            // SAFETY: each row belongs to one thread.
            *out = unsafe { args.out.part(first + i, 0..channels) };
        }
        sums(isa, &kernel.weights, bias, &seen, &mut out[..count]);
        if let Some(activation) = args.activation {
            out[..count].iter_mut().for_each(|row| activation.apply_slice(isa, row));
        }
    }
}

simd_dispatch! {
    /// `out[r] = bias + sum over taps: weights[tap] * seen[r * taps + tap]`, elementwise on rows as long as the bias.
    fn sums(weights: &[f32], bias: &[f32], seen: &[&[f32]], out: &mut [&mut [f32]]) = sums_v
}

#[inline(always)]
fn sums_v<V: Simd>(weights: &[f32], bias: &[f32], seen: &[&[f32]], out: &mut [&mut [f32]]) {
    match out {
        [a, b, c, d] => rows_v::<V, 4>(weights, bias, seen, [a, b, c, d]),
        _ => {
            let taps = seen.len() / out.len().max(1);
            for (out, seen) in out.iter_mut().zip(seen.chunks_exact(taps)) {
                rows_v::<V, 1>(weights, bias, seen, [out]);
            }
        }
    }
}

#[inline(always)]
fn rows_v<V: Simd, const R: usize>(weights: &[f32], bias: &[f32], seen: &[&[f32]], mut out: [&mut [f32]; R]) {
    let (channels, taps) = (bias.len(), seen.len() / R);
    assert!(weights.len() >= taps * channels && out.iter().all(|row| row.len() == channels));
    assert!(seen.iter().all(|row| row.len() == channels));
    let mut c = 0;
    // SAFETY: all rows are `channels` long by the checks above, and each access is to the `n` elements from `c` on, which
    // end at most there.
    unsafe {
        while c + V::LANES <= channels {
            let mut sums = [V::load(bias.as_ptr().add(c)); R];
            for tap in 0..taps {
                let w = V::load(weights.as_ptr().add(tap * channels + c));
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = w.fma(V::load(seen.get_unchecked(r * taps + tap).as_ptr().add(c)), *sum);
                }
            }
            for (row, sum) in out.iter_mut().zip(sums) {
                sum.store(row.as_mut_ptr().add(c));
            }
            c += V::LANES;
        }
        let n = channels - c;
        let mut sums = [V::load_part(bias.as_ptr().add(c), n); R];
        for tap in 0..taps {
            let w = V::load_part(weights.as_ptr().add(tap * channels + c), n);
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = w.fma(V::load_part(seen.get_unchecked(r * taps + tap).as_ptr().add(c), n), *sum);
            }
        }
        for (row, sum) in out.iter_mut().zip(sums) {
            sum.store_part(row.as_mut_ptr().add(c), n);
        }
    }
}
