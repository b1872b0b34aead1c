//! Packed blocks from `f32`.

mod iq4;
mod k;
mod legacy;
mod search;

use half::{bf16, f16};
use rlx_ir::DType;

use crate::error::{QuantError, check_len, packed_len};

/// What a block quantiser may look at besides the block.
#[derive(Clone, Copy)]
struct Context<'a, const N: usize> {
    /// Importance of the block's columns.
    importance: Option<&'a [f32; N]>,
    /// Mean square of the row; 0 without importance.
    mean_square: f32,
}

/// Stores a float as f16, rounded to nearest even.
#[inline(always)]
fn put_half(block: &mut [u8], at: usize, v: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(v).to_le_bytes());
}

/// Whether [`quantize`] can make this type.
pub const fn can_quantize(dtype: DType) -> bool {
    use DType::*;
    match dtype {
        F32 | F16 | BF16 | F64 => true,
        Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q8_1 | Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | Q8_K => true,
        IQ4_NL | IQ4_XS | TQ1_0 | TQ2_0 | MXFP4 => true,
        I8 | I16 | I32 | I64 | U8 | Bool => false,
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S => false,
    }
}

/// Packs `src` into `dtype`.
///
/// `src` is a whole number of blocks; `dst` has exactly `dtype.bytes_for(src.len())` bytes. F32, F16, BF16 and F64 convert, rounded to
/// nearest even. Block types come out byte for byte as ggml's reference quantiser makes them. Non-finite input spoils
/// its block only: nothing panics, but the values of that block mean nothing.
pub fn quantize(dtype: DType, src: &[f32], dst: &mut [u8]) -> Result<(), QuantError> {
    quantize_with_importance(dtype, src, src.len(), None, dst)
}

/// Packs rows of `row_len` elements, minimising the error weighted by the importance of each column.
///
/// `importance` has `row_len` non-negative entries, usually the mean squared activations an importance matrix holds. It is used by
/// Q4_0, Q4_1, Q5_0, Q5_1, the K types but Q8_K, IQ4_NL and IQ4_XS; the other types ignore it. With `None` this is
/// [`quantize`]. `src` is a whole number of rows, `row_len` a whole number of blocks.
pub fn quantize_with_importance(
    dtype: DType,
    src: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), QuantError> {
    if !can_quantize(dtype) {
        return Err(QuantError::UnsupportedType { dtype, operation: "quantisation" });
    }
    check_len(dtype, "packed bytes", packed_len(dtype, src.len())?, dst.len())?;
    packed_len(dtype, row_len)?;
    if !src.len().is_multiple_of(row_len) {
        return Err(QuantError::PartialRow { dtype, elements: src.len(), row_len });
    }
    if let Some(importance) = importance {
        check_len(dtype, "importance", row_len, importance.len())?;
    }
    if src.is_empty() {
        return Ok(());
    }
    let rows = Rows { src, row_len, importance };
    match dtype {
        DType::F32 => rows.pack(dst, |x: &[f32; 1], _, out| *out = x[0].to_le_bytes()),
        DType::F16 => rows.pack(dst, |x: &[f32; 1], _, out| *out = f16::from_f32(x[0]).to_le_bytes()),
        DType::BF16 => rows.pack(dst, |x: &[f32; 1], _, out| *out = bf16::from_f32(x[0]).to_le_bytes()),
        DType::F64 => rows.pack(dst, |x: &[f32; 1], _, out| *out = (x[0] as f64).to_le_bytes()),
        DType::Q4_0 => rows.pack(dst, legacy::q4_0),
        DType::Q4_1 => rows.pack(dst, legacy::q4_1),
        DType::Q5_0 => rows.pack(dst, legacy::q5_0),
        DType::Q5_1 => rows.pack(dst, legacy::q5_1),
        DType::Q8_0 => rows.pack(dst, legacy::q8_0),
        DType::Q8_1 => rows.pack(dst, legacy::q8_1),
        DType::Q2_K => rows.pack(dst, k::q2_k),
        DType::Q3_K => rows.pack(dst, k::q3_k),
        DType::Q4_K => rows.pack(dst, k::q4_k),
        DType::Q5_K => rows.pack(dst, k::q5_k),
        DType::Q6_K => rows.pack(dst, k::q6_k),
        DType::Q8_K => rows.pack(dst, legacy::q8_k),
        DType::IQ4_NL => rows.pack(dst, iq4::iq4_nl),
        DType::IQ4_XS => rows.pack(dst, iq4::iq4_xs),
        DType::TQ1_0 => rows.pack(dst, legacy::tq1_0),
        DType::TQ2_0 => rows.pack(dst, legacy::tq2_0),
        DType::MXFP4 => rows.pack(dst, legacy::mxfp4),
        _ => return Err(QuantError::UnsupportedType { dtype, operation: "quantisation" }),
    }
    Ok(())
}

/// Checked input: `src` is whole rows of whole blocks, `importance` one row.
struct Rows<'a> {
    src: &'a [f32],
    row_len: usize,
    importance: Option<&'a [f32]>,
}

impl Rows<'_> {
    fn pack<const N: usize, const B: usize>(
        &self,
        dst: &mut [u8],
        quantise: impl Fn(&[f32; N], Context<'_, N>, &mut [u8; B]),
    ) {
        let importance = self.importance.map(|w| w.as_chunks::<N>().0);
        let row_bytes = self.row_len / N * B;
        for (row, out) in self.src.chunks_exact(self.row_len).zip(dst.chunks_exact_mut(row_bytes)) {
            let mean_square = importance.map_or(0.0, |_| search::sum_squares(row) / self.row_len as f32);
            for (i, (x, out)) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0).enumerate() {
                quantise(x, Context { importance: importance.map(|w| &w[i]), mean_square }, out);
            }
        }
    }
}
