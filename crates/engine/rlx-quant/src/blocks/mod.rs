//! Byte layouts of the ggml block types, and exact integer accessors for them.
//!
//! Each table lists the fields of a block in order, as `name[bytes]`; `d`, `dmin`, `m`, `s` are f16 unless said
//! otherwise.
//!
//! | type    | elements | bytes | fields |
//! |---------|------|-----|--------|
//! | Q4_0    | 32   | 18  | `d[2] qs[16]` |
//! | Q4_1    | 32   | 20  | `d[2] m[2] qs[16]` |
//! | Q5_0    | 32   | 22  | `d[2] qh[4] qs[16]` |
//! | Q5_1    | 32   | 24  | `d[2] m[2] qh[4] qs[16]` |
//! | Q8_0    | 32   | 34  | `d[2] qs[32]`, `qs` signed |
//! | Q8_1    | 32   | 36  | `d[2] s[2] qs[32]`, `s` = `d` × sum of `qs` |
//! | Q2_K    | 256  | 84  | `scales[16] qs[64] d[2] dmin[2]` |
//! | Q3_K    | 256  | 110 | `hmask[32] qs[64] scales[12] d[2]` |
//! | Q4_K    | 256  | 144 | `d[2] dmin[2] scales[12] qs[128]` |
//! | Q5_K    | 256  | 176 | `d[2] dmin[2] scales[12] qh[32] qs[128]` |
//! | Q6_K    | 256  | 210 | `ql[128] qh[64] scales[16] d[2]` |
//! | Q8_K    | 256  | 292 | `d[4] qs[256] bsums[32]`, `d` f32, `bsums` the i16 sums of 16 quants each |
//! | IQ4_NL  | 32   | 18  | `d[2] qs[16]` |
//! | IQ4_XS  | 256  | 136 | `d[2] scales_h[2] scales_l[4] qs[128]` |
//! | IQ2_XXS | 256  | 66  | `d[2]`, then per 32 elements `grid[4] signs_scale[4]` |
//! | IQ2_XS  | 256  | 74  | `d[2] qs[64] scales[8]` |
//! | IQ2_S   | 256  | 82  | `d[2] qs[32] signs[32] qh[8] scales[8]` |
//! | IQ3_XXS | 256  | 98  | `d[2] qs[64] signs_scale[32]` |
//! | IQ3_S   | 256  | 110 | `d[2] qs[64] qh[8] signs[32] scales[4]` |
//! | IQ1_S   | 256  | 50  | `d[2] qs[32] qh[16]` |
//! | IQ1_M   | 256  | 56  | `qs[32] qh[16] scales[8]` |
//! | TQ1_0   | 256  | 54  | `qs[48] qh[4] d[2]`, five (`qs`) or four (`qh`) base-3 digits a byte |
//! | TQ2_0   | 256  | 66  | `qs[64] d[2]` |
//! | MXFP4   | 32   | 17  | `e[1] qs[16]`, `e` an E8M0 exponent |
//!
//! The functions here take one block as an exact-size array and cannot fail; [`unpack_ints`](crate::unpack_ints) is
//! the same by [`DType`](rlx_ir::DType).

mod k;
mod legacy;

pub use k::{
    iq4_xs_codes, iq4_xs_ints, iq4_xs_scales, q2_k_ints, q3_k_ints, q3_k_scales, q4_k_ints, q4_k_scale_min, q5_k_ints,
    q6_k_ints,
};
pub use legacy::{
    iq4_nl_codes, iq4_nl_ints, mxfp4_codes, q4_0_ints, q4_1_ints, q5_0_ints, q5_1_ints, q8_0_ints, tq1_0_ints,
    tq2_0_ints,
};

/// The `N` bytes of a block that start at `at`; the caller's constants keep it inside the block.
#[inline(always)]
pub(crate) fn field<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("the field lies inside the block")
}

/// A little-endian 16-bit word of a block: f16 bits, or packed scales.
#[inline(always)]
pub(crate) fn word(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*field(block, at))
}

/// An f16 of a block as f32.
#[inline(always)]
pub(crate) fn half(block: &[u8], at: usize) -> f32 {
    half::f16::from_bits(word(block, at)).to_f32()
}
