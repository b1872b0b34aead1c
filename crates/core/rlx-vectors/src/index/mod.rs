//! Vectors of a file, mapped, and the nearest of them.

mod npy;
mod search;
pub(crate) mod tensors;
mod top;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};
use rlx_ir::DType;
use rlx_mem::{Bytes, MappedFile};

pub use search::{Hit, Metric, SearchOptions, scores};

use crate::VectorsError;
use tensors::Texts;

/// Vectors of equal length. Those of a file stay in the file, which is mapped: what is not looked at is not read, and what has
/// been read can be given up again by the system.
#[derive(Debug, Clone)]
pub struct VectorIndex {
    data: Bytes,
    dtype: DType,
    rows: usize,
    dims: usize,
    texts: Option<Texts>,
    metadata: BTreeMap<String, String>,
}

impl VectorIndex {
    /// Opens a `.npy` file (F16, F32 or F64, `[rows, dims]` in C order) or a safetensors file (tensor `embeddings`, or the only
    /// one of two dimensions; F16, BF16, F32 or F64).
    ///
    /// # Errors
    /// If it cannot be mapped, is of another format or cut short, or holds no such array.
    pub fn open(path: &Path) -> Result<VectorIndex, VectorsError> {
        let file = MappedFile::open(path).map_err(|source| VectorsError::io(path.display().to_string(), source))?;
        let bytes = Bytes::from_mapped(Arc::new(file));
        let index = if bytes.starts_with(npy::MAGIC) { npy::open(&bytes, path)? } else { tensors::open(&bytes, path)? };
        if index.dims == 0 {
            return Err(VectorsError::file(path, "vectors of no dimensions"));
        }
        Ok(index)
    }

    /// Vectors in memory: `[rows, dims]`, row-major.
    ///
    /// # Errors
    /// If `vectors` is no whole number of rows.
    pub fn from_vectors(dims: usize, vectors: &[f32]) -> Result<VectorIndex, VectorsError> {
        if dims == 0 || !vectors.len().is_multiple_of(dims) {
            let what = format!("{} numbers are no whole vectors of {dims} dimensions", vectors.len());
            return Err(VectorsError::Usage(what));
        }
        let le: Vec<u8> = vectors.iter().flat_map(|x| x.to_le_bytes()).collect();
        Ok(VectorIndex {
            data: Bytes::copy_from(&le),
            dtype: DType::F32,
            rows: vectors.len() / dims,
            dims,
            texts: None,
            metadata: BTreeMap::new(),
        })
    }

    /// How many vectors.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers per vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Bytes of all vectors as they are stored.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// What the file says of itself: which model made it, and how. Empty for `.npy`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Whether the file holds the texts too.
    pub fn has_texts(&self) -> bool {
        self.texts.is_some()
    }

    /// The text of `row`; none if the file holds no texts, or no such row.
    ///
    /// # Errors
    /// If the file's text offsets are damaged there.
    pub fn text(&self, row: usize) -> Result<Option<String>, VectorsError> {
        match &self.texts {
            Some(texts) if row < self.rows => texts.get(row).map(Some),
            _ => Ok(None),
        }
    }

    /// The vector of `row`; none if there is no such row.
    pub fn vector(&self, row: usize) -> Option<Vec<f32>> {
        if row >= self.rows {
            return None;
        }
        let mut scratch = Vec::new();
        Some(self.block(row, 1, &mut scratch).to_vec())
    }

    /// `count` vectors from `first` on, which must be there: in place where they are F32 in the order of this machine, otherwise
    /// converted into `scratch`.
    fn block<'a>(&'a self, first: usize, count: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let row = self.dims * self.dtype.block_bytes();
        let bytes = &self.data[first * row..(first + count) * row];
        if self.dtype == DType::F32
            && cfg!(target_endian = "little")
            && let Ok(vectors) = bytemuck::try_cast_slice(bytes)
        {
            return vectors;
        }
        scratch.clear();
        match self.dtype {
            DType::F16 => convert(bytes, scratch, |x| f16::from_le_bytes(x).to_f32()),
            DType::BF16 => convert(bytes, scratch, |x| bf16::from_le_bytes(x).to_f32()),
            DType::F64 => convert(bytes, scratch, |x| f64::from_le_bytes(x) as f32),
            _ => convert(bytes, scratch, f32::from_le_bytes),
        }
        scratch
    }
}

/// Whether vectors can have elements of this type.
fn is_supported(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64)
}

fn convert<const N: usize>(bytes: &[u8], out: &mut Vec<f32>, value: impl Fn([u8; N]) -> f32) {
    out.extend(bytes.as_chunks::<N>().0.iter().map(|&x| value(x)));
}
