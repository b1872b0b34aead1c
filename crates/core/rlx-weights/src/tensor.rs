//! One tensor of a checkpoint.

use half::{bf16, f16};
use rlx_ir::DType;
use rlx_mem::Bytes;

use crate::WeightsError;

/// A named tensor, its data a slice of the mapped file.
#[derive(Clone, Debug)]
pub struct TensorView {
    /// Name in the file; the canonical name once it went through a [`WeightMap`](crate::names::WeightMap).
    pub name: String,
    /// Element type. Block types hold whole rows (the last dim is a multiple of the block length).
    pub dtype: DType,
    /// Row-major shape, outermost dim first, as Hugging Face writes it; the dims of a GGUF file are reversed into this.
    /// Empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements in little-endian order, exactly `dtype.bytes_for(element_count())` bytes. Not necessarily aligned
    /// to the element size: see [`TensorView::aligned_data`].
    pub data: Bytes,
}

impl TensorView {
    /// A tensor over `data`, checked: the element count must not overflow, rows must be whole blocks, and the length of
    /// `data` must be what dtype and shape need.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] if any of that does not hold.
    pub fn new(name: String, dtype: DType, shape: Vec<usize>, data: Bytes) -> Result<TensorView, WeightsError> {
        match tensor_bytes(dtype, &shape) {
            Ok(need) if need == data.len() => Ok(TensorView { name, dtype, shape, data }),
            Ok(need) => {
                let what = format!("of type {dtype} and shape {shape:?} needs {need} bytes, has {}", data.len());
                Err(WeightsError::Shape { tensor: name, what })
            }
            Err(what) => Err(WeightsError::Shape { tensor: name, what }),
        }
    }

    /// Number of elements: the product of the dims (1 for a scalar).
    pub fn element_count(&self) -> usize {
        // Checked at construction; saturating keeps hand-made views from wrapping.
        self.shape.iter().fold(1, |n, &dim| n.saturating_mul(dim))
    }

    /// Elements per row, the innermost dim (1 for a scalar).
    pub fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The data, copied into aligned memory only if it does not lie on a multiple of its element size (files may hold
    /// their tensors anywhere).
    pub fn aligned_data(&self) -> Bytes {
        let align = if self.dtype.is_block() { 2 } else { self.dtype.block_bytes() };
        if self.data.as_ptr().addr().is_multiple_of(align) { self.data.clone() } else { Bytes::copy_from(&self.data) }
    }

    /// Every element as `f32`, dequantised if need be. Integers are rounded to the nearest `f32`, booleans are 0 or 1.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] if data and shape do not agree, [`WeightsError::Dtype`] if the type cannot be dequantised.
    pub fn to_f32(&self) -> Result<Vec<f32>, WeightsError> {
        let need = tensor_bytes(self.dtype, &self.shape)
            .map_err(|what| WeightsError::Shape { tensor: self.name.clone(), what })?;
        if need != self.data.len() {
            let what = format!("needs {need} bytes, has {}", self.data.len());
            return Err(WeightsError::Shape { tensor: self.name.clone(), what });
        }
        let data = &*self.data;
        Ok(match self.dtype {
            DType::F32 => convert(data, f32::from_le_bytes),
            DType::F16 => convert(data, |b| f16::from_le_bytes(b).to_f32()),
            DType::BF16 => convert(data, |b| bf16::from_le_bytes(b).to_f32()),
            DType::F64 => convert(data, |b| f64::from_le_bytes(b) as f32),
            DType::I8 => convert(data, |b| f32::from(i8::from_le_bytes(b))),
            DType::I16 => convert(data, |b| f32::from(i16::from_le_bytes(b))),
            DType::I32 => convert(data, |b| i32::from_le_bytes(b) as f32),
            DType::I64 => convert(data, |b| i64::from_le_bytes(b) as f32),
            DType::U8 => convert(data, |[b]: [u8; 1]| f32::from(b)),
            DType::Bool => convert(data, |[b]: [u8; 1]| f32::from(b != 0)),
            dtype => {
                let mut out = vec![0.0; self.element_count()];
                rlx_quant::dequantize(dtype, data, &mut out).map_err(|e| WeightsError::Dtype {
                    tensor: self.name.clone(),
                    dtype,
                    what: e.to_string(),
                })?;
                out
            }
        })
    }
}

fn convert<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.as_chunks::<N>().0.iter().map(|&bytes| value(bytes)).collect()
}

/// Bytes of a tensor, or why there is no such tensor.
pub(crate) fn tensor_bytes(dtype: DType, shape: &[usize]) -> Result<usize, String> {
    let overflow = || format!("has too many elements: shape {shape:?}");
    let count = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)).ok_or_else(overflow)?;
    // A zero among the dims must not hide that the others are absurd.
    let nonzero = shape.iter().filter(|&&dim| dim != 0).try_fold(1usize, |n, &dim| n.checked_mul(dim));
    if nonzero.is_none_or(|n| n > isize::MAX as usize) {
        return Err(overflow());
    }
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(dtype.block_len()) {
        return Err(format!("of type {dtype} has rows of {row} elements, not a multiple of {}", dtype.block_len()));
    }
    dtype.bytes_for(count).filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(dtype: DType, shape: &[usize], data: &[u8]) -> Result<TensorView, WeightsError> {
        TensorView::new("t".into(), dtype, shape.to_vec(), Bytes::copy_from(data))
    }

    #[test]
    fn plain_types_convert() {
        let f32s = |dtype, data: &[u8]| {
            view(dtype, &[data.len() / DType::block_bytes(dtype)], data).unwrap().to_f32().unwrap()
        };
        assert_eq!(f32s(DType::F32, &1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(f32s(DType::F16, &f16::from_f32(-0.25).to_le_bytes()), [-0.25]);
        assert_eq!(f32s(DType::BF16, &bf16::from_f32(3.0).to_le_bytes()), [3.0]);
        assert_eq!(f32s(DType::F64, &2.5f64.to_le_bytes()), [2.5]);
        assert_eq!(f32s(DType::I16, &(-7i16).to_le_bytes()), [-7.0]);
        assert_eq!(f32s(DType::I64, &9i64.to_le_bytes()), [9.0]);
        assert_eq!(f32s(DType::U8, &[200]), [200.0]);
        assert_eq!(f32s(DType::Bool, &[0, 1, 7]), [0.0, 1.0, 1.0]);
    }

    #[test]
    fn shape_and_data_must_agree() {
        assert!(view(DType::F32, &[], &[0; 4]).is_ok());
        assert!(view(DType::F32, &[0, 3], &[]).is_ok());
        assert!(view(DType::F32, &[2], &[0; 4]).is_err());
        assert!(view(DType::Q8_0, &[2, 32], &[0; 68]).is_ok());
        // 64 elements are two blocks, but no row is a whole one.
        assert!(view(DType::Q8_0, &[4, 16], &[0; 68]).is_err());
        assert!(view(DType::F32, &[1 << 40, 1 << 40], &[]).is_err());
        assert!(view(DType::F32, &[0, 1 << 40, 1 << 40], &[]).is_err());
    }

    #[test]
    fn misaligned_data_is_copied() {
        let bytes = Bytes::copy_from(&[0, 1, 2, 3, 4]);
        let view = TensorView { name: "t".into(), dtype: DType::F32, shape: vec![1], data: bytes.slice(1..5).unwrap() };
        let aligned = view.aligned_data();
        assert_eq!(aligned.as_ptr().addr() % 4, 0);
        assert_eq!(&*aligned, &[1, 2, 3, 4]);
    }
}
