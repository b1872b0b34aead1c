//! Quantisation of the K types.

use half::f16;

use super::search::*;
use super::{Context, put_half};

/// How a type with group minima is searched.
struct Affine {
    group: usize,
    nmax: i32,
    /// Largest quantised scale and minimum.
    scale_max: i32,
    /// Steps without importance; with importance all types share [`WEIGHTED`].
    plain: Steps,
    /// Whether plain weights are the root mean square plus the magnitude, or the magnitude alone.
    add_rms: bool,
    /// Factor of the mean square in weighted searches.
    spread: f32,
}

const WEIGHTED: Steps = Steps { first: -0.9, step: 0.05, steps: 36, absolute: false };

const Q2: Affine = Affine {
    group: 16,
    nmax: 3,
    scale_max: 15,
    plain: Steps { first: -0.5, step: 0.1, steps: 15, absolute: true },
    add_rms: false,
    spread: 1.0,
};
const Q4: Affine = Affine {
    group: 32,
    nmax: 15,
    scale_max: 63,
    plain: Steps { first: -1.0, step: 0.1, steps: 20, absolute: false },
    add_rms: true,
    spread: 2.0,
};
const Q5: Affine = Affine { nmax: 31, plain: Steps { first: -0.5, step: 0.1, steps: 15, absolute: false }, ..Q4 };

/// A quantised block before packing; one entry of `scale` and `min` a group.
struct Quants {
    q: [u8; 256],
    scale: [u8; 16],
    min: [u8; 16],
    d: f32,
    dmin: f32,
}

/// Value of a float once stored as f16.
fn stored(d: f32) -> f32 {
    f16::from_f32(d).to_f32()
}

/// Quantises non-negative group scales against their largest: the quantised ones and the scale they share.
fn share_scale(x: &[f32], scale_max: i32, l: &mut [u8]) -> f32 {
    let max = x.iter().fold(0.0f32, |m, &v| if v > m { v } else { m });
    let inverse = if max > 0.0 { scale_max as f32 / max } else { 0.0 };
    for (l, &v) in l.iter_mut().zip(x) {
        *l = nearest_in(inverse * v, 0, scale_max) as u8;
    }
    max / scale_max as f32
}

impl Affine {
    fn quantise(&self, x: &[f32; 256], importance: Option<&[f32; 256]>) -> Quants {
        let groups = 256 / self.group;
        let (mut q, mut weights) = ([0; 256], [0.0f32; 256]);
        let (mut scales, mut mins, mut sums) = ([0.0; 16], [0.0; 16], [0.0; 16]);
        let sigma2 = self.spread * sum_squares(x) / 256.0;
        for g in 0..groups {
            let span = g * self.group..(g + 1) * self.group;
            let (x, w) = (&x[span.clone()], &mut weights[span.clone()]);
            let steps = if let Some(importance) = importance {
                for ((w, v), i) in w.iter_mut().zip(x).zip(&importance[span.clone()]) {
                    *w = i * (sigma2 + v * v).sqrt();
                }
                &WEIGHTED
            } else {
                let rms = if self.add_rms { (sum_squares(x) / self.group as f32).sqrt() } else { 0.0 };
                for (w, v) in w.iter_mut().zip(x) {
                    *w = rms + v.abs();
                }
                &self.plain
            };
            sums[g] = w.iter().fold(0.0, |s, w| s + w);
            (scales[g], mins[g]) = fit_affine(x, w, self.nmax, steps, &mut q[span]);
        }

        let (mut scale, mut min) = ([0; 16], [0; 16]);
        let (scales, mins, sums) = (&scales[..groups], &mins[..groups], &sums[..groups]);
        let (d, dmin) = if importance.is_some() {
            (
                fit_positive(scales, sums, self.scale_max, &mut scale[..groups]),
                fit_positive(mins, sums, self.scale_max, &mut min[..groups]),
            )
        } else {
            (share_scale(scales, self.scale_max, &mut scale), share_scale(mins, self.scale_max, &mut min))
        };

        // The quants once more, for the scales as they are stored.
        let (stored_d, stored_dmin) = (stored(d), stored(dmin));
        for g in 0..groups {
            let dl = stored_d * scale[g] as f32;
            if dl == 0.0 {
                continue;
            }
            let ml = stored_dmin * min[g] as f32;
            for i in g * self.group..(g + 1) * self.group {
                q[i] = nearest_in((x[i] + ml) / dl, 0, self.nmax) as u8;
            }
        }
        Quants { q, scale, min, d, dmin }
    }
}

pub(super) fn q2_k(x: &[f32; 256], context: Context<'_, 256>, out: &mut [u8; 84]) {
    let b = Q2.quantise(x, context.importance);
    for g in 0..16 {
        out[g] = b.scale[g] | (b.min[g] << 4);
    }
    put_two_bits(&mut out[16..80], &b.q);
    put_half(out, 80, b.d);
    put_half(out, 82, b.dmin);
}

/// Packs the low two bits of 256 quants as Q2_K and Q3_K have them.
fn put_two_bits(qs: &mut [u8], q: &[u8; 256]) {
    for half in 0..2 {
        for l in 0..32 {
            qs[32 * half + l] = (0..4).fold(0, |b, part| b | ((q[128 * half + 32 * part + l] & 3) << (2 * part)));
        }
    }
}

/// Packs eight 6-bit scales and minima; see [`q4_k_scale_min`](crate::blocks::q4_k_scale_min).
fn put_scales_mins(packed: &mut [u8], scale: &[u8; 16], min: &[u8; 16]) {
    for j in 0..4 {
        packed[j] = scale[j] | ((scale[j + 4] >> 4) << 6);
        packed[j + 4] = min[j] | ((min[j + 4] >> 4) << 6);
        packed[j + 8] = (scale[j + 4] & 0xF) | (min[j + 4] << 4);
    }
}

/// Packs the low nibbles of 256 quants as Q4_K and Q5_K have them.
fn put_low_nibbles(qs: &mut [u8], q: &[u8; 256]) {
    for run in 0..4 {
        for l in 0..32 {
            qs[32 * run + l] = (q[64 * run + l] & 0xF) | (q[64 * run + 32 + l] << 4);
        }
    }
}

pub(super) fn q4_k(x: &[f32; 256], context: Context<'_, 256>, out: &mut [u8; 144]) {
    let b = Q4.quantise(x, context.importance);
    put_half(out, 0, b.d);
    put_half(out, 2, b.dmin);
    put_scales_mins(&mut out[4..16], &b.scale, &b.min);
    put_low_nibbles(&mut out[16..], &b.q);
}

pub(super) fn q5_k(x: &[f32; 256], context: Context<'_, 256>, out: &mut [u8; 176]) {
    let b = Q5.quantise(x, context.importance);
    put_half(out, 0, b.d);
    put_half(out, 2, b.dmin);
    put_scales_mins(&mut out[4..16], &b.scale, &b.min);
    for l in 0..32 {
        out[16 + l] = (0..8).fold(0, |bits, g| bits | ((b.q[32 * g + l] >> 4) << g));
    }
    put_low_nibbles(&mut out[48..], &b.q);
}

pub(super) fn q3_k(x: &[f32; 256], context: Context<'_, 256>, out: &mut [u8; 110]) {
    let mut q = [0; 256];
    let mut scales = [0.0; 16];
    // Quantised scales, 32 added.
    let mut packed = [0u8; 16];
    let d = if let Some(importance) = context.importance {
        let sigma2 = 2.0 * sum_squares(x) / 256.0;
        let weights: [f32; 256] = std::array::from_fn(|i| importance[i] * (sigma2 + x[i] * x[i]).sqrt());
        let mut sums = [0.0; 16];
        for g in 0..16 {
            let span = 16 * g..16 * g + 16;
            let w = &weights[span.clone()];
            sums[g] = w.iter().fold(0.0, |s, w| s + w);
            scales[g] = fit_symmetric(&x[span.clone()], Some(w), 4, &mut q[span]);
        }
        fit_symmetric(&scales, Some(&sums), 32, &mut packed)
    } else {
        for g in 0..16 {
            let span = 16 * g..16 * g + 16;
            scales[g] = fit_symmetric_greedy(&x[span.clone()], 4, &mut q[span]);
        }
        let max = extreme(&scales);
        if max != 0.0 {
            let iscale = -32.0 / max;
            packed = scales.map(|s| (nearest_in(iscale * s, -32, 31) + 32) as u8);
            1.0 / iscale
        } else {
            0.0
        }
    };
    requantise(x, stored(d), packed.map(|s| s as i32 - 32), 4, &mut q);

    for l in 0..32 {
        out[l] = (0..8).fold(0, |bits, part| bits | ((q[32 * part + l] >> 2) << part));
    }
    put_two_bits(&mut out[32..96], &q);
    for g in 0..8 {
        out[96 + g] = (packed[g] & 0xF) | (packed[g + 8] << 4);
    }
    for g in 0..4 {
        out[104 + g] = (0..4).fold(0, |bits, run| bits | ((packed[4 * run + g] >> 4) << (2 * run)));
    }
    put_half(out, 108, d);
}

/// Quants of 16 groups for scales as stored, `nmax` added; groups with scale 0 keep theirs.
fn requantise(x: &[f32; 256], d: f32, scales: [i32; 16], nmax: i32, q: &mut [u8; 256]) {
    for g in 0..16 {
        let dl = d * scales[g] as f32;
        if dl == 0.0 {
            continue;
        }
        for i in 16 * g..16 * g + 16 {
            q[i] = (nearest_in(x[i] / dl, -nmax, nmax - 1) + nmax) as u8;
        }
    }
}

pub(super) fn q6_k(x: &[f32; 256], context: Context<'_, 256>, out: &mut [u8; 210]) {
    let mut q = [0; 256];
    let mut scales = [0.0; 16];
    for g in 0..16 {
        let span = 16 * g..16 * g + 16;
        let weights = context.importance.map(|w| &w[span.clone()]);
        scales[g] = fit_symmetric(&x[span.clone()], weights, 32, &mut q[span]);
    }
    let max = extreme(&scales);
    if max.abs() < GROUP_MAX_EPS {
        out.fill(0);
        return;
    }
    let iscale = -128.0 / max;
    let d = 1.0 / iscale;
    let scales = scales.map(|s| nearest_in(iscale * s, -128, 127));
    requantise(x, stored(d), scales, 32, &mut q);

    for half in 0..2 {
        let q = &q[128 * half..128 * half + 128];
        for l in 0..64 {
            out[64 * half + l] = (q[l] & 0xF) | (q[64 + l] << 4);
        }
        for l in 0..32 {
            out[128 + 32 * half + l] = (0..4).fold(0, |bits, part| bits | ((q[32 * part + l] >> 4) << (2 * part)));
        }
    }
    for g in 0..16 {
        out[192 + g] = scales[g] as i8 as u8;
    }
    put_half(out, 208, d);
}
