//! The one name table, and the parameters of a checkpoint by it.

use rlx_core::{CoreError, take_param};
use rlx_ir::{DType, Graph};
use rlx_mem::Bytes;
use rlx_weights::names::{MapOptions, NameRule, WeightMap};
use rlx_weights::{Checkpoint, TensorView};

use crate::WhisperConfig;

/// Positions of the encoder, which some checkpoints leave to be computed.
const ENCODER_POSITIONS: &str = "model.encoder.embed_positions.weight";

/// Hugging Face checkpoints of the model without its head leave `model.` out.
const PREFIXES: &[(&str, &str)] = &[("model.", "")];

const fn rule(canonical: &'static str, openai: &'static str) -> NameRule {
    NameRule::required(canonical, openai)
}

/// A parameter of a layer. Encoder and decoder may have other numbers of layers; whoever needs one says that it is missing.
const fn layer(canonical: &'static str, openai: &'static str) -> NameRule {
    NameRule::optional(canonical, openai)
}

/// Canonical names, and those of openai/whisper, which files of whisper.cpp keep.
const TABLE: &[NameRule] = &[
    rule("model.encoder.conv1.weight", "encoder.conv1.weight"),
    rule("model.encoder.conv1.bias", "encoder.conv1.bias"),
    rule("model.encoder.conv2.weight", "encoder.conv2.weight"),
    rule("model.encoder.conv2.bias", "encoder.conv2.bias"),
    NameRule::optional(ENCODER_POSITIONS, "encoder.positional_embedding"),
    rule("model.encoder.layer_norm.weight", "encoder.ln_post.weight"),
    rule("model.encoder.layer_norm.bias", "encoder.ln_post.bias"),
    rule("model.decoder.embed_tokens.weight", "decoder.token_embedding.weight"),
    rule("model.decoder.embed_positions.weight", "decoder.positional_embedding"),
    rule("model.decoder.layer_norm.weight", "decoder.ln.weight"),
    rule("model.decoder.layer_norm.bias", "decoder.ln.bias"),
    // Tied to the token embeddings; some files store it a second time.
    NameRule::ignored("proj_out.weight", ""),
];

const ENCODER_LAYER: &[NameRule] = &[
    layer("model.encoder.layers.{}.self_attn_layer_norm.weight", "encoder.blocks.{}.attn_ln.weight"),
    layer("model.encoder.layers.{}.self_attn_layer_norm.bias", "encoder.blocks.{}.attn_ln.bias"),
    layer("model.encoder.layers.{}.self_attn.q_proj.weight", "encoder.blocks.{}.attn.query.weight"),
    layer("model.encoder.layers.{}.self_attn.q_proj.bias", "encoder.blocks.{}.attn.query.bias"),
    layer("model.encoder.layers.{}.self_attn.k_proj.weight", "encoder.blocks.{}.attn.key.weight"),
    layer("model.encoder.layers.{}.self_attn.v_proj.weight", "encoder.blocks.{}.attn.value.weight"),
    layer("model.encoder.layers.{}.self_attn.v_proj.bias", "encoder.blocks.{}.attn.value.bias"),
    layer("model.encoder.layers.{}.self_attn.out_proj.weight", "encoder.blocks.{}.attn.out.weight"),
    layer("model.encoder.layers.{}.self_attn.out_proj.bias", "encoder.blocks.{}.attn.out.bias"),
    layer("model.encoder.layers.{}.final_layer_norm.weight", "encoder.blocks.{}.mlp_ln.weight"),
    layer("model.encoder.layers.{}.final_layer_norm.bias", "encoder.blocks.{}.mlp_ln.bias"),
    layer("model.encoder.layers.{}.fc1.weight", "encoder.blocks.{}.mlp.0.weight"),
    layer("model.encoder.layers.{}.fc1.bias", "encoder.blocks.{}.mlp.0.bias"),
    layer("model.encoder.layers.{}.fc2.weight", "encoder.blocks.{}.mlp.2.weight"),
    layer("model.encoder.layers.{}.fc2.bias", "encoder.blocks.{}.mlp.2.bias"),
];

const DECODER_LAYER: &[NameRule] = &[
    layer("model.decoder.layers.{}.self_attn_layer_norm.weight", "decoder.blocks.{}.attn_ln.weight"),
    layer("model.decoder.layers.{}.self_attn_layer_norm.bias", "decoder.blocks.{}.attn_ln.bias"),
    layer("model.decoder.layers.{}.self_attn.q_proj.weight", "decoder.blocks.{}.attn.query.weight"),
    layer("model.decoder.layers.{}.self_attn.q_proj.bias", "decoder.blocks.{}.attn.query.bias"),
    layer("model.decoder.layers.{}.self_attn.k_proj.weight", "decoder.blocks.{}.attn.key.weight"),
    layer("model.decoder.layers.{}.self_attn.v_proj.weight", "decoder.blocks.{}.attn.value.weight"),
    layer("model.decoder.layers.{}.self_attn.v_proj.bias", "decoder.blocks.{}.attn.value.bias"),
    layer("model.decoder.layers.{}.self_attn.out_proj.weight", "decoder.blocks.{}.attn.out.weight"),
    layer("model.decoder.layers.{}.self_attn.out_proj.bias", "decoder.blocks.{}.attn.out.bias"),
    layer("model.decoder.layers.{}.encoder_attn_layer_norm.weight", "decoder.blocks.{}.cross_attn_ln.weight"),
    layer("model.decoder.layers.{}.encoder_attn_layer_norm.bias", "decoder.blocks.{}.cross_attn_ln.bias"),
    layer("model.decoder.layers.{}.encoder_attn.q_proj.weight", "decoder.blocks.{}.cross_attn.query.weight"),
    layer("model.decoder.layers.{}.encoder_attn.q_proj.bias", "decoder.blocks.{}.cross_attn.query.bias"),
    layer("model.decoder.layers.{}.encoder_attn.k_proj.weight", "decoder.blocks.{}.cross_attn.key.weight"),
    layer("model.decoder.layers.{}.encoder_attn.v_proj.weight", "decoder.blocks.{}.cross_attn.value.weight"),
    layer("model.decoder.layers.{}.encoder_attn.v_proj.bias", "decoder.blocks.{}.cross_attn.value.bias"),
    layer("model.decoder.layers.{}.encoder_attn.out_proj.weight", "decoder.blocks.{}.cross_attn.out.weight"),
    layer("model.decoder.layers.{}.encoder_attn.out_proj.bias", "decoder.blocks.{}.cross_attn.out.bias"),
    layer("model.decoder.layers.{}.final_layer_norm.weight", "decoder.blocks.{}.mlp_ln.weight"),
    layer("model.decoder.layers.{}.final_layer_norm.bias", "decoder.blocks.{}.mlp_ln.bias"),
    layer("model.decoder.layers.{}.fc1.weight", "decoder.blocks.{}.mlp.0.weight"),
    layer("model.decoder.layers.{}.fc1.bias", "decoder.blocks.{}.mlp.0.bias"),
    layer("model.decoder.layers.{}.fc2.weight", "decoder.blocks.{}.mlp.2.weight"),
    layer("model.decoder.layers.{}.fc2.bias", "decoder.blocks.{}.mlp.2.bias"),
];

/// How the tensors of a GGUF file are named; there are files of both kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// As Hugging Face names them.
    Canonical,
    /// As openai/whisper and whisper.cpp name them.
    OpenAi,
}

impl Naming {
    /// That of a checkpoint.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Naming {
        match checkpoint.tensor(TABLE[0].gguf) {
            Some(_) => Naming::OpenAi,
            None => Naming::Canonical,
        }
    }

    /// The name of the canonical `name`.
    pub(crate) fn name(self, name: &str) -> String {
        let all = TABLE.iter().chain(ENCODER_LAYER).chain(DECODER_LAYER);
        let openai = all.filter_map(|rule| rule.gguf_name(name)).next();
        openai.filter(|_| self == Naming::OpenAi).unwrap_or_else(|| name.to_owned())
    }
}

/// The parameters of each of `graphs`, in its order.
///
/// # Errors
/// If one is missing or of another shape, or a tensor is neither used nor ignored.
pub(crate) fn params(
    checkpoint: &Checkpoint,
    config: &WhisperConfig,
    graphs: &[&Graph],
) -> Result<Vec<Vec<TensorView>>, CoreError> {
    let rules = rules(checkpoint);
    let layers = config.encoder_layers.max(config.decoder_layers);
    let options = MapOptions { layers, prefixes: PREFIXES, ..MapOptions::default() };
    let mut weights = WeightMap::new(checkpoint, &rules, &options)?;
    let computed = (!weights.contains(ENCODER_POSITIONS)).then(|| sinusoids(config)).transpose()?;
    let mut all = Vec::with_capacity(graphs.len());
    for graph in graphs {
        let params = graph.params().iter().map(|param| match &computed {
            Some(positions) if param.name == ENCODER_POSITIONS => Ok(positions.clone()),
            _ => take_param(&mut weights, param),
        });
        all.push(params.collect::<Result<Vec<_>, CoreError>>()?);
    }
    weights.finish()?;
    Ok(all)
}

/// The table with the names that the checkpoint's GGUF file has, if it is one.
fn rules(checkpoint: &Checkpoint) -> Vec<NameRule> {
    let naming = Naming::of(checkpoint);
    let all = TABLE.iter().chain(ENCODER_LAYER).chain(DECODER_LAYER);
    let named = all.map(|rule| match naming {
        Naming::OpenAi => *rule,
        Naming::Canonical => NameRule { gguf: rule.canonical, ..*rule },
    });
    named.collect()
}

/// The encoder's positions: sines, then cosines, of frequencies that fall geometrically from 1 to 1/10000 (openai/whisper,
/// `sinusoids`).
fn sinusoids(config: &WhisperConfig) -> Result<TensorView, CoreError> {
    let (rows, half) = (config.max_source_positions, config.d_model / 2);
    let step = 10_000f64.ln() / (half.saturating_sub(1).max(1)) as f64;
    let mut bytes = Vec::with_capacity(rows * config.d_model * 4);
    for row in 0..rows {
        let angles = (0..half).map(|i| row as f64 * (-step * i as f64).exp());
        let values = angles.clone().map(f64::sin).chain(angles.map(f64::cos)).chain(std::iter::repeat(0.0));
        bytes.extend(values.take(config.d_model).flat_map(|x| (x as f32).to_le_bytes()));
    }
    let shape = vec![rows, config.d_model];
    Ok(TensorView::new(ENCODER_POSITIONS.into(), DType::F32, shape, Bytes::copy_from(&bytes))?)
}
