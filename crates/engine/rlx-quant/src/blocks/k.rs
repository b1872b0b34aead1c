//! Integer view of the types with 256 elements a block: K types and IQ4_XS.

use super::{field, word};
use crate::codebooks::KVALUES_IQ4NL;
use crate::ints::BlockScales;

/// Scale and minimum (6 bits each) of group `j` (0..8) of Q4_K and Q5_K.
///
/// Groups 0..4 sit in the low 6 bits of bytes 0..4 (scale) and 4..8 (minimum). Groups 4..8 have their low 4 bits in
/// bytes 8..12 (scale low, minimum high nibble) and their top 2 bits on top of the bytes of group `j - 4`.
#[inline(always)]
pub fn q4_k_scale_min(j: usize, scales: &[u8; 12]) -> (u8, u8) {
    if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        ((scales[j + 4] & 0xF) | ((scales[j - 4] >> 6) << 4), (scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))
    }
}

/// The 16 signed scales of Q3_K (-32..32).
///
/// Their low 4 bits are the nibbles of bytes 0..8 (low nibbles first), their top 2 bits lie in bytes 8..12, two bits
/// for each run of four scales.
#[inline(always)]
pub fn q3_k_scales(packed: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|g| {
        let low = (packed[g % 8] >> (4 * (g / 8))) & 0xF;
        let high = (packed[8 + g % 4] >> (2 * (g / 4))) & 3;
        (low | (high << 4)) as i8 - 32
    })
}

/// The 8 signed scales of IQ4_XS (-32..32) from the low nibbles and the top 2 bits.
#[inline(always)]
pub fn iq4_xs_scales(high: u16, low: &[u8; 4]) -> [i8; 8] {
    std::array::from_fn(|g| {
        let l = (low[g / 2] >> (4 * (g % 2))) & 0xF;
        let h = ((high >> (2 * g)) & 3) as u8;
        (l | (h << 4)) as i8 - 32
    })
}

/// Q2_K: `q` in 0..4, 16 groups of 16, scale and minimum in 0..16.
///
/// Byte `l` of each half's 32 bytes holds the elements `l`, `l + 32`, `l + 64`, `l + 96` of that half, lowest bits
/// first.
#[inline(always)]
pub fn q2_k_ints(block: &[u8; 84], q: &mut [u8; 256], scale: &mut [i8; 16], min: &mut [u8; 16]) -> BlockScales {
    for g in 0..16 {
        scale[g] = (block[g] & 0xF) as i8;
        min[g] = block[g] >> 4;
    }
    for half in 0..2 {
        let qs: &[u8; 32] = field(block, 16 + 32 * half);
        for part in 0..4 {
            for l in 0..32 {
                q[128 * half + 32 * part + l] = (qs[l] >> (2 * part)) & 3;
            }
        }
    }
    BlockScales { d: word(block, 80), dmin: word(block, 82) }
}

/// Q3_K: `q` in 0..8, zero point 4, 16 groups of 16.
///
/// The low 2 bits are laid out as in Q2_K; bit `4 * half + part` of `hmask[l]` is the third bit.
#[inline(always)]
pub fn q3_k_ints(block: &[u8; 110], q: &mut [u8; 256], scale: &mut [i8; 16], min: &mut [u8; 16]) -> BlockScales {
    let hmask: &[u8; 32] = field(block, 0);
    for half in 0..2 {
        let qs: &[u8; 32] = field(block, 32 + 32 * half);
        for part in 0..4 {
            for l in 0..32 {
                let high = (hmask[l] >> (4 * half + part)) & 1;
                q[128 * half + 32 * part + l] = ((qs[l] >> (2 * part)) & 3) | (high << 2);
            }
        }
    }
    *scale = q3_k_scales(field(block, 96));
    *min = [0; 16];
    BlockScales { d: word(block, 108), dmin: 0 }
}

/// Scales and minima of all eight groups of Q4_K or Q5_K.
#[inline(always)]
fn scales_mins(packed: &[u8; 12], scale: &mut [i8; 8], min: &mut [u8; 8]) {
    for g in 0..8 {
        let (s, m) = q4_k_scale_min(g, packed);
        (scale[g], min[g]) = (s as i8, m);
    }
}

/// Q4_K: `q` in 0..16, 8 groups of 32, scale and minimum in 0..64.
///
/// Byte `l` of each 32 bytes holds element `l` (low nibble) and `l + 32` (high nibble) of a run of 64.
#[inline(always)]
pub fn q4_k_ints(block: &[u8; 144], q: &mut [u8; 256], scale: &mut [i8; 8], min: &mut [u8; 8]) -> BlockScales {
    scales_mins(field(block, 4), scale, min);
    for run in 0..4 {
        let qs: &[u8; 32] = field(block, 16 + 32 * run);
        for l in 0..32 {
            q[64 * run + l] = qs[l] & 0xF;
            q[64 * run + 32 + l] = qs[l] >> 4;
        }
    }
    BlockScales { d: word(block, 0), dmin: word(block, 2) }
}

/// Q5_K: `q` in 0..32, 8 groups of 32, scale and minimum in 0..64.
///
/// The low 4 bits are laid out as in Q4_K; bit `g` of `qh[l]` is the fifth bit of element `l` of group `g`.
#[inline(always)]
pub fn q5_k_ints(block: &[u8; 176], q: &mut [u8; 256], scale: &mut [i8; 8], min: &mut [u8; 8]) -> BlockScales {
    scales_mins(field(block, 4), scale, min);
    let qh: &[u8; 32] = field(block, 16);
    for run in 0..4 {
        let qs: &[u8; 32] = field(block, 48 + 32 * run);
        for l in 0..32 {
            q[64 * run + l] = (qs[l] & 0xF) | (((qh[l] >> (2 * run)) & 1) << 4);
            q[64 * run + 32 + l] = (qs[l] >> 4) | (((qh[l] >> (2 * run + 1)) & 1) << 4);
        }
    }
    BlockScales { d: word(block, 0), dmin: word(block, 2) }
}

/// Q6_K: `q` in 0..64, zero point 32, 16 groups of 16, signed 8-bit scales.
///
/// Each half (128 elements) has 64 bytes of low nibbles (the low ones first) and 32 bytes with two top bits for each
/// of its four runs of 32.
#[inline(always)]
pub fn q6_k_ints(block: &[u8; 210], q: &mut [u8; 256], scale: &mut [i8; 16], min: &mut [u8; 16]) -> BlockScales {
    for half in 0..2 {
        let ql: &[u8; 64] = field(block, 64 * half);
        let qh: &[u8; 32] = field(block, 128 + 32 * half);
        let q: &mut [u8] = &mut q[128 * half..128 * half + 128];
        for l in 0..32 {
            q[l] = (ql[l] & 0xF) | ((qh[l] & 3) << 4);
            q[32 + l] = (ql[32 + l] & 0xF) | (((qh[l] >> 2) & 3) << 4);
            q[64 + l] = (ql[l] >> 4) | (((qh[l] >> 4) & 3) << 4);
            q[96 + l] = (ql[32 + l] >> 4) | ((qh[l] >> 6) << 4);
        }
    }
    for g in 0..16 {
        scale[g] = block[192 + g] as i8;
    }
    *min = [0; 16];
    BlockScales { d: word(block, 208), dmin: 0 }
}

/// IQ4_XS: the 4-bit codes into [`KVALUES_IQ4NL`], per 32 elements as in IQ4_NL.
#[inline(always)]
pub fn iq4_xs_codes(block: &[u8; 136], codes: &mut [u8; 256]) {
    for g in 0..8 {
        let qs: &[u8; 16] = field(block, 8 + 16 * g);
        for j in 0..16 {
            codes[32 * g + j] = qs[j] & 0xF;
            codes[32 * g + 16 + j] = qs[j] >> 4;
        }
    }
}

/// IQ4_XS: `q` is the codebook value plus 128, 8 groups of 32.
#[inline(always)]
pub fn iq4_xs_ints(block: &[u8; 136], q: &mut [u8; 256], scale: &mut [i8; 8], min: &mut [u8; 8]) -> BlockScales {
    iq4_xs_codes(block, q);
    for v in q.iter_mut() {
        *v = KVALUES_IQ4NL[*v as usize] as u8 ^ 0x80;
    }
    *scale = iq4_xs_scales(word(block, 2), field(block, 4));
    *min = [0; 8];
    BlockScales { d: word(block, 0), dmin: 0 }
}
