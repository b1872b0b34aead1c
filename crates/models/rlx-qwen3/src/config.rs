//! Sizes and switches of a Qwen model, from `config.json` or GGUF metadata.

use rlx_core::{CoreError, DecoderSizes, GgufHeader, HfConfig, in_range, rope_from_gguf, rope_from_hf, sliding_layers};
use rlx_flow::{RopeScaling, RopeSpec};
use rlx_weights::Checkpoint;

/// A Qwen model's config; fields are named as in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen3Config {
    /// Sizes.
    pub sizes: DecoderSizes,
    /// Rotary positions.
    pub rope: RopeSpec,
    /// Norms of each query and key head: Qwen3.
    pub qk_norm: bool,
    /// Biases on q, k and v: Qwen2.
    pub qkv_bias: bool,
    /// Bias on o.
    pub o_bias: bool,
    /// The sliding window of each layer; none sees everything.
    pub windows: Vec<Option<usize>>,
    /// Mixture of experts, in some or all layers.
    pub moe: Option<Qwen3Moe>,
}

/// The mixture of experts of a Qwen3 MoE.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen3Moe {
    /// Experts of a layer.
    pub num_experts: usize,
    /// Experts a token takes.
    pub num_experts_per_tok: usize,
    /// Width of an expert.
    pub moe_intermediate_size: usize,
    /// Whether a token's weights are made to sum to one.
    pub norm_topk_prob: bool,
    /// Which layers have it; the others are dense.
    pub sparse: Vec<bool>,
}

/// Experts of all layers; more is no model but an attack on memory.
const MAX_EXPERTS: usize = 1 << 17;

impl Qwen3Config {
    /// The config of a checkpoint, in whichever form it has one.
    ///
    /// # Errors
    /// If it has none, or a field is missing or out of range.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Qwen3Config, CoreError> {
        let config = if checkpoint.gguf().is_some() {
            Qwen3Config::from_gguf(checkpoint)?
        } else {
            let json = checkpoint.config().ok_or_else(|| CoreError::Config("there is no config.json".into()))?;
            Qwen3Config::from_hf(json)?
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads `config.json`, in the spelling of published checkpoints or of transformers 5.
    ///
    /// # Errors
    /// If a field is missing, of the wrong type or out of range.
    pub fn from_hf(json: &serde_json::Value) -> Result<Qwen3Config, CoreError> {
        let config = HfConfig::new(json);
        if let Some(act) = config.str("hidden_act")?.filter(|&act| act != "silu") {
            return Err(CoreError::Config(format!("hidden_act `{act}` is not a Qwen's (silu)")));
        }
        let sizes = DecoderSizes::from_hf(&config)?;
        sizes.validate()?;
        let qwen2 = config.str("model_type")?.is_some_and(|kind| kind.starts_with("qwen2"));
        let attention_bias = !qwen2 && config.bool("attention_bias")?.unwrap_or(false);
        Ok(Qwen3Config {
            rope: rope_from_hf(&config, sizes.head_dim)?,
            qk_norm: !qwen2,
            qkv_bias: qwen2 || attention_bias,
            o_bias: attention_bias,
            windows: windows_from_hf(&config, sizes.num_hidden_layers)?,
            moe: moe_from_hf(&config, sizes.num_hidden_layers)?,
            sizes,
        })
    }

    /// Reads the metadata of a GGUF file of architecture `qwen2`, `qwen3` or `qwen3moe`. Norms and biases are seen from its tensors.
    ///
    /// # Errors
    /// If a key is missing, of the wrong type or out of range.
    pub fn from_gguf(checkpoint: &Checkpoint) -> Result<Qwen3Config, CoreError> {
        let sizes = DecoderSizes::from_gguf(checkpoint)?;
        sizes.validate()?;
        let has = |name: &str| checkpoint.tensor(name).is_some();
        Ok(Qwen3Config {
            rope: rope_from_gguf(checkpoint, sizes.head_dim)?,
            // Qwen3's norms are required: a file without them is damaged, not a Qwen2.
            qk_norm: checkpoint.architecture().is_some_and(|name| name.starts_with("qwen3")),
            qkv_bias: has("blk.0.attn_q.bias"),
            o_bias: has("blk.0.attn_output.bias"),
            windows: vec![None; sizes.num_hidden_layers],
            moe: moe_from_gguf(checkpoint, sizes.num_hidden_layers)?,
            sizes,
        })
    }

    /// What a GGUF file of the model says of it: the counterpart of [`Qwen3Config::from_gguf`].
    ///
    /// # Errors
    /// If the format has no words for it: sliding windows, and experts' weights that do not sum to one.
    pub fn to_gguf(&self) -> Result<GgufHeader, CoreError> {
        let mut header = GgufHeader::new(match (&self.moe, self.qk_norm) {
            (Some(_), _) => "qwen3moe",
            (None, true) => "qwen3",
            (None, false) => "qwen2",
        });
        if self.windows.iter().any(Option::is_some) {
            return Err(CoreError::Config(
                "GGUF files of Qwen models cannot say that layers have sliding windows".into(),
            ));
        }
        header.set_decoder_sizes(&self.sizes)?;
        header.set_rope(&self.rope)?;
        if let Some(moe) = &self.moe {
            if !moe.norm_topk_prob {
                return Err(CoreError::Config(
                    "GGUF files of Qwen models cannot say that experts' weights do not sum to one (norm_topk_prob: false)"
                        .into(),
                ));
            }
            header.set_size("expert_count", moe.num_experts)?;
            header.set_size("expert_used_count", moe.num_experts_per_tok)?;
            header.set_size("expert_feed_forward_length", moe.moe_intermediate_size)?;
            if !moe.sparse.iter().all(|&sparse| sparse) {
                header.notes.push("some layers have no experts: llama.cpp does not read such files".into());
            }
        }
        Ok(header)
    }

    /// Checks that sizes are in range and fit together.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self) -> Result<(), CoreError> {
        self.sizes.validate()?;
        if self.windows.len() != self.sizes.num_hidden_layers {
            let (found, layers) = (self.windows.len(), self.sizes.num_hidden_layers);
            return Err(CoreError::Config(format!("{found} sliding windows for {layers} layers")));
        }
        if self.windows.contains(&Some(0)) {
            return Err(CoreError::Config("a sliding window of 0 tokens".into()));
        }
        if let Some(moe) = &self.moe {
            moe.validate(self.sizes.num_hidden_layers)?;
        }
        if self.rope.inv_freq.len() * 2 > self.sizes.head_dim {
            return Err(CoreError::Config(format!("RoPE turns more than a head of {}", self.sizes.head_dim)));
        }
        Ok(())
    }

    /// A Qwen3 small enough for tests.
    ///
    /// # Errors
    /// Never for these sizes.
    pub fn tiny() -> Result<Qwen3Config, CoreError> {
        Ok(Qwen3Config {
            sizes: DecoderSizes {
                vocab_size: 71,
                hidden_size: 40,
                intermediate_size: 84,
                num_hidden_layers: 3,
                num_attention_heads: 6,
                num_key_value_heads: 3,
                head_dim: 12,
                rms_norm_eps: 1e-6,
                max_position_embeddings: 256,
                tie_word_embeddings: true,
            },
            rope: RopeSpec::new(1e6, 12, &RopeScaling::None)?,
            qk_norm: true,
            qkv_bias: false,
            o_bias: false,
            windows: vec![None; 3],
            moe: None,
        })
    }
}

impl Qwen3Moe {
    fn validate(&self, layers: usize) -> Result<(), CoreError> {
        in_range("num_experts", self.num_experts, MAX_EXPERTS / layers)?;
        in_range("num_experts_per_tok", self.num_experts_per_tok, self.num_experts)?;
        in_range("moe_intermediate_size", self.moe_intermediate_size, 1 << 24)?;
        if self.sparse.len() != layers {
            return Err(CoreError::Config(format!("{} of {layers} layers are sparse or dense", self.sparse.len())));
        }
        Ok(())
    }
}

fn moe_from_hf(config: &HfConfig<'_>, layers: usize) -> Result<Option<Qwen3Moe>, CoreError> {
    if config.str("model_type")? != Some("qwen3_moe") {
        return Ok(None);
    }
    let num_experts = match config.usize("num_experts")? {
        Some(experts) => experts,
        None => config.require_usize("num_local_experts")?,
    };
    let step = config.usize("decoder_sparse_step")?.unwrap_or(1);
    let dense: Vec<u64> = match config.get("mlp_only_layers").and_then(|value| value.as_array()) {
        Some(layers) => layers.iter().filter_map(|layer| layer.as_u64()).collect(),
        None => vec![],
    };
    let sparse =
        |layer: usize| num_experts > 0 && (layer + 1).checked_rem(step) == Some(0) && !dense.contains(&(layer as u64));
    Ok(Some(Qwen3Moe {
        num_experts,
        num_experts_per_tok: config.usize("num_experts_per_tok")?.unwrap_or(8),
        moe_intermediate_size: config.require_usize("moe_intermediate_size")?,
        norm_topk_prob: config.bool("norm_topk_prob")?.unwrap_or(false),
        sparse: (0..layers).map(sparse).collect(),
    }))
}

fn moe_from_gguf(checkpoint: &Checkpoint, layers: usize) -> Result<Option<Qwen3Moe>, CoreError> {
    let Some(metadata) = checkpoint.gguf().filter(|_| checkpoint.architecture() == Some("qwen3moe")) else {
        return Ok(None);
    };
    let size =
        |suffix: &str| -> Result<usize, CoreError> { Ok(metadata.require_u32(&metadata.arch_key(suffix))? as usize) };
    Ok(Some(Qwen3Moe {
        num_experts: size("expert_count")?,
        num_experts_per_tok: size("expert_used_count")?,
        moe_intermediate_size: size("expert_feed_forward_length")?,
        // Files do not say; every published model does.
        norm_topk_prob: true,
        sparse: (0..layers).map(|i| checkpoint.tensor(&format!("blk.{i}.ffn_gate_inp.weight")).is_some()).collect(),
    }))
}

/// The window of each layer: named per layer by transformers 5, or from `max_window_layers` on.
fn windows_from_hf(config: &HfConfig<'_>, layers: usize) -> Result<Vec<Option<usize>>, CoreError> {
    let used = config.bool("use_sliding_window")?.unwrap_or(false);
    let Some(window) = config.usize("sliding_window")?.filter(|_| used) else {
        return Ok(vec![None; layers]);
    };
    if let Some(sliding) = sliding_layers(config, layers)? {
        return Ok(sliding.into_iter().map(|sliding| sliding.then_some(window)).collect());
    }
    let first = config.usize("max_window_layers")?.unwrap_or(28);
    Ok((0..layers).map(|layer| (layer >= first).then_some(window)).collect())
}
