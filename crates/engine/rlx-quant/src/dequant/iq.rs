//! Dequantisation of the types whose quants are indices into a grid of short vectors.

use crate::blocks::{field, half, word};
use crate::grids::{IQ1S, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS};

/// Value that IQ1_S and IQ1_M add to or take from the grid's -1, 0, 1.
const IQ1_DELTA: f32 = 0.125;

/// The eight signs that a 7-bit index means: its bits, and an eighth that makes the number of minus signs even.
#[inline(always)]
fn even_signs(index: u32) -> u8 {
    let index = (index & 0x7F) as u8;
    index | (((index.count_ones() & 1) as u8) << 7)
}

/// Writes `scale * grid` from `at` on, negated where the bit of `signs`, counted from `first`, is set.
#[inline(always)]
fn put_signed<const N: usize>(out: &mut [f32], at: usize, scale: f32, grid: &[i8; N], signs: u8, first: usize) {
    for (i, o) in out[at..at + N].iter_mut().enumerate() {
        let v = scale * grid[i] as f32;
        *o = if (signs >> (first + i)) & 1 != 0 { -v } else { v };
    }
}

/// The scales of two runs of 16: `d * (nibble + 1/2) / 4`.
#[inline(always)]
fn scale_pair(d: f32, b: u8) -> [f32; 2] {
    [d * (0.5 + (b & 0xF) as f32) * 0.25, d * (0.5 + (b >> 4) as f32) * 0.25]
}

pub(super) fn iq2_xxs(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half(block, 0);
    for g in 0..8 {
        let index: &[u8; 4] = field(block, 2 + 8 * g);
        let word = u32::from_le_bytes(*field(block, 6 + 8 * g));
        let db = d * (0.5 + (word >> 28) as f32) * 0.25;
        for l in 0..4 {
            put_signed(out, 32 * g + 8 * l, db, &IQ2XXS[index[l] as usize], even_signs(word >> (7 * l)), 0);
        }
    }
}

pub(super) fn iq2_xs(block: &[u8; 74], out: &mut [f32; 256]) {
    let d = half(block, 0);
    for g in 0..8 {
        let db = scale_pair(d, block[66 + g]);
        for l in 0..4 {
            let q = word(block, 2 + 8 * g + 2 * l) as usize;
            put_signed(out, 32 * g + 8 * l, db[l / 2], &IQ2XS[q & 511], even_signs((q >> 9) as u32), 0);
        }
    }
}

pub(super) fn iq2_s(block: &[u8; 82], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let (qs, signs): (&[u8; 32], &[u8; 32]) = (field(block, 2), field(block, 34));
    for g in 0..8 {
        let db = scale_pair(d, block[74 + g]);
        let qh = block[66 + g] as usize;
        for l in 0..4 {
            let index = qs[4 * g + l] as usize | (((qh >> (2 * l)) & 3) << 8);
            put_signed(out, 32 * g + 8 * l, db[l / 2], &IQ2S[index], signs[4 * g + l], 0);
        }
    }
}

pub(super) fn iq3_xxs(block: &[u8; 98], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let qs: &[u8; 64] = field(block, 2);
    for g in 0..8 {
        let word = u32::from_le_bytes(*field(block, 66 + 4 * g));
        let db = d * (0.5 + (word >> 28) as f32) * 0.5;
        for l in 0..8 {
            let signs = even_signs(word >> (7 * (l / 2)));
            put_signed(out, 32 * g + 4 * l, db, &IQ3XXS[qs[8 * g + l] as usize], signs, 4 * (l % 2));
        }
    }
}

pub(super) fn iq3_s(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let (qs, qh): (&[u8; 64], &[u8; 8]) = (field(block, 2), field(block, 66));
    let (signs, scales): (&[u8; 32], &[u8; 4]) = (field(block, 74), field(block, 106));
    for g in 0..8 {
        let scale = (scales[g / 2] >> (4 * (g % 2))) & 0xF;
        let db = d * (1 + 2 * scale) as f32;
        for l in 0..8 {
            let index = qs[8 * g + l] as usize | (((qh[g] as usize >> l) & 1) << 8);
            put_signed(out, 32 * g + 4 * l, db, &IQ3S[index], signs[4 * g + l / 2], 4 * (l % 2));
        }
    }
}

pub(super) fn iq1_s(block: &[u8; 50], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let qs: &[u8; 32] = field(block, 2);
    for g in 0..8 {
        let qh = word(block, 34 + 2 * g);
        let dl = d * (2 * ((qh >> 12) & 7) + 1) as f32;
        let delta = if qh & 0x8000 == 0 { IQ1_DELTA } else { -IQ1_DELTA };
        for l in 0..4 {
            let index = qs[4 * g + l] as usize | (((qh as usize >> (3 * l)) & 7) << 8);
            put_shifted(out, 32 * g + 8 * l, dl, &IQ1S[index], delta);
        }
    }
}

pub(super) fn iq1_m(block: &[u8; 56], out: &mut [f32; 256]) {
    let (qs, qh): (&[u8; 32], &[u8; 16]) = (field(block, 0), field(block, 32));
    let scales: [u16; 4] = std::array::from_fn(|i| word(block, 48 + 2 * i));
    // The f16 scale of the block is spread over the top nibbles of the four words of group scales.
    let d = (0..4).fold(0, |bits, i| bits | ((scales[i] >> 12) << (4 * i)));
    let d = half::f16::from_bits(d).to_f32();
    for g in 0..16 {
        let dl = d * (2 * ((scales[g / 4] >> (3 * (g % 4))) & 7) + 1) as f32;
        for l in 0..2 {
            let high = qh[g] >> (4 * l);
            let index = qs[2 * g + l] as usize | ((high as usize & 7) << 8);
            let delta = if high & 8 == 0 { IQ1_DELTA } else { -IQ1_DELTA };
            put_shifted(out, 16 * g + 8 * l, dl, &IQ1S[index], delta);
        }
    }
}

/// Writes `scale * (grid + delta)`.
#[inline(always)]
fn put_shifted(out: &mut [f32], at: usize, scale: f32, grid: &[i8; 8], delta: f32) {
    for (o, &v) in out[at..at + 8].iter_mut().zip(grid) {
        *o = scale * (v as f32 + delta);
    }
}
