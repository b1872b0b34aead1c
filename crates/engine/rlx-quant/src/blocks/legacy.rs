//! Integer view of the types with 32 elements and one scale a block, and of the ternary types.

use super::{field, word};
use crate::codebooks::KVALUES_IQ4NL;
use crate::ints::BlockScales;

/// Splits 16 bytes into 32 nibbles: element `j` is the low nibble of byte `j`, element `j + 16` its high nibble.
#[inline(always)]
fn nibbles(qs: &[u8; 16], q: &mut [u8; 32]) {
    for j in 0..16 {
        q[j] = qs[j] & 0xF;
        q[j + 16] = qs[j] >> 4;
    }
}

/// Adds the fifth bit: bit `j` of `qh` belongs to element `j`.
#[inline(always)]
fn add_fifth_bit(qh: &[u8; 4], q: &mut [u8; 32]) {
    let bits = u32::from_le_bytes(*qh);
    for j in 0..32 {
        q[j] |= (((bits >> j) & 1) as u8) << 4;
    }
}

/// Q4_0: `q` in 0..16, zero point 8.
#[inline(always)]
pub fn q4_0_ints(block: &[u8; 18], q: &mut [u8; 32], scale: &mut [i8; 1], min: &mut [u8; 1]) -> BlockScales {
    nibbles(field(block, 2), q);
    (*scale, *min) = ([1], [0]);
    BlockScales { d: word(block, 0), dmin: 0 }
}

/// Q4_1: `q` in 0..16, no zero point; `dmin` holds `m`, which is *added*.
#[inline(always)]
pub fn q4_1_ints(block: &[u8; 20], q: &mut [u8; 32], scale: &mut [i8; 1], min: &mut [u8; 1]) -> BlockScales {
    nibbles(field(block, 4), q);
    (*scale, *min) = ([1], [1]);
    BlockScales { d: word(block, 0), dmin: word(block, 2) }
}

/// Q5_0: `q` in 0..32, zero point 16.
#[inline(always)]
pub fn q5_0_ints(block: &[u8; 22], q: &mut [u8; 32], scale: &mut [i8; 1], min: &mut [u8; 1]) -> BlockScales {
    nibbles(field(block, 6), q);
    add_fifth_bit(field(block, 2), q);
    (*scale, *min) = ([1], [0]);
    BlockScales { d: word(block, 0), dmin: 0 }
}

/// Q5_1: `q` in 0..32, no zero point; `dmin` holds `m`, which is *added*.
#[inline(always)]
pub fn q5_1_ints(block: &[u8; 24], q: &mut [u8; 32], scale: &mut [i8; 1], min: &mut [u8; 1]) -> BlockScales {
    nibbles(field(block, 8), q);
    add_fifth_bit(field(block, 4), q);
    (*scale, *min) = ([1], [1]);
    BlockScales { d: word(block, 0), dmin: word(block, 2) }
}

/// Q8_0: `q` is the signed quant plus 128.
#[inline(always)]
pub fn q8_0_ints(block: &[u8; 34], q: &mut [u8; 32], scale: &mut [i8; 1], min: &mut [u8; 1]) -> BlockScales {
    let qs: &[u8; 32] = field(block, 2);
    for j in 0..32 {
        q[j] = qs[j] ^ 0x80;
    }
    (*scale, *min) = ([1], [0]);
    BlockScales { d: word(block, 0), dmin: 0 }
}

/// IQ4_NL: the 4-bit codes into [`KVALUES_IQ4NL`].
#[inline(always)]
pub fn iq4_nl_codes(block: &[u8; 18], codes: &mut [u8; 32]) {
    nibbles(field(block, 2), codes);
}

/// IQ4_NL: `q` is the codebook value plus 128.
#[inline(always)]
pub fn iq4_nl_ints(block: &[u8; 18], q: &mut [u8; 32], scale: &mut [i8; 1], min: &mut [u8; 1]) -> BlockScales {
    iq4_nl_codes(block, q);
    for v in q.iter_mut() {
        *v = KVALUES_IQ4NL[*v as usize] as u8 ^ 0x80;
    }
    (*scale, *min) = ([1], [0]);
    BlockScales { d: word(block, 0), dmin: 0 }
}

/// MXFP4: the 4-bit codes into [`KVALUES_MXFP4`](crate::codebooks::KVALUES_MXFP4); byte 0 of the block is the exponent.
#[inline(always)]
pub fn mxfp4_codes(block: &[u8; 17], codes: &mut [u8; 32]) {
    nibbles(field(block, 1), codes);
}

/// TQ1_0: `q` in 0..3, zero point 1.
///
/// A byte is a fixed-point fraction in base 3: multiplying by 3 moves the next digit into bits 8 and 9.
#[inline(always)]
pub fn tq1_0_ints(block: &[u8; 54], q: &mut [u8; 256], scale: &mut [i8; 8], min: &mut [u8; 8]) -> BlockScales {
    const POW3: [u8; 5] = [1, 3, 9, 27, 81];
    let digit = |byte: u8, n: usize| ((byte.wrapping_mul(POW3[n]) as u16 * 3) >> 8) as u8;
    for n in 0..5 {
        for j in 0..32 {
            q[n * 32 + j] = digit(block[j], n);
        }
        for j in 0..16 {
            q[160 + n * 16 + j] = digit(block[32 + j], n);
        }
    }
    for n in 0..4 {
        for j in 0..4 {
            q[240 + n * 4 + j] = digit(block[48 + j], n);
        }
    }
    (*scale, *min) = ([1; 8], [0; 8]);
    BlockScales { d: word(block, 52), dmin: 0 }
}

/// TQ2_0: `q` in 0..4 (3 does not occur in files), zero point 1.
#[inline(always)]
pub fn tq2_0_ints(block: &[u8; 66], q: &mut [u8; 256], scale: &mut [i8; 8], min: &mut [u8; 8]) -> BlockScales {
    for half in 0..2 {
        let qs: &[u8; 32] = field(block, 32 * half);
        for part in 0..4 {
            for l in 0..32 {
                q[128 * half + 32 * part + l] = (qs[l] >> (2 * part)) & 3;
            }
        }
    }
    (*scale, *min) = ([1; 8], [0; 8]);
    BlockScales { d: word(block, 64), dmin: 0 }
}
