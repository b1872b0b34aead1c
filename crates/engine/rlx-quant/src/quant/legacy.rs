//! Quantisation of the types with one scale a block: 32 elements, the ternary types, and Q8_K.

use super::search::{Steps, extreme, fit_affine, fit_symmetric, nearest};
use super::{Context, put_half};
use crate::codebooks::{KVALUES_MXFP4, e8m0_half};

/// `1 / d`, or 0 for 0.
#[inline(always)]
pub(super) fn inverse(d: f32) -> f32 {
    if d != 0.0 { 1.0 / d } else { 0.0 }
}

/// Packs 32 nibbles: element `j` in the low half of byte `j`, element `j + 16` in its high half.
#[inline(always)]
pub(super) fn put_nibbles(qs: &mut [u8], q: &[u8; 32]) {
    for j in 0..16 {
        qs[j] = (q[j] & 0xF) | (q[j + 16] << 4);
    }
}

/// Packs the fifth bits, bit `j` for element `j`.
#[inline(always)]
fn put_fifth_bits(qh: &mut [u8], q: &[u8; 32]) {
    let bits = (0..32).fold(0u32, |bits, j| bits | (((q[j] >> 4) as u32 & 1) << j));
    qh.copy_from_slice(&bits.to_le_bytes());
}

/// Weights of a block: importance times the root of (mean square of the row + square of the element).
#[inline(always)]
fn weights(x: &[f32; 32], importance: &[f32; 32], mean_square: f32) -> [f32; 32] {
    std::array::from_fn(|j| importance[j] * (mean_square + x[j] * x[j]).sqrt())
}

/// Quants `0..2 * nmax` around a zero point of `nmax`, and the scale.
fn symmetric(x: &[f32; 32], nmax: i32, context: Context<'_, 32>) -> (f32, [u8; 32]) {
    if let Some(importance) = context.importance {
        let mut q = [0; 32];
        let d = fit_symmetric(x, Some(&weights(x, importance, context.mean_square)), nmax, &mut q);
        return (d, q);
    }
    let d = extreme(x) / -nmax as f32;
    let id = inverse(d);
    (d, x.map(|v| ((v * id + (nmax as f32 + 0.5)) as i8).min(2 * nmax as i8 - 1) as u8))
}

/// Quants `0..=nmax`, the scale, and the minimum to be added.
fn affine(x: &[f32; 32], nmax: i32, context: Context<'_, 32>) -> (f32, f32, [u8; 32]) {
    if let Some(importance) = context.importance {
        let mut q = [0; 32];
        let steps = Steps { first: -0.9, step: 0.05, steps: 36, absolute: false };
        let (d, m) = fit_affine(x, &weights(x, importance, context.mean_square), nmax, &steps, &mut q);
        return (d, -m, q);
    }
    let (mut min, mut max) = (f32::MAX, -f32::MAX);
    for &v in x {
        min = if v < min { v } else { min };
        max = if v > max { v } else { max };
    }
    let d = (max - min) / nmax as f32;
    let id = inverse(d);
    (d, min, x.map(|v| (((v - min) * id + 0.5) as u8).min(nmax as u8)))
}

pub(super) fn q4_0(x: &[f32; 32], context: Context<'_, 32>, out: &mut [u8; 18]) {
    let (d, q) = symmetric(x, 8, context);
    put_half(out, 0, d);
    put_nibbles(&mut out[2..], &q);
}

pub(super) fn q4_1(x: &[f32; 32], context: Context<'_, 32>, out: &mut [u8; 20]) {
    let (d, m, q) = affine(x, 15, context);
    put_half(out, 0, d);
    put_half(out, 2, m);
    put_nibbles(&mut out[4..], &q);
}

pub(super) fn q5_0(x: &[f32; 32], context: Context<'_, 32>, out: &mut [u8; 22]) {
    let (d, q) = symmetric(x, 16, context);
    put_half(out, 0, d);
    put_fifth_bits(&mut out[2..6], &q);
    put_nibbles(&mut out[6..], &q);
}

pub(super) fn q5_1(x: &[f32; 32], context: Context<'_, 32>, out: &mut [u8; 24]) {
    let (d, m, q) = affine(x, 31, context);
    put_half(out, 0, d);
    put_half(out, 2, m);
    put_fifth_bits(&mut out[4..8], &q);
    put_nibbles(&mut out[8..], &q);
}

/// Scale and quants of the 8-bit types, rounded half away from zero.
#[inline(always)]
fn eight_bits(x: &[f32; 32]) -> (f32, [i8; 32]) {
    let d = extreme(x).abs() / 127.0;
    let id = inverse(d);
    (d, x.map(|v| (v * id).round() as i8))
}

pub(super) fn q8_0(x: &[f32; 32], _: Context<'_, 32>, out: &mut [u8; 34]) {
    let (d, q) = eight_bits(x);
    put_half(out, 0, d);
    for j in 0..32 {
        out[2 + j] = q[j] as u8;
    }
}

pub(super) fn q8_1(x: &[f32; 32], _: Context<'_, 32>, out: &mut [u8; 36]) {
    let (d, q) = eight_bits(x);
    put_half(out, 0, d);
    put_half(out, 2, q.iter().map(|&v| v as i32).sum::<i32>() as f32 * d);
    for j in 0..32 {
        out[4 + j] = q[j] as u8;
    }
}

pub(super) fn q8_k(x: &[f32; 256], _: Context<'_, 256>, out: &mut [u8; 292]) {
    let max = extreme(x);
    let iscale = -127.0 / max;
    let (d, q) = if max == 0.0 {
        (0.0, [0; 256])
    } else {
        (1.0 / iscale, x.map(|v| nearest(iscale * v).clamp(-128, 127) as i8))
    };
    out[..4].copy_from_slice(&f32::to_le_bytes(d));
    for j in 0..256 {
        out[4 + j] = q[j] as u8;
    }
    for g in 0..16 {
        let sum: i16 = q[16 * g..16 * g + 16].iter().map(|&v| v as i16).sum();
        out[260 + 2 * g..262 + 2 * g].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Scale and base-3 digits of the ternary types.
fn ternary(x: &[f32; 256]) -> (f32, [u8; 256]) {
    let d = extreme(x).abs();
    let id = inverse(d);
    (d, x.map(|v| ((v * id).round().clamp(-1.0, 1.0) as i8 + 1) as u8))
}

pub(super) fn tq1_0(x: &[f32; 256], _: Context<'_, 256>, out: &mut [u8; 54]) {
    let (d, q) = ternary(x);
    // A byte is the fraction digits / 3^5 in 1/256, rounded up, so that multiplying by 3 yields the digits again.
    let byte = |at: usize, stride: usize, digits: usize| {
        let number = (0..5).fold(0u16, |n, i| 3 * n + if i < digits { q[at + stride * i] as u16 } else { 0 });
        ((number * 256).div_ceil(243)) as u8
    };
    for j in 0..32 {
        out[j] = byte(j, 32, 5);
    }
    for j in 0..16 {
        out[32 + j] = byte(160 + j, 16, 5);
    }
    for j in 0..4 {
        out[48 + j] = byte(240 + j, 4, 4);
    }
    put_half(out, 52, d);
}

pub(super) fn tq2_0(x: &[f32; 256], _: Context<'_, 256>, out: &mut [u8; 66]) {
    let (d, q) = ternary(x);
    for half in 0..2 {
        for l in 0..32 {
            out[32 * half + l] = (0..4).fold(0, |b, part| b | (q[128 * half + 32 * part + l] << (2 * part)));
        }
    }
    put_half(out, 64, d);
}

pub(super) fn mxfp4(x: &[f32; 32], _: Context<'_, 32>, out: &mut [u8; 17]) {
    let max = extreme(x).abs();
    // The largest code is 6 = 1.5 * 2^2.
    let e = if max > 0.0 { (max.log2().floor() - 2.0 + 127.0) as u8 } else { 0 };
    let d = e8m0_half(e);
    let q = x.map(|v| {
        let error = |c: usize| (KVALUES_MXFP4[c] as f32 * d - v).abs();
        (1..16).fold(0, |best, c| if error(c) < error(best) { c } else { best }) as u8
    });
    out[0] = e;
    put_nibbles(&mut out[1..], &q);
}
