//! Sizes and switches of a NomicBERT, from `config.json` or GGUF metadata.

use rlx_core::encoder::EncoderSizes;
use rlx_core::{CoreError, GgufHeader, HfConfig, in_range, rope_from_gguf, rope_from_hf};
use rlx_flow::{RopeScaling, RopeSpec};
use rlx_weights::Checkpoint;
use serde_json::Value;

/// A NomicBERT's config; fields are named as transformers has them.
#[derive(Clone, Debug, PartialEq)]
pub struct NomicBertConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of a token's vector.
    pub hidden_size: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Epsilon of all norms.
    pub layer_norm_eps: f32,
    /// Longest text.
    pub max_position_embeddings: usize,
    /// Kinds of texts; 0 if the model knows none.
    pub type_vocab_size: usize,
    /// Rotary positions.
    pub rope: RopeSpec,
    /// Biases on the attention's two linears.
    pub qkv_proj_bias: bool,
    /// Biases on the feed-forward's first linears.
    pub mlp_fc1_bias: bool,
    /// Bias on the feed-forward's last linear.
    pub mlp_fc2_bias: bool,
}

impl NomicBertConfig {
    /// The config of a checkpoint, in whichever form it has one.
    ///
    /// # Errors
    /// If it has none, or a field is missing or out of range.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<NomicBertConfig, CoreError> {
        let config = if checkpoint.gguf().is_some() {
            NomicBertConfig::from_gguf(checkpoint)?
        } else {
            let json = checkpoint.config().ok_or_else(|| CoreError::Config("there is no config.json".into()))?;
            NomicBertConfig::from_hf(json)?
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads `config.json`, in the spelling of published checkpoints (`n_embd`) or of transformers (`hidden_size`).
    ///
    /// # Errors
    /// If a field is missing, of the wrong type, or says that this is another model.
    pub fn from_hf(json: &Value) -> Result<NomicBertConfig, CoreError> {
        let config = HfConfig::new(json);
        let size = |name: &str, published: &str| -> Result<usize, CoreError> {
            match config.usize(published)? {
                Some(size) => Ok(size),
                None => config.require_usize(name),
            }
        };
        refuse_others(&config)?;
        let hidden_size = size("hidden_size", "n_embd")?;
        let num_attention_heads = size("num_attention_heads", "n_head")?;
        let head_dim = config.usize("head_dim")?.or(hidden_size.checked_div(num_attention_heads)).unwrap_or(0);
        let rope = match config.f64("rotary_emb_base")? {
            Some(theta) => RopeSpec::new(theta, rotary_dim(head_dim)?, &RopeScaling::None)?,
            None => rope_from_hf(&config, rotary_dim(head_dim)?)?,
        };
        let eps = config.f64("layer_norm_epsilon")?.or(config.f64("layer_norm_eps")?).unwrap_or(1e-12);
        Ok(NomicBertConfig {
            vocab_size: config.require_usize("vocab_size")?,
            hidden_size,
            intermediate_size: size("intermediate_size", "n_inner")?,
            num_hidden_layers: size("num_hidden_layers", "n_layer")?,
            num_attention_heads,
            head_dim,
            layer_norm_eps: eps as f32,
            max_position_embeddings: size("max_position_embeddings", "n_positions")?,
            type_vocab_size: config.usize("type_vocab_size")?.unwrap_or(2),
            rope,
            qkv_proj_bias: config.bool("qkv_proj_bias")?.unwrap_or(false),
            mlp_fc1_bias: config.bool("mlp_fc1_bias")?.unwrap_or(false),
            mlp_fc2_bias: config.bool("mlp_fc2_bias")?.unwrap_or(false),
        })
    }

    /// Reads the metadata of a GGUF file of architecture `nomic-bert`. Sizes of tables and biases are seen from its tensors.
    ///
    /// # Errors
    /// If a key is missing or of the wrong type.
    pub fn from_gguf(checkpoint: &Checkpoint) -> Result<NomicBertConfig, CoreError> {
        let metadata = checkpoint.gguf().ok_or_else(|| CoreError::Config("not a GGUF file".into()))?;
        let key = |suffix: &str| metadata.arch_key(suffix);
        let size = |suffix: &str| -> Result<usize, CoreError> { Ok(metadata.require_u32(&key(suffix))? as usize) };
        let rows = |name: &str| checkpoint.tensor(name).and_then(|tensor| tensor.shape.first().copied());
        let vocab_size = match rows("token_embd.weight") {
            Some(rows) => rows,
            None => size("vocab_size")?,
        };
        let hidden_size = size("embedding_length")?;
        let num_attention_heads = size("attention.head_count")?;
        let head_dim = hidden_size.checked_div(num_attention_heads).unwrap_or(0);
        Ok(NomicBertConfig {
            vocab_size,
            hidden_size,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: size("block_count")?,
            num_attention_heads,
            head_dim,
            layer_norm_eps: metadata.require_f32(&key("attention.layer_norm_epsilon"))?,
            max_position_embeddings: size("context_length")?,
            type_vocab_size: rows("token_types.weight").unwrap_or(0),
            rope: rope_from_gguf(checkpoint, rotary_dim(head_dim)?)?,
            qkv_proj_bias: rows("blk.0.attn_qkv.bias").is_some(),
            mlp_fc1_bias: rows("blk.0.ffn_up.bias").is_some(),
            mlp_fc2_bias: rows("blk.0.ffn_down.bias").is_some(),
        })
    }

    /// What a GGUF file of the model says of it: the counterpart of [`NomicBertConfig::from_gguf`].
    ///
    /// # Errors
    /// If the format has no words for it.
    pub fn to_gguf(&self) -> Result<GgufHeader, CoreError> {
        let mut header = GgufHeader::new("nomic-bert");
        header.set_encoder_sizes(&self.sizes())?;
        header.set_rope(&self.rope)?;
        header.set_size("attention.key_length", self.head_dim)?;
        header.set_size("attention.value_length", self.head_dim)?;
        Ok(header)
    }

    /// Checks that sizes are in range and fit together.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self) -> Result<(), CoreError> {
        self.sizes().validate()?;
        if self.head_dim.checked_mul(self.num_attention_heads) != Some(self.hidden_size) {
            return Err(CoreError::Config(format!(
                "head_dim = {} times num_attention_heads = {} is not hidden_size = {}",
                self.head_dim, self.num_attention_heads, self.hidden_size
            )));
        }
        Ok(())
    }

    fn sizes(&self) -> EncoderSizes {
        EncoderSizes {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            layer_norm_eps: self.layer_norm_eps,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size,
        }
    }
}

/// Turned elements of a head: an even number of them.
fn rotary_dim(head_dim: usize) -> Result<usize, CoreError> {
    in_range("head_dim", head_dim, 1 << 14)?;
    if !head_dim.is_multiple_of(2) {
        return Err(CoreError::Config(format!("head_dim = {head_dim} is odd: RoPE turns pairs")));
    }
    Ok(head_dim)
}

/// Switches of the published class that no published embedding model turns.
fn refuse_others(config: &HfConfig<'_>) -> Result<(), CoreError> {
    for name in ["prenorm", "use_rms_norm", "parallel_block", "causal", "rotary_emb_interleaved"] {
        if config.bool(name)? == Some(true) {
            return Err(CoreError::Config(format!("{name} = true is not supported in a NomicBERT")));
        }
    }
    for name in ["rotary_scaling_factor", "rotary_emb_scale_base"] {
        if let Some(value) = config.get(name) {
            return Err(CoreError::Config(format!("{name} = {value} is not supported (null): texts are cut instead")));
        }
    }
    if let Some(fraction) = config.f64("rotary_emb_fraction")?.filter(|fraction| *fraction != 1.0) {
        return Err(CoreError::Config(format!("rotary_emb_fraction = {fraction} is not supported (1.0)")));
    }
    let activation = config.str("activation_function")?.or(config.str("hidden_act")?);
    match activation {
        None | Some("swiglu" | "silu") => Ok(()),
        Some(other) => Err(CoreError::Config(format!("activation `{other}` is not supported (swiglu, silu)"))),
    }
}
