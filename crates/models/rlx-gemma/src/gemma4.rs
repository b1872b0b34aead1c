//! Gemma 4: sizes and switches of every layer, from `config.json` or GGUF metadata.

use rlx_core::{
    CoreError, DecoderSizes, GgufHeader, HfConfig, in_range, rope_from_gguf, rope_of_layer_type, sliding_layers,
};
use rlx_flow::{RopeScaling, RopeSpec};
use rlx_weights::gguf::{GgufArray, GgufValue};
use rlx_weights::{Checkpoint, GgufMetadata};
use serde_json::Value;

use crate::config::sliding_by_pattern;

/// Experts of all layers; more is no model but an attack on memory.
const MAX_EXPERTS: usize = 1 << 17;

/// A Gemma 4 model's config; fields are named as in `config.json`. Sizes of layers differ: those of [`Gemma4Config::sizes`] are
/// the ones of layers with a sliding window.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemma4Config {
    /// Sizes of the model, and of layers with a window.
    pub sizes: DecoderSizes,
    /// Each layer.
    pub layers: Vec<Gemma4Layer>,
    /// Tokens that a layer with a window sees.
    pub sliding_window: usize,
    /// Soft cap on logits.
    pub final_logit_softcapping: Option<f32>,
    /// Biases on q, k, v and o.
    pub attention_bias: bool,
    /// Width of what each layer adds of a token by itself; 0 for none.
    pub hidden_size_per_layer_input: usize,
    /// Entries of the table it is looked up in.
    pub vocab_size_per_layer_input: usize,
    /// Mixture of experts beside every feed-forward.
    pub moe: Option<Gemma4Moe>,
    /// RoPE of layers that see everything.
    pub rope: RopeSpec,
    /// RoPE of layers with a window.
    pub rope_sliding: RopeSpec,
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemma4Layer {
    /// Whether it has the window.
    pub sliding: bool,
    /// Width of a head.
    pub head_dim: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Whether values are the keys' projection.
    pub attention_k_eq_v: bool,
    /// The layer whose keys and values it sees, instead of its own.
    pub kv_from: Option<usize>,
}

/// The mixture of experts of a Gemma 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemma4Moe {
    /// Experts of a layer.
    pub num_experts: usize,
    /// Experts a token takes.
    pub top_k_experts: usize,
    /// Width of an expert.
    pub moe_intermediate_size: usize,
}

impl Gemma4Config {
    /// The config of a checkpoint, in whichever form it has one.
    ///
    /// # Errors
    /// If it has none, or a field is missing or out of range.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Gemma4Config, CoreError> {
        let config = if checkpoint.gguf().is_some() {
            Gemma4Config::from_gguf(checkpoint)?
        } else {
            let json = checkpoint.config().ok_or_else(|| CoreError::Config("there is no config.json".into()))?;
            Gemma4Config::from_hf(json)?
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads `config.json`, with layers that differ written as published (`global_head_dim`, `num_global_key_value_heads`) or as
    /// by transformers 5 (`per_layer_config`); of a Gemma 4 that sees and hears, the language model's part.
    ///
    /// # Errors
    /// If a field is of the wrong type or out of range.
    pub fn from_hf(json: &Value) -> Result<Gemma4Config, CoreError> {
        let config = HfConfig::new(json);
        let config = config.object("text_config").unwrap_or(config);
        if config.get("use_bidirectional_attention").is_some_and(|value| value == "all") {
            return Err(CoreError::Config(
                "a Gemma with bidirectional attention is an encoder, not a language model".into(),
            ));
        }
        if let Some(act) = config.str("hidden_activation")?.filter(|&act| act != "gelu_pytorch_tanh") {
            return Err(CoreError::Config(format!("hidden_activation `{act}` is not a Gemma's (gelu_pytorch_tanh)")));
        }
        let or = |key: &str, default: usize| -> Result<usize, CoreError> { Ok(config.usize(key)?.unwrap_or(default)) };
        let flag = |key: &str| -> Result<bool, CoreError> { Ok(config.bool(key)?.unwrap_or(false)) };
        let sizes = DecoderSizes {
            vocab_size: or("vocab_size", 262_144)?,
            hidden_size: or("hidden_size", 2304)?,
            intermediate_size: or("intermediate_size", 9216)?,
            num_hidden_layers: or("num_hidden_layers", 30)?,
            num_attention_heads: or("num_attention_heads", 8)?,
            num_key_value_heads: or("num_key_value_heads", 4)?,
            head_dim: or("head_dim", 256)?,
            rms_norm_eps: config.f64("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            max_position_embeddings: or("max_position_embeddings", 131_072)?,
            tie_word_embeddings: config.bool("tie_word_embeddings")?.unwrap_or(true),
        };
        sizes.validate()?;
        let count = sizes.num_hidden_layers;
        let mut sliding = match sliding_layers(&config, count)? {
            Some(sliding) => sliding,
            None => sliding_by_pattern(count, 6)?,
        };
        // The reference makes the last layer see everything, whatever the config says.
        sliding[count - 1] = false;
        let global = (or("global_head_dim", 512)?, config.usize("num_global_key_value_heads")?);
        let k_eq_v = flag("attention_k_eq_v")?;
        let shared = or("num_kv_shared_layers", 0)?;
        let first_shared = count.saturating_sub(shared);
        let double = flag("use_double_wide_mlp")?;
        let mut layers = Vec::with_capacity(count);
        for (index, &sliding) in sliding.iter().enumerate() {
            let mut layer = Gemma4Layer {
                sliding,
                head_dim: sizes.head_dim,
                num_key_value_heads: sizes.num_key_value_heads,
                intermediate_size: sizes.intermediate_size,
                attention_k_eq_v: k_eq_v && !sliding,
                kv_from: None,
            };
            match config.object("per_layer_config") {
                Some(all) => layer.override_by(&all, index)?,
                None if !sliding => {
                    layer.head_dim = global.0;
                    layer.num_key_value_heads = global.1.filter(|_| k_eq_v).unwrap_or(sizes.num_key_value_heads);
                }
                None => {}
            }
            if shared > 0 && index >= first_shared {
                layer.kv_from = Some(shared_layer(&layers, first_shared, sliding)?);
                layer.intermediate_size *= if double { 2 } else { 1 };
            }
            layers.push(layer);
        }
        let moe = if flag("enable_moe_block")? {
            Some(Gemma4Moe {
                num_experts: config.require_usize("num_experts")?,
                top_k_experts: config.require_usize("top_k_experts")?,
                moe_intermediate_size: config.require_usize("moe_intermediate_size")?,
            })
        } else {
            None
        };
        let global_dim = layers.iter().find(|layer| !layer.sliding).map_or(sizes.head_dim, |layer| layer.head_dim);
        Ok(Gemma4Config {
            layers,
            sliding_window: or("sliding_window", 512)?,
            final_logit_softcapping: config.f64("final_logit_softcapping")?.map(|cap| cap as f32),
            attention_bias: flag("attention_bias")?,
            hidden_size_per_layer_input: if config.has("hidden_size_per_layer_input") {
                or("hidden_size_per_layer_input", 0)?
            } else {
                256
            },
            vocab_size_per_layer_input: or("vocab_size_per_layer_input", 262_144)?,
            moe,
            rope: global_rope(&config, global_dim)?,
            rope_sliding: rope_of_layer_type(&config, "sliding_attention", 1e4, sizes.head_dim)?,
            sizes,
        })
    }

    /// Reads the metadata of a GGUF file of architecture `gemma4`.
    ///
    /// # Errors
    /// If a key is missing, of the wrong type or out of range.
    pub fn from_gguf(checkpoint: &Checkpoint) -> Result<Gemma4Config, CoreError> {
        let metadata = checkpoint.gguf().ok_or_else(|| CoreError::Config("not a GGUF file".into()))?;
        let key = |suffix: &str| metadata.arch_key(suffix);
        let size = |suffix: &str| -> Result<usize, CoreError> { Ok(metadata.require_u32(&key(suffix))? as usize) };
        let optional = |suffix: &str| metadata.get_u32(&key(suffix)).map(|n| n as usize);
        let count = size("block_count")?;
        in_range("block_count", count, 1 << 12)?;
        let per_layer = |suffix: &str| metadata.require_u32_per_layer(&key(suffix), count);
        let (inner, kv_heads) = (per_layer("feed_forward_length")?, per_layer("attention.head_count_kv")?);
        let sliding = sliding_from_gguf(metadata, count)?;
        let global_dim = size("attention.key_length")?;
        let local_dim = optional("attention.key_length_swa").unwrap_or(global_dim);
        let shared = optional("attention.shared_kv_layers").unwrap_or(0);
        let first_shared = count.saturating_sub(shared);
        let has = |name: &str| checkpoint.tensor(name).is_some();
        let mut layers = Vec::with_capacity(count);
        for (index, &sliding) in sliding.iter().enumerate() {
            let is_shared = shared > 0 && index >= first_shared;
            layers.push(Gemma4Layer {
                sliding,
                head_dim: if sliding { local_dim } else { global_dim },
                num_key_value_heads: kv_heads[index] as usize,
                intermediate_size: inner[index] as usize,
                attention_k_eq_v: !is_shared && !has(&format!("blk.{index}.attn_v.weight")),
                kv_from: if is_shared { Some(shared_layer(&layers, first_shared, sliding)?) } else { None },
            });
        }
        let moe = match optional("expert_count").filter(|&experts| experts > 0) {
            Some(num_experts) => Some(Gemma4Moe {
                num_experts,
                top_k_experts: size("expert_used_count")?,
                moe_intermediate_size: size("expert_feed_forward_length")?,
            }),
            None => None,
        };
        let rows = |name: &str| checkpoint.tensor(name).and_then(|tensor| tensor.shape.first().copied());
        let vocab_size = match rows("token_embd.weight") {
            Some(rows) => rows,
            None => size("vocab_size")?,
        };
        let theta = metadata.get_f64(&key("rope.freq_base_swa")).unwrap_or(1e4);
        Ok(Gemma4Config {
            sizes: DecoderSizes {
                vocab_size,
                hidden_size: size("embedding_length")?,
                intermediate_size: inner[0] as usize,
                num_hidden_layers: count,
                num_attention_heads: size("attention.head_count")?,
                num_key_value_heads: kv_heads[0] as usize,
                head_dim: local_dim,
                rms_norm_eps: metadata.require_f32(&key("attention.layer_norm_rms_epsilon"))?,
                max_position_embeddings: size("context_length")?,
                tie_word_embeddings: !has("output.weight"),
            },
            layers,
            sliding_window: optional("attention.sliding_window").unwrap_or(512),
            final_logit_softcapping: metadata.get_f64(&key("final_logit_softcapping")).map(|cap| cap as f32),
            attention_bias: has("blk.0.attn_q.bias"),
            hidden_size_per_layer_input: optional("embedding_length_per_layer_input").unwrap_or(0),
            vocab_size_per_layer_input: rows("per_layer_token_embd.weight").unwrap_or(vocab_size),
            moe,
            rope: rope_from_gguf(checkpoint, global_dim)?,
            rope_sliding: RopeSpec::new(theta, local_dim, &RopeScaling::None)?,
        })
    }

    /// What a GGUF file of the model says of it: the counterpart of [`Gemma4Config::from_gguf`].
    ///
    /// # Errors
    /// If the format has no words for it: layers of one type with heads of different widths, scaled RoPE in layers with a
    /// window.
    pub fn to_gguf(&self) -> Result<GgufHeader, CoreError> {
        let width = |sliding: bool| -> Result<usize, CoreError> {
            let mut widths = self.layers.iter().filter(|layer| layer.sliding == sliding).map(|layer| layer.head_dim);
            let first = widths.next().unwrap_or(self.sizes.head_dim);
            if widths.any(|width| width != first) {
                return Err(CoreError::Config("GGUF files have one width of heads for each type of layer".into()));
            }
            Ok(first)
        };
        let (global_dim, local_dim) = (width(false)?, width(true)?);
        if self.rope_sliding.scaling != RopeScaling::None {
            return Err(CoreError::Config(
                "GGUF files of Gemma 4 cannot say that RoPE is scaled in layers with a sliding window".into(),
            ));
        }
        let of_layers = |size: fn(&Gemma4Layer) -> usize| self.layers.iter().map(size).collect::<Vec<_>>();
        let mut header = GgufHeader::new("gemma4");
        header.set_decoder_sizes(&self.sizes)?;
        header.set_sizes("feed_forward_length", &of_layers(|layer| layer.intermediate_size))?;
        header.set_sizes("attention.head_count_kv", &of_layers(|layer| layer.num_key_value_heads))?;
        header.set_rope(&self.rope)?;
        header.set("rope.freq_base_swa", self.rope_sliding.theta as f32);
        for (suffix, dim) in [("", global_dim), ("_swa", local_dim)] {
            header.set_size(&format!("attention.key_length{suffix}"), dim)?;
            header.set_size(&format!("attention.value_length{suffix}"), dim)?;
            header.set_size(&format!("rope.dimension_count{suffix}"), dim)?;
        }
        if let Some(cap) = self.final_logit_softcapping {
            header.set("final_logit_softcapping", cap);
        }
        header.set_size("attention.sliding_window", self.sliding_window)?;
        let sliding = self.layers.iter().map(|layer| layer.sliding).collect();
        header.set("attention.sliding_window_pattern", GgufValue::Array(GgufArray::Bool(sliding)));
        let shared = self.layers.iter().filter(|layer| layer.kv_from.is_some()).count();
        header.set_size("attention.shared_kv_layers", shared)?;
        header.set_size("embedding_length_per_layer_input", self.hidden_size_per_layer_input)?;
        if let Some(moe) = &self.moe {
            header.set_size("expert_count", moe.num_experts)?;
            header.set_size("expert_used_count", moe.top_k_experts)?;
            header.set_size("expert_feed_forward_length", moe.moe_intermediate_size)?;
        }
        Ok(header)
    }

    /// Checks that sizes are in range and fit together.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self) -> Result<(), CoreError> {
        self.sizes.validate()?;
        let count = self.sizes.num_hidden_layers;
        if self.layers.len() != count {
            return Err(CoreError::Config(format!("{} layers described of {count}", self.layers.len())));
        }
        in_range("sliding_window", self.sliding_window, 1 << 30)?;
        for layer in &self.layers {
            let of_layer = DecoderSizes {
                head_dim: layer.head_dim,
                num_key_value_heads: layer.num_key_value_heads,
                intermediate_size: layer.intermediate_size,
                ..self.sizes
            };
            of_layer.validate()?;
            let rope = if layer.sliding { &self.rope_sliding } else { &self.rope };
            if rope.inv_freq.len() * 2 > layer.head_dim {
                return Err(CoreError::Config(format!("RoPE turns more than a head of {}", layer.head_dim)));
            }
        }
        if self.final_logit_softcapping.is_some_and(|cap| !(cap.is_finite() && cap > 0.0)) {
            return Err(CoreError::Config("final_logit_softcapping is not positive".into()));
        }
        if self.hidden_size_per_layer_input > 0 {
            in_range("hidden_size_per_layer_input", self.hidden_size_per_layer_input, 1 << 16)?;
            in_range("vocab_size_per_layer_input", self.vocab_size_per_layer_input, 1 << 24)?;
        }
        if let Some(moe) = &self.moe {
            in_range("num_experts", moe.num_experts, MAX_EXPERTS / count)?;
            in_range("top_k_experts", moe.top_k_experts, moe.num_experts)?;
            in_range("moe_intermediate_size", moe.moe_intermediate_size, 1 << 24)?;
        }
        Ok(())
    }
}

impl Gemma4Layer {
    /// Takes over what `per_layer_config` says of layer `index`.
    fn override_by(&mut self, all: &HfConfig<'_>, index: usize) -> Result<(), CoreError> {
        let Some(own) = all.object(&index.to_string()) else { return Ok(()) };
        self.head_dim = own.usize("head_dim")?.unwrap_or(self.head_dim);
        self.num_key_value_heads = own.usize("num_key_value_heads")?.unwrap_or(self.num_key_value_heads);
        self.intermediate_size = own.usize("intermediate_size")?.unwrap_or(self.intermediate_size);
        Ok(())
    }
}

/// The last of the layers before `first_shared` that is of the same type.
fn shared_layer(layers: &[Gemma4Layer], first_shared: usize, sliding: bool) -> Result<usize, CoreError> {
    let own = &layers[..first_shared.min(layers.len())];
    own.iter().rposition(|layer| layer.sliding == sliding).ok_or_else(|| {
        CoreError::Config("a layer shares keys and values, but no layer of its type before it has any".into())
    })
}

/// Only a share of each head is turned in layers that see everything.
fn global_rope(config: &HfConfig<'_>, head_dim: usize) -> Result<RopeSpec, CoreError> {
    let parameters = config.object("rope_parameters").and_then(|all| all.object("full_attention"));
    let (theta, share, factor) = match parameters {
        Some(parameters) => {
            if parameters.str("rope_type")?.is_some_and(|kind| kind != "proportional") {
                return rope_of_layer_type(config, "full_attention", 1e6, head_dim);
            }
            let number = |key: &str| parameters.f64(key);
            (number("rope_theta")?, number("partial_rotary_factor")?.unwrap_or(1.0), number("factor")?)
        }
        None => (None, 0.25, None),
    };
    if !(0.0..=1.0).contains(&share) {
        return Err(CoreError::Config(format!("partial_rotary_factor = {share} is no share")));
    }
    // As the reference rounds: down, twice.
    let turned = (share * head_dim as f64 / 2.0).floor() as usize;
    Ok(RopeSpec::proportional(theta.unwrap_or(1e6), head_dim, turned, factor.unwrap_or(1.0))?)
}

/// Which layers have the window: one flag per layer, or of every so many the last has not.
fn sliding_from_gguf(metadata: &GgufMetadata, count: usize) -> Result<Vec<bool>, CoreError> {
    let key = metadata.arch_key("attention.sliding_window_pattern");
    if let Some(pattern) = metadata.get_u32(&key) {
        return sliding_by_pattern(count, pattern as usize);
    }
    let Some(flags) = metadata.get_array(&key) else { return sliding_by_pattern(count, 6) };
    match flags {
        GgufArray::Bool(flags) if flags.len() == count => Ok(flags.clone()),
        _ => Err(CoreError::Config(format!("{key} is not one flag for each of {count} layers"))),
    }
}
