//! The sizes that every decoder's config has, whichever form it comes in.

use rlx_weights::Checkpoint;

use crate::{CoreError, HfConfig};

/// Sizes of a decoder; fields are named as in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecoderSizes {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Epsilon of all norms.
    pub rms_norm_eps: f32,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Whether `lm_head` is `embed_tokens`.
    pub tie_word_embeddings: bool,
}

impl DecoderSizes {
    /// Reads `config.json`. Absent `head_dim` is `hidden_size / num_attention_heads`, absent `num_key_value_heads` is
    /// `num_attention_heads`, and word embeddings are not tied unless it says so.
    ///
    /// # Errors
    /// If a field is missing or of the wrong type.
    pub fn from_hf(config: &HfConfig<'_>) -> Result<DecoderSizes, CoreError> {
        let hidden_size = config.require_usize("hidden_size")?;
        let num_attention_heads = config.require_usize("num_attention_heads")?;
        let derived = hidden_size.checked_div(num_attention_heads).unwrap_or(0);
        Ok(DecoderSizes {
            vocab_size: config.require_usize("vocab_size")?,
            hidden_size,
            intermediate_size: config.require_usize("intermediate_size")?,
            num_hidden_layers: config.require_usize("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: config.usize("num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: config.usize("head_dim")?.unwrap_or(derived),
            rms_norm_eps: config.f64("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            max_position_embeddings: config.usize("max_position_embeddings")?.unwrap_or(2048),
            tie_word_embeddings: config.bool("tie_word_embeddings")?.unwrap_or(false),
        })
    }

    /// Reads the metadata of a GGUF file, with per-layer widths and head counts as one number each. The vocabulary is seen
    /// from the embedding table, tying from the absence of `output.weight`.
    ///
    /// # Errors
    /// If a key is missing or of the wrong type, or keys and values differ in width.
    pub fn from_gguf(checkpoint: &Checkpoint) -> Result<DecoderSizes, CoreError> {
        let metadata = checkpoint.gguf().ok_or_else(|| CoreError::Config("not a GGUF file".into()))?;
        let key = |suffix: &str| metadata.arch_key(suffix);
        let size = |suffix: &str| -> Result<usize, CoreError> { Ok(metadata.require_u32(&key(suffix))? as usize) };
        let optional = |suffix: &str| metadata.get_u32(&key(suffix)).map(|n| n as usize);
        let hidden_size = size("embedding_length")?;
        let num_attention_heads = size("attention.head_count")?;
        let derived = hidden_size.checked_div(num_attention_heads).unwrap_or(0);
        let head_dim = optional("attention.key_length").unwrap_or(derived);
        if let Some(width) = optional("attention.value_length").filter(|&width| width != head_dim) {
            return Err(CoreError::Config(format!("heads have keys of {head_dim} and values of {width} elements")));
        }
        let embeddings = checkpoint.tensor("token_embd.weight").and_then(|tensor| tensor.shape.first().copied());
        Ok(DecoderSizes {
            vocab_size: match embeddings {
                Some(rows) => rows,
                None => size("vocab_size")?,
            },
            hidden_size,
            intermediate_size: size("feed_forward_length")?,
            // The count includes the layers of multi-token-prediction heads.
            num_hidden_layers: size("block_count")?.saturating_sub(optional("nextn_predict_layers").unwrap_or(0)),
            num_attention_heads,
            num_key_value_heads: optional("attention.head_count_kv").unwrap_or(num_attention_heads),
            head_dim,
            rms_norm_eps: metadata.require_f32(&key("attention.layer_norm_rms_epsilon"))?,
            max_position_embeddings: size("context_length")?,
            tie_word_embeddings: checkpoint.tensor("output.weight").is_none(),
        })
    }

    /// Checks that sizes are in range and fit together.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self) -> Result<(), CoreError> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 24),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 14),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 14),
            ("head_dim", self.head_dim, 1 << 14),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 30),
        ];
        sizes.into_iter().try_for_each(|(name, value, max)| in_range(name, value, max))?;
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(CoreError::Config(format!(
                "num_attention_heads = {} is no multiple of num_key_value_heads = {}",
                self.num_attention_heads, self.num_key_value_heads
            )));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(CoreError::Config(format!("rms_norm_eps = {} is not a small number", self.rms_norm_eps)));
        }
        Ok(())
    }
}

/// Checks that the config's field `name` lies in `1..=max`.
///
/// # Errors
/// If it does not.
pub fn in_range(name: &str, value: usize, max: usize) -> Result<(), CoreError> {
    if value == 0 || value > max {
        return Err(CoreError::Config(format!("{name} = {value} is not between 1 and {max}")));
    }
    Ok(())
}

/// Which layers have a sliding window, as `layer_types` of `config.json` says; none if it does not say.
///
/// # Errors
/// If there are more or fewer types than `layers`, or one is neither `sliding_attention` nor `full_attention`.
pub fn sliding_layers(config: &HfConfig<'_>, layers: usize) -> Result<Option<Vec<bool>>, CoreError> {
    let Some(value) = config.get("layer_types") else { return Ok(None) };
    let types = value.as_array().map_or(&[][..], Vec::as_slice);
    if types.len() != layers {
        return Err(CoreError::Config(format!("layer_types names {} layers of {layers}", types.len())));
    }
    let sliding = types.iter().map(|kind| match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(CoreError::Config(format!("layer type {kind} is not supported (full_attention, sliding_attention)"))),
    });
    sliding.collect::<Result<_, _>>().map(Some)
}
