//! Named tensors in and out of models, as safetensors files.

use std::collections::BTreeMap;
use std::path::Path;

use rlx_ir::DType;
use rlx_weights::safetensors_file::write_safetensors;
use rlx_weights::{Checkpoint, OpenOptions};

use crate::CoreError;

/// A tensor of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: TensorData,
}

/// Elements of a [`NamedTensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Real numbers.
    F32(Vec<f32>),
    /// Whole numbers.
    I64(Vec<i64>),
}

/// Tensors by name.
pub type NamedTensors = BTreeMap<String, NamedTensor>;

impl NamedTensor {
    /// A tensor of real numbers.
    pub fn f32(shape: &[usize], data: Vec<f32>) -> NamedTensor {
        NamedTensor { shape: shape.to_vec(), data: TensorData::F32(data) }
    }

    /// A tensor of whole numbers.
    pub fn i64(shape: &[usize], data: Vec<i64>) -> NamedTensor {
        NamedTensor { shape: shape.to_vec(), data: TensorData::I64(data) }
    }

    /// The elements as real numbers.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.data {
            TensorData::F32(data) => data.clone(),
            TensorData::I64(data) => data.iter().map(|&x| x as f32).collect(),
        }
    }
}

/// Reads every tensor of a safetensors file: whole numbers as I64, all others as F32.
///
/// # Errors
/// If the file cannot be read, or a tensor's type cannot be converted.
pub fn read_tensors(path: &Path) -> Result<NamedTensors, CoreError> {
    let file = Checkpoint::open(path, &OpenOptions::default())?;
    let mut tensors = NamedTensors::new();
    for tensor in file.tensors() {
        let data = match tensor.dtype {
            DType::I64 => {
                let words = tensor.data.as_chunks::<8>().0;
                TensorData::I64(words.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
            }
            DType::I32 => {
                let words = tensor.data.as_chunks::<4>().0;
                TensorData::I64(words.iter().map(|&bytes| i64::from(i32::from_le_bytes(bytes))).collect())
            }
            DType::U8 | DType::Bool => TensorData::I64(tensor.data.iter().map(|&byte| i64::from(byte)).collect()),
            _ => TensorData::F32(tensor.to_f32()?),
        };
        tensors.insert(tensor.name.clone(), NamedTensor { shape: tensor.shape.clone(), data });
    }
    Ok(tensors)
}

/// Writes tensors to a safetensors file, F32 and I64.
///
/// # Errors
/// If the file cannot be written.
pub fn write_tensors(path: &Path, tensors: &NamedTensors) -> Result<(), CoreError> {
    let bytes: Vec<(DType, Vec<u8>)> = tensors
        .values()
        .map(|tensor| match &tensor.data {
            TensorData::F32(data) => (DType::F32, data.iter().flat_map(|x| x.to_le_bytes()).collect()),
            TensorData::I64(data) => (DType::I64, data.iter().flat_map(|x| x.to_le_bytes()).collect()),
        })
        .collect();
    let entries: Vec<_> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, tensor), (dtype, data))| (name.as_str(), *dtype, tensor.shape.as_slice(), data.as_slice()))
        .collect();
    Ok(write_safetensors(path, &entries)?)
}
