//! Element values of packed data, in ggml's evaluation order.

mod iq;

use half::{bf16, f16};
use rlx_ir::DType;

use crate::blocks::*;
use crate::codebooks::{KVALUES_MXFP4, e8m0_half};
use crate::error::{QuantError, check_len, packed_len};
use crate::ints::{BlockScales, min_sign, zero_point};

/// Converts packed data to `f32`.
///
/// `dst` is a whole number of blocks of `dtype`, and `src` exactly the bytes of that many elements. Plain types convert as well:
/// F16 and BF16 exactly, F64 and wide integers to the nearest f32, BOOL to 0 or 1.
///
/// The result is bit-equal to ggml's reference. Non-finite scales give non-finite values.
pub fn dequantize(dtype: DType, src: &[u8], dst: &mut [f32]) -> Result<(), QuantError> {
    check_len(dtype, "packed bytes", packed_len(dtype, dst.len())?, src.len())?;
    match dtype {
        DType::F32 => blocks(src, dst, |b: &[u8; 4], o: &mut [f32; 1]| o[0] = f32::from_le_bytes(*b)),
        DType::F16 => blocks(src, dst, |b, o: &mut [f32; 1]| o[0] = f16::from_le_bytes(*b).to_f32()),
        DType::BF16 => blocks(src, dst, |b, o: &mut [f32; 1]| o[0] = bf16::from_le_bytes(*b).to_f32()),
        DType::F64 => blocks(src, dst, |b, o: &mut [f32; 1]| o[0] = f64::from_le_bytes(*b) as f32),
        DType::I8 => blocks(src, dst, |b, o: &mut [f32; 1]| o[0] = i8::from_le_bytes(*b) as f32),
        DType::I16 => blocks(src, dst, |b, o: &mut [f32; 1]| o[0] = i16::from_le_bytes(*b) as f32),
        DType::I32 => blocks(src, dst, |b, o: &mut [f32; 1]| o[0] = i32::from_le_bytes(*b) as f32),
        DType::I64 => blocks(src, dst, |b, o: &mut [f32; 1]| o[0] = i64::from_le_bytes(*b) as f32),
        DType::U8 => blocks(src, dst, |b: &[u8; 1], o: &mut [f32; 1]| o[0] = b[0] as f32),
        DType::Bool => blocks(src, dst, |b: &[u8; 1], o: &mut [f32; 1]| o[0] = (b[0] != 0) as u8 as f32),

        DType::Q4_0 => grouped(dtype, src, dst, q4_0_ints),
        DType::Q4_1 => grouped(dtype, src, dst, q4_1_ints),
        DType::Q5_0 => grouped(dtype, src, dst, q5_0_ints),
        DType::Q5_1 => grouped(dtype, src, dst, q5_1_ints),
        DType::Q8_0 => grouped(dtype, src, dst, q8_0_ints),
        DType::Q2_K => grouped(dtype, src, dst, q2_k_ints),
        DType::Q3_K => grouped(dtype, src, dst, q3_k_ints),
        DType::Q4_K => grouped(dtype, src, dst, q4_k_ints),
        DType::Q5_K => grouped(dtype, src, dst, q5_k_ints),
        DType::Q6_K => grouped(dtype, src, dst, q6_k_ints),
        DType::IQ4_NL => grouped(dtype, src, dst, iq4_nl_ints),
        DType::IQ4_XS => grouped(dtype, src, dst, iq4_xs_ints),
        DType::TQ1_0 => grouped(dtype, src, dst, tq1_0_ints),
        DType::TQ2_0 => grouped(dtype, src, dst, tq2_0_ints),

        DType::Q8_1 => blocks(src, dst, q8_1),
        DType::Q8_K => blocks(src, dst, q8_k),
        DType::MXFP4 => blocks(src, dst, mxfp4),
        DType::IQ2_XXS => blocks(src, dst, iq::iq2_xxs),
        DType::IQ2_XS => blocks(src, dst, iq::iq2_xs),
        DType::IQ2_S => blocks(src, dst, iq::iq2_s),
        DType::IQ3_XXS => blocks(src, dst, iq::iq3_xxs),
        DType::IQ3_S => blocks(src, dst, iq::iq3_s),
        DType::IQ1_S => blocks(src, dst, iq::iq1_s),
        DType::IQ1_M => blocks(src, dst, iq::iq1_m),
    }
    Ok(())
}

/// Runs `f` over the `B`-byte blocks of `src` and the `N`-element runs of `dst`; lengths have been checked.
#[inline(always)]
fn blocks<const B: usize, const N: usize>(src: &[u8], dst: &mut [f32], mut f: impl FnMut(&[u8; B], &mut [f32; N])) {
    for (block, out) in src.as_chunks().0.iter().zip(dst.as_chunks_mut().0) {
        f(block, out);
    }
}

/// Dequantises a type through its integer view of `G` groups.
#[inline(always)]
fn grouped<const B: usize, const N: usize, const G: usize>(
    dtype: DType,
    src: &[u8],
    dst: &mut [f32],
    unpack: impl Fn(&[u8; B], &mut [u8; N], &mut [i8; G], &mut [u8; G]) -> BlockScales,
) {
    let zero = zero_point(dtype);
    let sign = min_sign(dtype) as f32;
    let (mut q, mut scale, mut min) = ([0; N], [0; G], [0; G]);
    blocks(src, dst, |block: &[u8; B], out: &mut [f32; N]| {
        let BlockScales { d, dmin } = unpack(block, &mut q, &mut scale, &mut min);
        let (d, dmin) = (f16::from_bits(d).to_f32(), f16::from_bits(dmin).to_f32());
        for (g, (out, q)) in out.chunks_exact_mut(N / G).zip(q.chunks_exact(N / G)).enumerate() {
            let dl = d * scale[g] as f32;
            if sign == 0.0 {
                for (o, &q) in out.iter_mut().zip(q) {
                    *o = dl * (q as i32 - zero) as f32;
                }
            } else {
                // Exact: `sign` is one, and `a - b` is `a + (-b)`.
                let ml = sign * (dmin * min[g] as f32);
                for (o, &q) in out.iter_mut().zip(q) {
                    *o = dl * q as f32 + ml;
                }
            }
        }
    });
}

fn q8_1(block: &[u8; 36], out: &mut [f32; 32]) {
    let d = half(block, 0);
    let qs: &[u8; 32] = field(block, 4);
    for j in 0..32 {
        out[j] = d * (qs[j] as i8) as f32;
    }
}

fn q8_k(block: &[u8; 292], out: &mut [f32; 256]) {
    let d = f32::from_le_bytes(*field(block, 0));
    let qs: &[u8; 256] = field(block, 4);
    for j in 0..256 {
        out[j] = d * (qs[j] as i8) as f32;
    }
}

fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let d = e8m0_half(block[0]);
    let mut codes = [0; 32];
    mxfp4_codes(block, &mut codes);
    for j in 0..32 {
        out[j] = d * KVALUES_MXFP4[codes[j] as usize] as f32;
    }
}
