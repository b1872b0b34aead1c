//! Norms of logits.

use super::functions::exp;
use super::simd::{Simd, simd_dispatch};

simd_dispatch! {
    /// `ln(sum(e^logits))`, given the largest of them; logits of minus infinity count nothing. Minus infinity for an empty row.
    /// Each term is exact to two units in the last place of an `f32`.
    pub fn log_sum_exp(logits: &[f32], max: f32) -> f32 = log_sum_exp_v
}

/// Sums that are independent, so that additions need not wait for one another.
const SUMS: usize = 4;

#[inline(always)]
fn log_sum_exp_v<V: Simd>(logits: &[f32], max: f32) -> f32 {
    if max == f32::NEG_INFINITY {
        return f32::NEG_INFINITY;
    }
    let shift = V::splat(max);
    let mut sums = [V::zero(); SUMS];
    let whole = logits.len() / (SUMS * V::LANES) * (SUMS * V::LANES);
    for i in (0..whole).step_by(SUMS * V::LANES) {
        for (s, sum) in sums.iter_mut().enumerate() {
            // SAFETY: whole groups of registers.
            let x = unsafe { V::load(logits.as_ptr().add(i + s * V::LANES)) };
            *sum = *sum + exp(x - shift);
        }
    }
    let rest: f32 = logits[whole..].iter().map(|&x| (x - max).exp()).sum();
    let sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    max + f64::from(sum.sum() + rest).ln() as f32
}
