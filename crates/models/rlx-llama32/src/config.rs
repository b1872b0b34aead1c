//! Sizes and switches of a Llama model, from `config.json` or GGUF metadata.

use rlx_core::{CoreError, DecoderSizes, GgufHeader, HfConfig, rope_from_gguf, rope_from_hf};
use rlx_flow::{RopeScaling, RopeSpec};
use rlx_weights::Checkpoint;

/// A Llama model's config; fields are named as in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama32Config {
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
    /// Width of a head; `hidden_size / num_attention_heads` unless given.
    pub head_dim: usize,
    /// Epsilon of all norms.
    pub rms_norm_eps: f32,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Rotary positions.
    pub rope: RopeSpec,
    /// Biases on q, k, v and o.
    pub attention_bias: bool,
    /// Biases on gate, up and down.
    pub mlp_bias: bool,
    /// Whether `lm_head` is `embed_tokens`.
    pub tie_word_embeddings: bool,
}

impl Llama32Config {
    /// The config of a checkpoint, in whichever form it has one.
    ///
    /// # Errors
    /// If it has none, or a field is missing or out of range.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Llama32Config, CoreError> {
        let config = if checkpoint.gguf().is_some() {
            Llama32Config::from_gguf(checkpoint)?
        } else {
            let json = checkpoint.config().ok_or_else(|| CoreError::Config("there is no config.json".into()))?;
            Llama32Config::from_hf(json)?
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads `config.json`, in the spelling of published checkpoints or of transformers 5.
    ///
    /// # Errors
    /// If a field is missing or of the wrong type.
    pub fn from_hf(json: &serde_json::Value) -> Result<Llama32Config, CoreError> {
        let config = HfConfig::new(json);
        if let Some(act) = config.str("hidden_act")?.filter(|act| !["silu", "swish"].contains(act)) {
            return Err(CoreError::Config(format!("hidden_act `{act}` is not a Llama's (silu)")));
        }
        let hidden_size = config.require_usize("hidden_size")?;
        let num_attention_heads = config.require_usize("num_attention_heads")?;
        let head_dim = match config.usize("head_dim")? {
            Some(head_dim) => head_dim,
            None => derived_head_dim(hidden_size, num_attention_heads)?,
        };
        Ok(Llama32Config {
            vocab_size: config.require_usize("vocab_size")?,
            hidden_size,
            intermediate_size: config.require_usize("intermediate_size")?,
            num_hidden_layers: config.require_usize("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: config.usize("num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim,
            rms_norm_eps: config.f64("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            max_position_embeddings: config.usize("max_position_embeddings")?.unwrap_or(2048),
            rope: rope_from_hf(&config, head_dim)?,
            attention_bias: config.bool("attention_bias")?.unwrap_or(false),
            mlp_bias: config.bool("mlp_bias")?.unwrap_or(false),
            tie_word_embeddings: config.bool("tie_word_embeddings")?.unwrap_or(false),
        })
    }

    /// Reads the metadata of a GGUF file of architecture `llama`. Biases and tying are seen from its tensors.
    ///
    /// # Errors
    /// If a key is missing or of the wrong type.
    pub fn from_gguf(checkpoint: &Checkpoint) -> Result<Llama32Config, CoreError> {
        let metadata = checkpoint.gguf().ok_or_else(|| CoreError::Config("not a GGUF file".into()))?;
        let key = |suffix: &str| metadata.arch_key(suffix);
        let size = |suffix: &str| -> Result<usize, CoreError> { Ok(metadata.require_u32(&key(suffix))? as usize) };
        let optional = |suffix: &str| metadata.get_u32(&key(suffix)).map(|n| n as usize);
        if optional("expert_count").is_some_and(|experts| experts > 0) {
            return Err(CoreError::Config("mixture-of-experts files of architecture llama are not supported".into()));
        }
        let hidden_size = size("embedding_length")?;
        let num_attention_heads = size("attention.head_count")?;
        let head_dim = match optional("attention.key_length") {
            Some(head_dim) => head_dim,
            None => derived_head_dim(hidden_size, num_attention_heads)?,
        };
        if optional("attention.value_length").is_some_and(|width| width != head_dim) {
            return Err(CoreError::Config("keys and values of different widths are not a Llama's".into()));
        }
        let rotary_dim = optional("rope.dimension_count").unwrap_or(head_dim);
        let embeddings = checkpoint.tensor("token_embd.weight").and_then(|tensor| tensor.shape.first().copied());
        let vocab_size = match embeddings {
            Some(rows) => rows,
            None => size("vocab_size")?,
        };
        Ok(Llama32Config {
            vocab_size,
            hidden_size,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: size("block_count")?,
            num_attention_heads,
            num_key_value_heads: optional("attention.head_count_kv").unwrap_or(num_attention_heads),
            head_dim,
            rms_norm_eps: metadata.require_f32(&key("attention.layer_norm_rms_epsilon"))?,
            max_position_embeddings: size("context_length")?,
            rope: rope_from_gguf(checkpoint, rotary_dim)?,
            attention_bias: checkpoint.tensor("blk.0.attn_q.bias").is_some(),
            mlp_bias: checkpoint.tensor("blk.0.ffn_up.bias").is_some(),
            tie_word_embeddings: checkpoint.tensor("output.weight").is_none(),
        })
    }

    /// What a GGUF file of the model says of it: the counterpart of [`Llama32Config::from_gguf`].
    ///
    /// # Errors
    /// If the format has no words for it.
    pub fn to_gguf(&self) -> Result<GgufHeader, CoreError> {
        let mut header = GgufHeader::new("llama");
        header.set_decoder_sizes(&DecoderSizes {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            rms_norm_eps: self.rms_norm_eps,
            max_position_embeddings: self.max_position_embeddings,
            tie_word_embeddings: self.tie_word_embeddings,
        })?;
        header.set_size("rope.dimension_count", 2 * self.rope.inv_freq.len())?;
        header.set_rope(&self.rope)?;
        Ok(header)
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
        for (name, value, max) in sizes {
            if value == 0 || value > max {
                return Err(CoreError::Config(format!("{name} = {value} is not between 1 and {max}")));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(CoreError::Config(format!(
                "num_attention_heads = {} is no multiple of num_key_value_heads = {}",
                self.num_attention_heads, self.num_key_value_heads
            )));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(CoreError::Config(format!("rms_norm_eps = {} is not a small number", self.rms_norm_eps)));
        }
        if self.rope.inv_freq.len() * 2 > self.head_dim {
            return Err(CoreError::Config(format!("RoPE turns more than a head of {}", self.head_dim)));
        }
        Ok(())
    }

    /// A model small enough for tests.
    ///
    /// # Errors
    /// Never for these sizes.
    pub fn tiny() -> Result<Llama32Config, CoreError> {
        Ok(Llama32Config {
            vocab_size: 67,
            hidden_size: 48,
            intermediate_size: 80,
            num_hidden_layers: 2,
            num_attention_heads: 6,
            num_key_value_heads: 2,
            head_dim: 16,
            rms_norm_eps: 1e-5,
            max_position_embeddings: 256,
            rope: RopeSpec::new(10_000.0, 16, &RopeScaling::None)?,
            attention_bias: true,
            mlp_bias: true,
            tie_word_embeddings: false,
        })
    }
}

/// The width of a head where the config does not say it.
fn derived_head_dim(hidden_size: usize, heads: usize) -> Result<usize, CoreError> {
    let none = || CoreError::Config("num_attention_heads = 0 is not between 1 and 16384".into());
    hidden_size.checked_div(heads).ok_or_else(none)
}
