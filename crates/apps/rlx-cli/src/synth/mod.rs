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
mod shapes;
mod tensors;
mod vocab;
mod weights;

use std::path::Path;

use rlx_ir::DType;
use rlx_weights::gguf::GgufWriter;
use rlx_weights::quantize::{Mix, ModelFacts};
use rlx_weights::{WeightsError, replace_file};

pub use rlx_weights::quantize::FileType;
pub use shapes::{Gemma4, Llama3Scaling, Moe, SHAPES, Shape};
pub use vocab::Vocab;
pub use weights::CHUNKS;

use tensors::{PER_LAYER_MODEL_PROJ, Tensor};
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
    replace_file(path, |unfinished| write_to(shape, file_type, seed, unfinished))
}

fn write_to(shape: &Shape, file_type: FileType, seed: u64, path: &Path) -> Result<Summary, WeightsError> {
    let mut writer = GgufWriter::from_metadata(metadata::of(shape, file_type));
    let mut plan: Vec<(Tensor, DType)> = Vec::new();
    let mut types: Vec<(DType, usize)> = Vec::new();
    let tensors = tensors::of(shape);
    let mut mix = Mix::new(file_type, facts(shape), tensors.iter().map(|tensor| tensor.name.as_str()), false);
    for tensor in tensors {
        let dtype = dtype_of(&tensor, &mut mix, file_type);
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

/// What decides the types of tensors.
fn facts(shape: &Shape) -> ModelFacts {
    ModelFacts {
        architecture: shape.architecture.to_owned(),
        layers: shape.num_hidden_layers,
        heads: shape.num_attention_heads,
        kv_heads: shape.num_key_value_heads,
        experts: shape.moe.map_or(0, |moe| moe.num_experts),
    }
}

/// The type of the next tensor of the file: as the quantiser chooses, or as the converter writes what that keeps.
fn dtype_of(tensor: &Tensor, mix: &mut Mix, file_type: FileType) -> DType {
    match file_type.base() {
        base if base.is_block() && tensor.name == PER_LAYER_MODEL_PROJ => DType::BF16,
        base if tensor.name == PER_LAYER_MODEL_PROJ => base,
        _ => mix.dtype(&tensor.name, &tensor.shape),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The types that the published files have.
    #[test]
    fn mixes_are_those_of_published_files() {
        let published = [
            ("smollm2-135m", FileType::Q4_1, vec![(DType::F32, 61), (DType::Q4_1, 210), (DType::Q8_0, 1)]),
            (
                "gemma3-270m",
                FileType::Q4_K_M,
                vec![(DType::F32, 109), (DType::Q5_0, 81), (DType::Q8_0, 10), (DType::Q4_K, 27), (DType::Q6_K, 9)],
            ),
        ];
        for (name, kind, types) in published {
            assert_eq!(counts(name, kind), types.into_iter().collect(), "{name} {kind}");
        }
    }

    /// Tensors of each type.
    fn counts(name: &str, kind: FileType) -> BTreeMap<DType, usize> {
        let shape = Shape::named(name).unwrap();
        let tensors = tensors::of(shape);
        let mut mix = Mix::new(kind, facts(shape), tensors.iter().map(|tensor| tensor.name.as_str()), false);
        let mut counts = BTreeMap::new();
        for tensor in &tensors {
            *counts.entry(dtype_of(tensor, &mut mix, kind)).or_default() += 1;
        }
        counts
    }

    /// By llama.cpp's rules half of the values' projections and half of the experts' down projections have more bits, and the
    /// output matrix; routers stay as they are.
    #[test]
    fn experts_are_mixed_as_feed_forwards() {
        let expected = [(DType::F32, 241), (DType::Q4_K, 289), (DType::Q6_K, 1 + 24 + 24)];
        assert_eq!(counts("qwen3-30b-a3b", FileType::Q4_K_M), expected.into_iter().collect());
    }

    /// What the quantiser keeps has the type of the checkpoint: published files list 283 tensors of F32 and one of BF16.
    #[test]
    fn kept_matrices_have_the_type_of_the_checkpoint() {
        for kind in [FileType::Q4_K_M, FileType::Q8_0] {
            let counts = counts("gemma4-e2b", kind);
            assert_eq!((counts[&DType::F32], counts[&DType::BF16]), (283, 1), "{kind}");
        }
        assert_eq!(counts("gemma4-e2b", FileType::F16), [(DType::F32, 283), (DType::F16, 318)].into_iter().collect());
    }
}
