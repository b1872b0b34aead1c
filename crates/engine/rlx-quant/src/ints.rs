//! Integer view of one block, as kernels repack it.

use rlx_ir::DType;

use crate::blocks::*;
use crate::error::{QuantError, check_len};

/// The two floats of a block, as stored (f16 bits); [`unpack_ints`] says how they enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockScales {
    /// Scale of the block.
    pub d: u16,
    /// Scale of the group minima; `m` for Q4_1 and Q5_1; 0 for types without minima.
    pub dmin: u16,
}

/// Whether [`unpack_ints`] knows this type.
pub const fn has_ints(dtype: DType) -> bool {
    group_len(dtype) != 0
}

/// Elements that share a scale in the integer view: 16 for Q2_K, Q3_K, Q6_K, else 32; 0 if the type has no such view.
pub const fn group_len(dtype: DType) -> usize {
    use DType::*;
    match dtype {
        Q2_K | Q3_K | Q6_K => 16,
        Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q4_K | Q5_K | IQ4_NL | IQ4_XS | TQ1_0 | TQ2_0 => 32,
        _ => 0,
    }
}

/// What the integer view adds to the signed quants to make them unsigned; 0 if the type has no integer view.
pub const fn zero_point(dtype: DType) -> i32 {
    use DType::*;
    match dtype {
        TQ1_0 | TQ2_0 => 1,
        Q3_K => 4,
        Q4_0 => 8,
        Q5_0 => 16,
        Q6_K => 32,
        Q8_0 | IQ4_NL | IQ4_XS => 128,
        _ => 0,
    }
}

/// Sign with which `dmin * min[g]` enters: -1 for Q2_K, Q4_K, Q5_K; +1 for Q4_1, Q5_1; 0 for types without minima.
pub const fn min_sign(dtype: DType) -> i32 {
    use DType::*;
    match dtype {
        Q2_K | Q4_K | Q5_K => -1,
        Q4_1 | Q5_1 => 1,
        _ => 0,
    }
}

fn exact<'a, const N: usize>(dtype: DType, what: &'static str, x: &'a [u8]) -> Result<&'a [u8; N], QuantError> {
    x.try_into().map_err(|_| QuantError::Size { dtype, what, expected: N, found: x.len() })
}

fn exact_mut<'a, T, const N: usize>(
    dtype: DType,
    what: &'static str,
    x: &'a mut [T],
) -> Result<&'a mut [T; N], QuantError> {
    let found = x.len();
    x.try_into().map_err(|_| QuantError::Size { dtype, what, expected: N, found })
}

/// Unpacks one block into its integers, exactly.
///
/// Element `i` of the block, in group `g = i / group_len(dtype)`, is
///
/// ```text
/// d * scale[g] * (q[i] - zero_point(dtype)) + min_sign(dtype) * dmin * min[g]
/// ```
///
/// and evaluated as `(d * scale[g]) * (q[i] - zero) ± (dmin * min[g])` in f32 this is bit for bit what
/// [`dequantize`](crate::dequantize) gives. The minimum is *subtracted* for Q2_K, Q4_K, Q5_K. Q4_1 and Q5_1 store a
/// float
/// `m` that is *added*: `dmin` is `m` as stored, and `min` is 1. Types with one scale a block have `scale` 1 throughout; types
/// without minima have `min` and `dmin` 0.
///
/// `block` is one block; `q` takes [`DType::block_len`] values, `scale` and `min` one each per group. For IQ4_NL and IQ4_XS `q` is the codebook
/// value plus 128; [`unpack_codes`] gives the codes.
// Inlined so that callers compile it for their own instruction set.
#[inline(always)]
pub fn unpack_ints(
    dtype: DType,
    block: &[u8],
    q: &mut [u8],
    scale: &mut [i8],
    min: &mut [u8],
) -> Result<BlockScales, QuantError> {
    macro_rules! unpack {
        ($f:ident) => {
            Ok($f(
                exact(dtype, "block bytes", block)?,
                exact_mut(dtype, "quants", q)?,
                exact_mut(dtype, "group scales", scale)?,
                exact_mut(dtype, "group minima", min)?,
            ))
        };
    }
    match dtype {
        DType::Q4_0 => unpack!(q4_0_ints),
        DType::Q4_1 => unpack!(q4_1_ints),
        DType::Q5_0 => unpack!(q5_0_ints),
        DType::Q5_1 => unpack!(q5_1_ints),
        DType::Q8_0 => unpack!(q8_0_ints),
        DType::Q2_K => unpack!(q2_k_ints),
        DType::Q3_K => unpack!(q3_k_ints),
        DType::Q4_K => unpack!(q4_k_ints),
        DType::Q5_K => unpack!(q5_k_ints),
        DType::Q6_K => unpack!(q6_k_ints),
        DType::IQ4_NL => unpack!(iq4_nl_ints),
        DType::IQ4_XS => unpack!(iq4_xs_ints),
        DType::TQ1_0 => unpack!(tq1_0_ints),
        DType::TQ2_0 => unpack!(tq2_0_ints),
        _ => Err(QuantError::UnsupportedType { dtype, operation: "the integer view" }),
    }
}

/// The raw 4-bit codes of one IQ4_NL, IQ4_XS or MXFP4 block, one a byte; indices into
/// [`codebook`](crate::codebooks::codebook). `codes` takes [`DType::block_len`] values.
pub fn unpack_codes(dtype: DType, block: &[u8], codes: &mut [u8]) -> Result<(), QuantError> {
    check_len(dtype, "block bytes", dtype.block_bytes(), block.len())?;
    check_len(dtype, "codes", dtype.block_len(), codes.len())?;
    match dtype {
        DType::IQ4_NL => iq4_nl_codes(exact(dtype, "block bytes", block)?, exact_mut(dtype, "codes", codes)?),
        DType::IQ4_XS => iq4_xs_codes(exact(dtype, "block bytes", block)?, exact_mut(dtype, "codes", codes)?),
        DType::MXFP4 => mxfp4_codes(exact(dtype, "block bytes", block)?, exact_mut(dtype, "codes", codes)?),
        _ => return Err(QuantError::UnsupportedType { dtype, operation: "the code view" }),
    }
    Ok(())
}
