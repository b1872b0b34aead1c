//! safetensors: the vectors, and the texts beside them.

use std::path::{Path, PathBuf};

use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::safetensors_file::parse;
use rlx_weights::{TensorView, list_names};

use super::{VectorIndex, is_supported};
use crate::VectorsError;

/// F32 `[rows, dims]`.
pub(crate) const EMBEDDINGS: &str = "embeddings";
/// I64 `[rows + 1]`: text i is the bytes from offset i to offset i + 1.
pub(crate) const TEXT_OFFSETS: &str = "text_offsets";
/// U8: all texts, UTF-8.
pub(crate) const TEXT_BYTES: &str = "text_bytes";

/// Texts of the rows.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    offsets: Bytes,
    bytes: Bytes,
    path: PathBuf,
}

impl Texts {
    /// The text of a row that is there.
    pub(super) fn get(&self, row: usize) -> Result<String, VectorsError> {
        let offset = |at: usize| {
            let bytes = self.offsets.as_chunks::<8>().0.get(at)?;
            usize::try_from(i64::from_le_bytes(*bytes)).ok()
        };
        let text = offset(row).zip(offset(row + 1)).and_then(|(begin, end)| self.bytes.get(begin..end));
        match text {
            Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            None => Err(VectorsError::file(&self.path, format!("the offsets of text {row} are damaged"))),
        }
    }
}

pub(super) fn open(bytes: &Bytes, path: &Path) -> Result<VectorIndex, VectorsError> {
    let file = parse(bytes, path).map_err(|error| match bytes.get(8..9) {
        Some(b"{") => VectorsError::from(error),
        _ => VectorsError::file(path, "neither a .npy nor a safetensors file: vectors are searched in one of these"),
    })?;
    let tensor = |name: &str| file.tensors.iter().find(|tensor| tensor.name == name);
    let embeddings = match tensor(EMBEDDINGS) {
        Some(embeddings) => embeddings,
        None => only_matrix(&file.tensors, path)?,
    };
    let &[rows, dims] = embeddings.shape.as_slice() else {
        let what = format!("tensor {EMBEDDINGS} has the shape {:?}, not [rows, dims]", embeddings.shape);
        return Err(VectorsError::file(path, what));
    };
    if !is_supported(embeddings.dtype) {
        let what =
            format!("tensor {} has elements of type {}, not F32, F16, BF16 or F64", EMBEDDINGS, embeddings.dtype);
        return Err(VectorsError::file(path, what));
    }
    let texts = match (tensor(TEXT_OFFSETS), tensor(TEXT_BYTES)) {
        (Some(offsets), Some(bytes)) => {
            let fits =
                offsets.dtype == DType::I64 && offsets.shape.as_slice() == [rows + 1] && bytes.dtype == DType::U8;
            if !fits {
                return Err(VectorsError::file(path, "the texts in it do not belong to its vectors"));
            }
            Some(Texts { offsets: offsets.data.clone(), bytes: bytes.data.clone(), path: path.to_path_buf() })
        }
        _ => None,
    };
    let (data, dtype) = (embeddings.data.clone(), embeddings.dtype);
    Ok(VectorIndex { data, dtype, rows, dims, texts, metadata: file.metadata.clone() })
}

/// The only tensor that can be vectors.
fn only_matrix<'a>(tensors: &'a [TensorView], path: &Path) -> Result<&'a TensorView, VectorsError> {
    let mut matrices = tensors.iter().filter(|tensor| tensor.shape.len() == 2 && is_supported(tensor.dtype));
    match (matrices.next(), matrices.next()) {
        (Some(only), None) => Ok(only),
        _ => {
            let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            Err(VectorsError::file(path, format!("no tensor `{EMBEDDINGS}` in it (there are: {})", list_names(&names))))
        }
    }
}
