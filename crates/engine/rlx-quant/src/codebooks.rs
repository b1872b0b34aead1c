//! Value tables of the non-linear 4-bit types.

use rlx_ir::DType;

/// Values of the codes of IQ4_NL and IQ4_XS, to be multiplied by the scale.
pub const KVALUES_IQ4NL: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Values of the codes of MXFP4: E2M1 floats times two, to be multiplied by [`e8m0_half`] of the exponent byte.
pub const KVALUES_MXFP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The codebook of a type whose quants are 4-bit codes.
pub const fn codebook(dtype: DType) -> Option<&'static [i8; 16]> {
    match dtype {
        DType::IQ4_NL | DType::IQ4_XS => Some(&KVALUES_IQ4NL),
        DType::MXFP4 => Some(&KVALUES_MXFP4),
        _ => None,
    }
}

/// Half of the power of two that an E8M0 exponent byte means, `2^(e-128)`; the half makes up for [`KVALUES_MXFP4`]
/// being doubled. Exact for every byte: the two smallest results are subnormal.
pub const fn e8m0_half(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e as u32 - 1) << 23 })
}
