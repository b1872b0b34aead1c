//! From any checkpoint to the contents of a GGUF file.

use std::path::Path;

use rlx_flow::Taps;
use rlx_ir::Graph;
use rlx_text::{FromHf, GgufVocab};
use rlx_weights::names::{MapOptions, NameRule, StoredTensor, WeightMap, stored_tensors};
use rlx_weights::quantize::Source;
use rlx_weights::{Checkpoint, GgufMetadata, TensorView, WeightsError};

use crate::network::take_params;
use crate::vocabulary::set_vocabulary;
use crate::{CoreError, DecoderModel, Families, GgufHeader, Task};

/// What a checkpoint's files do not say, or not as it is wished.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvertOptions<'a> {
    /// `general.name`; else that of the folder.
    pub name: Option<&'a str>,
    /// `tokenizer.ggml.pre`, where it is not recognised.
    pub pre: Option<&'a str>,
    /// Leaves the tokenizer out.
    pub no_tokenizer: bool,
}

/// A model as a GGUF file has it: what the file says of it, and where its weights come from.
#[derive(Clone, Debug)]
pub struct StoredModel {
    /// Keys, and tensors that are no weights.
    pub header: GgufHeader,
    /// Its parameters are what the checkpoint must hold.
    pub graph: Graph,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Canonical names, GGUF names and transforms of every tensor.
    pub rules: Vec<NameRule>,
    /// Numbers of layers and experts, and spellings of names.
    pub names: MapOptions<'static>,
}

impl StoredModel {
    fn decoder(model: DecoderModel, header: GgufHeader) -> Result<StoredModel, CoreError> {
        let (graph, names) = (model.spec.build(Taps::None)?, model.map_options());
        Ok(StoredModel { header, graph, vocab_size: model.spec.vocab_size, rules: model.rules, names })
    }
}

/// What a GGUF file of `checkpoint` holds, and what the user should know of it. GGUF files are taken as they are; others are
/// described by the family that takes them: metadata, names and contents of tensors, tokenizer. No weights are copied.
///
/// # Errors
/// If no family takes the checkpoint, it is incomplete, or the format has no words for it; errors of the tokenizer.
pub fn gguf_source(
    checkpoint: &Checkpoint,
    families: &Families,
    options: &ConvertOptions<'_>,
) -> Result<(Source, Vec<String>), CoreError> {
    if let Some(source) = Source::from_gguf(checkpoint) {
        return Ok((source, Vec::new()));
    }
    let family = families.find(checkpoint)?;
    let model = match family.task {
        Task::Decoder { load, to_gguf } => StoredModel::decoder(load(checkpoint)?, to_gguf(checkpoint)?)?,
        Task::Network { gguf: Some(form), .. } => (form.stored)(checkpoint)?,
        Task::Network { gguf: None, .. } => return Err(CoreError::NoGguf { family: family.name.to_string() }),
    };
    let (mut metadata, mut notes) = (model.header.metadata, model.header.notes);

    // What the model computes with must be there, in the right shape.
    let mut map = WeightMap::new(checkpoint, &model.rules, &model.names)?;
    take_params(&mut map, &model.graph)?;
    let names: Vec<String> = map.parameters().map(str::to_owned).collect();
    let params: Result<Vec<TensorView>, WeightsError> = names.iter().map(|name| map.take(name)).collect();
    let params = params?;
    map.finish()?;
    let mut tensors = stored_tensors(&model.rules, &params, model.names.head_dim)?;

    let weights: usize = tensors.iter().map(StoredTensor::element_count).sum();
    let expert_weights =
        tensors.iter().filter(|tensor| tensor.name.contains("_exps.")).map(StoredTensor::element_count).sum();
    let name = options.name.map_or_else(|| folder_name(checkpoint), str::to_owned);
    metadata.set("general.name", name);
    metadata.set("general.size_label", size_label(weights, expert_weights, model.names.experts));
    tensors.extend(model.header.tensors.into_iter().map(StoredTensor::from));

    let vocab = if options.no_tokenizer { None } else { vocabulary(checkpoint, &metadata, model.vocab_size, options)? };
    match vocab {
        Some((vocab, told)) => {
            notes.extend(told);
            set_vocabulary(&vocab, &mut metadata);
        }
        None => {
            metadata.set("tokenizer.ggml.model", "none");
            if !options.no_tokenizer {
                notes.push("there is no tokenizer beside the weights: the file will have none".into());
            }
        }
    }
    Ok((Source { metadata, tensors, is_new: true }, notes))
}

fn vocabulary(
    checkpoint: &Checkpoint,
    metadata: &GgufMetadata,
    vocab_size: usize,
    options: &ConvertOptions<'_>,
) -> Result<Option<(GgufVocab, Vec<String>)>, CoreError> {
    let Some(beside) = checkpoint.files().first() else { return Ok(None) };
    let dir = match beside.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let architecture = metadata.architecture().unwrap_or_default();
    let wanted = FromHf { architecture, vocab_size, pre: options.pre };
    Ok(GgufVocab::from_hf(dir, wanted)?)
}

/// The name of the folder that the weights lie in.
fn folder_name(checkpoint: &Checkpoint) -> String {
    let folder = checkpoint.files().first().and_then(|file| file.canonicalize().ok());
    let name = folder.as_deref().and_then(Path::parent).and_then(Path::file_name);
    name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The number of weights for people, as llama.cpp writes it: `135M`, `1.2B`, `128x1.8B`.
fn size_label(weights: usize, expert_weights: usize, experts: usize) -> String {
    let rounded = |n: f64| {
        let (scaled, unit) = match n {
            _ if n > 1e12 => (n * 1e-12, "T"),
            _ if n > 1e9 => (n * 1e-9, "B"),
            _ if n > 1e6 => (n * 1e-6, "M"),
            _ => (n * 1e-3, "K"),
        };
        let digits = if scaled.round_ties_even() == 0.0 { 0 } else { scaled.round_ties_even().to_string().len() };
        format!("{scaled:.*}{unit}", 2usize.saturating_sub(digits))
    };
    match experts {
        0 => rounded(weights as f64),
        _ => {
            let each = (weights - expert_weights) as f64 + (expert_weights / experts) as f64;
            format!("{experts}x{}", rounded(each))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::size_label;

    #[test]
    fn sizes_have_two_digits_or_more() {
        assert_eq!(size_label(134_515_008, 0, 0), "135M");
        assert_eq!(size_label(1_235_814_400, 0, 0), "1.2B");
        assert_eq!(size_label(8_030_261_248, 0, 0), "8.0B");
        assert_eq!(size_label(102_600, 0, 0), "103K");
        assert_eq!(size_label(30_532_122_624, 28_991_029_248, 128), "128x1.8B");
    }
}
