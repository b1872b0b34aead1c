//! Quantisation of the types whose 4-bit codes index [`KVALUES_IQ4NL`].

use super::legacy::{inverse, put_nibbles};
use super::search::{GROUP_MAX_EPS, extreme, nearest_in, sum_squares};
use super::{Context, put_half};
use crate::codebooks::KVALUES_IQ4NL;

/// Scales to each side of the first guess that are tried.
const TRIES: i32 = 7;

/// Code whose value is nearest to `x`; the upper one if two are.
#[inline]
fn nearest_code(x: f32) -> usize {
    let value = |c: usize| KVALUES_IQ4NL[c] as f32;
    if x <= value(0) {
        return 0;
    }
    if x >= value(15) {
        return 15;
    }
    // The first code above `x`. A NaN comes out as code 15.
    let upper = (1..15).find(|&c| x < value(c)).unwrap_or(15);
    if x - value(upper - 1) < value(upper) - x { upper - 1 } else { upper }
}

/// Best scale of one group of 32.
fn fit(x: &[f32], weight: impl Fn(usize) -> f32) -> f32 {
    let max = extreme(x);
    if max.abs() < GROUP_MAX_EPS {
        return 0.0;
    }
    let sums = |id: f32| {
        let (mut xq, mut qq) = (0.0, 0.0);
        for i in 0..x.len() {
            let q = KVALUES_IQ4NL[nearest_code(id * x[i])] as f32;
            let w = weight(i);
            xq += w * q * x[i];
            qq += w * q * q;
        }
        (xq, qq)
    };
    let lowest = KVALUES_IQ4NL[0] as f32;
    let (xq, qq) = sums(1.0 / (-max / lowest));
    let mut d = xq / qq;
    let mut best = d * xq;
    for step in -TRIES..=TRIES {
        let (xq, qq) = sums((step as f32 + lowest) / max);
        if qq > 0.0 && xq * xq > best * qq {
            d = xq / qq;
            best = d * xq;
        }
    }
    d
}

/// Scales of the groups of a block, by weights `x²` or, with importance, importance × √(2 × mean square + `x²`).
fn scales<const N: usize, const G: usize>(x: &[f32; N], importance: Option<&[f32; N]>) -> [f32; G] {
    let sigma2 = 2.0 * sum_squares(x) / N as f32;
    std::array::from_fn(|g| {
        let x = &x[32 * g..32 * g + 32];
        match importance {
            Some(w) => fit(x, |i| w[32 * g + i] * (sigma2 + x[i] * x[i]).sqrt()),
            None => fit(x, |i| x[i] * x[i]),
        }
    })
}

/// Codes of 32 numbers at scale `d`.
fn codes(x: &[f32], d: f32) -> [u8; 32] {
    let id = inverse(d);
    std::array::from_fn(|i| nearest_code(id * x[i]) as u8)
}

pub(super) fn iq4_nl(x: &[f32; 32], context: Context<'_, 32>, out: &mut [u8; 18]) {
    let [d] = scales(x, context.importance);
    put_half(out, 0, d);
    put_nibbles(&mut out[2..], &codes(x, d));
}

pub(super) fn iq4_xs(x: &[f32; 256], context: Context<'_, 256>, out: &mut [u8; 136]) {
    let scales: [f32; 8] = scales(x, context.importance);
    let d = -extreme(&scales) / 32.0;
    let id = inverse(d);
    put_half(out, 0, d);
    let (mut high, mut low) = (0u16, [0u8; 4]);
    for g in 0..8 {
        let l = nearest_in(id * scales[g], -32, 31);
        put_nibbles(&mut out[8 + 16 * g..24 + 16 * g], &codes(&x[32 * g..32 * g + 32], d * l as f32));
        let l = (l + 32) as u8;
        low[g / 2] |= (l & 0xF) << (4 * (g % 2));
        high |= ((l >> 4) as u16) << (2 * g);
    }
    out[2..4].copy_from_slice(&high.to_le_bytes());
    out[4..8].copy_from_slice(&low);
}
