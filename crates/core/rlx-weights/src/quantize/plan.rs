//! What a file will hold.

use std::collections::BTreeMap;

use regex::Regex;
use rlx_ir::DType;

use super::mix::{Role, fallback, is_packed, layer_of};
use super::{FileType, Imatrix, Mix, ModelFacts};
use crate::names::StoredTensor;
use crate::{Checkpoint, GgufMetadata, WeightsError};

/// Version of the block formats, as llama.cpp's quantiser notes it.
const QUANTIZATION_VERSION: u32 = 2;

/// What a file is made from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Metadata in GGUF's words.
    pub metadata: GgufMetadata,
    /// Tensors under their GGUF names.
    pub tensors: Vec<StoredTensor>,
    /// Whether types are to be chosen of the tensors that stay as they are in a GGUF file: norms, biases and the like become F32.
    pub is_new: bool,
}

impl Source {
    /// A GGUF file as it is; none for other checkpoints.
    pub fn from_gguf(checkpoint: &Checkpoint) -> Option<Source> {
        let metadata = checkpoint.gguf()?.clone();
        let tensors = checkpoint.tensors().map(|tensor| StoredTensor::from(tensor.clone())).collect();
        Some(Source { metadata, tensors, is_new: false })
    }
}

/// A type for the tensors whose names match.
#[derive(Clone, Debug)]
pub struct TensorType {
    /// Found anywhere in a name.
    pub pattern: Regex,
    /// Their type.
    pub dtype: DType,
}

/// Which types to write.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// The kind of file.
    pub file_type: FileType,
    /// The type of `output.weight`, and of the embedding table where it stands for it.
    pub output_type: Option<DType>,
    /// The type of the embedding tables.
    pub token_embedding_type: Option<DType>,
    /// One type for all matrices, instead of a mix.
    pub pure: bool,
    /// Leaves `output.weight` as it is.
    pub leave_output: bool,
    /// Types of single tensors; the first that matches counts. Only for kinds of block types.
    pub tensor_types: Vec<TensorType>,
}

impl QuantizeOptions {
    /// llama.cpp's mix for this kind of file.
    pub fn new(file_type: FileType) -> QuantizeOptions {
        QuantizeOptions {
            file_type,
            output_type: None,
            token_embedding_type: None,
            pure: false,
            leave_output: false,
            tensor_types: Vec::new(),
        }
    }
}

/// A tensor and its type in the file.
#[derive(Clone, Debug)]
pub struct PlannedTensor {
    /// Where its values come from.
    pub tensor: StoredTensor,
    /// Its type in the file.
    pub dtype: DType,
    /// Whether the type stands in for another one, which its rows are no whole blocks of.
    pub fell_back: bool,
    /// Importance of its columns, matrix after matrix.
    pub(super) importance: Option<Vec<f32>>,
}

/// A file to be; see [`Plan::write`].
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) metadata: GgufMetadata,
    pub(super) tensors: Vec<PlannedTensor>,
}

/// Facts of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Number of elements of all tensors.
    pub parameters: u64,
    /// Tensors and bytes of each type before.
    pub before: BTreeMap<DType, (usize, u64)>,
    /// Tensors and bytes of each type after.
    pub after: BTreeMap<DType, (usize, u64)>,
    /// Tensors whose type stands in for another.
    pub fallbacks: usize,
    /// Tensors that were of a block type and become another one, which loses more than one step does.
    pub requantized: usize,
    /// Names of the tensors that an importance matrix, where one was given, says nothing of.
    pub without_importance: Vec<String>,
}

impl Summary {
    /// Bytes of all tensors before.
    pub fn bytes_before(&self) -> u64 {
        self.before.values().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of all tensors after.
    pub fn bytes_after(&self) -> u64 {
        self.after.values().map(|(_, bytes)| bytes).sum()
    }

    /// Bits of an element, with so many bytes for all.
    pub fn bits_per_weight(&self, bytes: u64) -> f64 {
        if self.parameters == 0 { 0.0 } else { bytes as f64 * 8.0 / self.parameters as f64 }
    }
}

impl Plan {
    /// Chooses the type of every tensor. Tensors are put in the order in which llama.cpp writes them: by layer, then by name.
    ///
    /// # Errors
    /// [`WeightsError::Dtype`] if a chosen type cannot be made; [`WeightsError::Shape`] if the importance matrix is of another model;
    /// [`WeightsError::Usage`] if the kind of file needs one and has none.
    pub fn new(source: Source, options: &QuantizeOptions, imatrix: Option<&Imatrix>) -> Result<Plan, WeightsError> {
        let Source { mut metadata, mut tensors, is_new } = source;
        tensors.sort_by(|a, b| (layer_of(&a.name), &a.name).cmp(&(layer_of(&b.name), &b.name)));
        let names = tensors.iter().map(|tensor| tensor.name.as_str());
        let mut mix = Mix::new(options.file_type, ModelFacts::of(&metadata), names, imatrix.is_some());
        let mut planned = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let (dtype, fell_back) = choose(&tensor, options, is_new, &mut mix);
            planned.push(plan_tensor(tensor, dtype, fell_back, options, imatrix)?);
        }
        for key in ["split.no", "split.count", "split.tensors.count"] {
            metadata.remove(key);
        }
        // Removed first, so that they come last, as llama.cpp has them.
        for (key, value) in
            [("general.quantization_version", QUANTIZATION_VERSION), ("general.file_type", options.file_type.id())]
        {
            metadata.remove(key);
            metadata.set(key, value);
        }
        Ok(Plan { metadata, tensors: planned })
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &GgufMetadata {
        &self.metadata
    }

    /// The file's metadata, to be changed.
    pub fn metadata_mut(&mut self) -> &mut GgufMetadata {
        &mut self.metadata
    }

    /// The file's tensors in order.
    pub fn tensors(&self) -> &[PlannedTensor] {
        &self.tensors
    }

    /// Counts types and bytes.
    pub fn summary(&self, imatrix: Option<&Imatrix>) -> Summary {
        let mut summary = Summary {
            parameters: 0,
            before: BTreeMap::new(),
            after: BTreeMap::new(),
            fallbacks: 0,
            requantized: 0,
            without_importance: Vec::new(),
        };
        for planned in &self.tensors {
            let (tensor, dtype) = (&planned.tensor, planned.dtype);
            summary.parameters += tensor.element_count() as u64;
            let add = |types: &mut BTreeMap<DType, (usize, u64)>, dtype: DType, bytes: usize| {
                let (count, sum) = types.entry(dtype).or_default();
                *count += 1;
                *sum += bytes as u64;
            };
            add(&mut summary.before, tensor.dtype, tensor.bytes());
            add(&mut summary.after, dtype, dtype.bytes_for(tensor.element_count()).unwrap_or(0));
            summary.fallbacks += usize::from(planned.fell_back);
            summary.requantized += usize::from(tensor.dtype.is_block() && tensor.dtype != dtype);
            if imatrix.is_some() && dtype.is_block() && tensor.dtype != dtype && planned.importance.is_none() {
                summary.without_importance.push(tensor.name.clone());
            }
        }
        summary
    }
}

/// The type of a tensor, and whether it stands in for another.
fn choose(tensor: &StoredTensor, options: &QuantizeOptions, is_new: bool, mix: &mut Mix) -> (DType, bool) {
    let name = tensor.name.as_str();
    let base = options.file_type.base();
    let role = Role::of(name);
    if !is_packed(name, &tensor.shape) || (options.leave_output && role == Role::Output) {
        let small = tensor.shape.len() <= 1
            || !name.ends_with(".weight")
            || name.ends_with("_norm.weight")
            || name.contains("ffn_gate_inp.weight");
        let dtype = match tensor.dtype {
            kept if !is_new => kept,
            _ if small => DType::F32,
            _ if !base.is_block() => base,
            kept @ (DType::F32 | DType::F16 | DType::BF16) => kept,
            _ => DType::F32,
        };
        return (dtype, false);
    }
    let manual = || options.tensor_types.iter().find(|t| t.pattern.is_match(name)).map(|t| t.dtype);
    if let Some(dtype) = options.token_embedding_type.filter(|_| role == Role::Embedding)
        && (name == "token_embd.weight" || manual().is_none())
    {
        return (dtype, false);
    }
    if let Some(dtype) = options.output_type.filter(|_| role == Role::Output) {
        return (dtype, false);
    }
    if !base.is_block() {
        return (base, false);
    }
    let wanted = match manual() {
        Some(dtype) => dtype,
        None if options.pure => base,
        None => mix.wanted(name, &tensor.shape, options.output_type),
    };
    let dtype = fallback(wanted, tensor.row_len());
    (dtype, dtype != wanted)
}

fn plan_tensor(
    tensor: StoredTensor,
    dtype: DType,
    fell_back: bool,
    options: &QuantizeOptions,
    imatrix: Option<&Imatrix>,
) -> Result<PlannedTensor, WeightsError> {
    let mut importance = None;
    if dtype != tensor.dtype {
        let fail = |what: String| WeightsError::Dtype { tensor: tensor.name.clone(), dtype, what };
        if !rlx_quant::can_quantize(dtype) {
            return Err(fail("this type cannot be made".into()));
        }
        if !tensor.row_len().is_multiple_of(dtype.block_len()) {
            let (row, block) = (tensor.row_len(), dtype.block_len());
            return Err(fail(format!("rows of {row} elements are no whole blocks of {block}: choose another type")));
        }
        if dtype.is_block()
            && let Some(imatrix) = imatrix
        {
            importance = imatrix.of(&tensor.name, &tensor.shape)?;
        }
        let careful = options.file_type == FileType::Q2_K_S
            && dtype == DType::Q2_K
            && !matches!(Role::of(&tensor.name), Role::Output | Role::Embedding);
        if careful && importance.is_none() {
            return Err(WeightsError::Usage(format!(
                "Q2_K_S files need an importance matrix (--imatrix), and there is none for {}; Q2_K does without",
                tensor.name
            )));
        }
    }
    Ok(PlannedTensor { tensor, dtype, fell_back, importance })
}
