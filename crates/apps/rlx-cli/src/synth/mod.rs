//! GGUF files of published shapes with random weights: for benchmarks and tests of models whose weights are not at hand.
//!
//! [`write()`] makes a file that this engine and llama.cpp load: the published sizes, metadata as llama.cpp's converter
//! writes it, the mix of tensor types of its quantiser, and a dummy vocabulary of the published size. Memory stays
//! bounded: a file is written a few rows at a time.
//!
//! Weights are normal with the standard deviation `1 / sqrt(columns)`, so that activations and logits stay of order
//! one. They come from a pool of up to [`CHUNKS`] chunks of 256 drawn once for a file and quantised once for each type; a row
//! is a random sequence of chunks. So large files take no longer than it takes to write them, and files of the same
//! shape and seed hold the same model in every type, each block as ggml's reference quantiser packs it.

mod metadata;
mod mix;
mod shapes;
mod tensors;
mod vocab;
mod weights;

use std::fs;
use std::path::Path;

use rlx_ir::DType;
use rlx_weights::WeightsError;
use rlx_weights::gguf::GgufWriter;

pub use mix::FileType;
pub use shapes::{Llama3Scaling, SHAPES, Shape};
pub use vocab::Vocab;
pub use weights::CHUNKS;

use tensors::Tensor;
use weights::Weights;

/// What [`write()`] has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Tensors in it.
    pub tensors: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Tensors of each type, most frequent first.
    pub types: Vec<(DType, usize)>,
}

/// Writes a file of this shape to `path`, replacing what is there. Equal arguments give equal bytes.
///
/// # Errors
/// [`WeightsError::Io`] if the file cannot be written; nothing is left at `path` then.
/// [`WeightsError::Usage`] if the shape is impossible (a row that is no whole number of blocks).
pub fn write(shape: &Shape, file_type: FileType, seed: u64, path: &Path) -> Result<Summary, WeightsError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = Path::new(&unfinished);
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let written = write_to(shape, file_type, seed, unfinished).and_then(|summary| {
        fs::rename(unfinished, path).map_err(io)?;
        Ok(summary)
    });
    if written.is_err() {
        // The first error tells more than that of cleaning up.
        let _ = fs::remove_file(unfinished);
    }
    written
}

fn write_to(shape: &Shape, file_type: FileType, seed: u64, path: &Path) -> Result<Summary, WeightsError> {
    let mut writer = GgufWriter::from_metadata(metadata::of(shape, file_type));
    let mut plan: Vec<(Tensor, DType)> = Vec::new();
    let mut types: Vec<(DType, usize)> = Vec::new();
    for tensor in tensors::of(shape) {
        let dtype = mix::dtype(file_type, shape, &tensor);
        writer.add_tensor(&tensor.name, dtype, &tensor.shape)?;
        match types.iter_mut().find(|(known, _)| *known == dtype) {
            Some((_, count)) => *count += 1,
            None => types.push((dtype, 1)),
        }
        plan.push((tensor, dtype));
    }
    types.sort_by_key(|(dtype, count)| (std::cmp::Reverse(*count), *dtype));
    let mut stream = writer.create(path)?;
    let elements = plan.iter().map(|(tensor, _)| tensor.elements()).sum();
    let mut weights = Weights::new(seed, elements);
    for (tensor, dtype) in &plan {
        weights.write(tensor, *dtype, &mut stream)?;
    }
    let file = stream.finish()?;
    let length = file.get_ref().metadata().map_err(|source| WeightsError::Io { path: path.to_owned(), source })?.len();
    Ok(Summary { bytes: length, tensors: plan.len(), parameters: elements as u64, types })
}
