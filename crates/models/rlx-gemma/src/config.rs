//! Sizes and switches of a Gemma model, from `config.json`.

use rlx_core::{CoreError, DecoderSizes, HfConfig, rope_from_hf, rope_of_layer_type, sliding_layers};
use rlx_flow::{RopeScaling, RopeSpec};
use rlx_weights::Checkpoint;

/// Which Gemma.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Generation {
    Gemma1,
    Gemma2,
    Gemma3,
}

use Generation::{Gemma1, Gemma2, Gemma3};

/// A Gemma model's config; fields are named as in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct GemmaConfig {
    /// Which Gemma: decides where norms stand.
    pub generation: Generation,
    /// Sizes.
    pub sizes: DecoderSizes,
    /// Attention scores are divided by its square root.
    pub query_pre_attn_scalar: f64,
    /// Soft cap on attention scores.
    pub attn_logit_softcapping: Option<f32>,
    /// Soft cap on logits.
    pub final_logit_softcapping: Option<f32>,
    /// Biases on q, k, v and o.
    pub attention_bias: bool,
    /// Tokens that a layer with a sliding window sees.
    pub sliding_window: usize,
    /// Which layers have the window.
    pub sliding: Vec<bool>,
    /// RoPE of layers that see everything.
    pub rope: RopeSpec,
    /// RoPE of layers with a window.
    pub rope_sliding: RopeSpec,
}

/// What transformers' config classes assume for absent fields; published Gemma 3 configs leave many out.
struct Defaults {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    positions: usize,
    theta: f64,
    softcaps: (Option<f64>, Option<f64>),
}

const HEAD_DIM: usize = 256;
pub(crate) const SLIDING_WINDOW: usize = 4096;

impl Generation {
    /// The generation of a GGUF architecture or Hugging Face model type.
    pub fn of(name: &str) -> Option<Generation> {
        match name {
            "gemma" => Some(Gemma1),
            "gemma2" => Some(Gemma2),
            "gemma3" | "gemma3_text" => Some(Gemma3),
            _ => None,
        }
    }

    /// Of every this many layers the last sees everything, the others a window; 1 for no windows.
    pub(crate) fn sliding_window_pattern(self) -> usize {
        match self {
            Gemma1 => 1,
            Gemma2 => 2,
            Gemma3 => 6,
        }
    }

    fn defaults(self) -> Defaults {
        match self {
            Gemma1 => Defaults {
                vocab_size: 256_000,
                hidden_size: 3072,
                intermediate_size: 24_576,
                layers: 28,
                heads: 16,
                kv_heads: 16,
                positions: 8192,
                theta: 1e4,
                softcaps: (None, None),
            },
            Gemma2 => Defaults {
                vocab_size: 256_000,
                hidden_size: 2304,
                intermediate_size: 9216,
                layers: 26,
                heads: 8,
                kv_heads: 4,
                positions: 8192,
                theta: 1e4,
                softcaps: (Some(50.0), Some(30.0)),
            },
            Gemma3 => Defaults {
                vocab_size: 262_208,
                hidden_size: 2304,
                intermediate_size: 9216,
                layers: 26,
                heads: 8,
                kv_heads: 4,
                positions: 131_072,
                theta: 1e6,
                softcaps: (None, None),
            },
        }
    }
}

impl GemmaConfig {
    /// The config of a checkpoint, in whichever form it has one.
    ///
    /// # Errors
    /// If it has none, or a field is missing or out of range.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<GemmaConfig, CoreError> {
        let config = if checkpoint.gguf().is_some() {
            GemmaConfig::from_gguf(checkpoint)?
        } else {
            let json = checkpoint.config().ok_or_else(|| CoreError::Config("there is no config.json".into()))?;
            GemmaConfig::from_hf(json)?
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads `config.json`, in the spelling of published checkpoints or of transformers 5; of a Gemma 3 that sees pictures,
    /// the language model's part.
    ///
    /// # Errors
    /// If a field is of the wrong type or out of range, or the model is not a Gemma 1, 2 or 3.
    pub fn from_hf(json: &serde_json::Value) -> Result<GemmaConfig, CoreError> {
        let config = HfConfig::new(json);
        let model_type = config.str("model_type")?.unwrap_or_default();
        let generation = Generation::of(model_type)
            .ok_or_else(|| CoreError::Config(format!("model_type `{model_type}` is not a Gemma 1, 2 or 3")))?;
        let config = config.object("text_config").unwrap_or(config);
        if config.get("use_bidirectional_attention").is_some_and(|value| value != false) {
            return Err(CoreError::Config(
                "a Gemma with bidirectional attention is an encoder, not a language model".into(),
            ));
        }
        // Gemma 1 says `gelu` and means its tanh form.
        let activation = match config.str("hidden_activation")? {
            Some(activation) => Some(activation),
            None => config.str("hidden_act")?,
        };
        if let Some(act) = activation.filter(|act| !["gelu", "gelu_pytorch_tanh"].contains(act)) {
            return Err(CoreError::Config(format!("hidden_activation `{act}` is not a Gemma's (gelu_pytorch_tanh)")));
        }
        let defaults = generation.defaults();
        let or = |key: &str, default: usize| -> Result<usize, CoreError> { Ok(config.usize(key)?.unwrap_or(default)) };
        let sizes = DecoderSizes {
            vocab_size: or("vocab_size", defaults.vocab_size)?,
            hidden_size: or("hidden_size", defaults.hidden_size)?,
            intermediate_size: or("intermediate_size", defaults.intermediate_size)?,
            num_hidden_layers: or("num_hidden_layers", defaults.layers)?,
            num_attention_heads: or("num_attention_heads", defaults.heads)?,
            num_key_value_heads: or("num_key_value_heads", defaults.kv_heads)?,
            head_dim: or("head_dim", HEAD_DIM)?,
            rms_norm_eps: config.f64("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            max_position_embeddings: or("max_position_embeddings", defaults.positions)?,
            tie_word_embeddings: config.bool("tie_word_embeddings")?.unwrap_or(true),
        };
        sizes.validate()?;
        let pattern = or("sliding_window_pattern", generation.sliding_window_pattern())?;
        let layers = sizes.num_hidden_layers;
        let sliding = match sliding_layers(&config, layers)? {
            Some(sliding) if generation > Gemma1 => sliding,
            _ => sliding_by_pattern(layers, pattern)?,
        };
        let softcap = |key: &str, default: Option<f64>| -> Result<Option<f32>, CoreError> {
            // A null turns the cap off, where an absent field leaves the default.
            let capped = if config.has(key) { config.f64(key)? } else { default };
            Ok(capped.map(|cap| cap as f32))
        };
        let query_pre_attn_scalar = match generation {
            Gemma1 => None,
            Gemma2 | Gemma3 => Some(config.f64("query_pre_attn_scalar")?.unwrap_or(256.0)),
        };
        let rope = match generation {
            Gemma1 | Gemma2 => rope_from_hf(&config, sizes.head_dim)?,
            Gemma3 => rope_of_layer_type(&config, "full_attention", defaults.theta, sizes.head_dim)?,
        };
        let rope_sliding = match generation {
            Gemma1 | Gemma2 => rope.clone(),
            Gemma3 => rope_of_layer_type(&config, "sliding_attention", 1e4, sizes.head_dim)?,
        };
        Ok(GemmaConfig {
            generation,
            query_pre_attn_scalar: query_pre_attn_scalar.unwrap_or(sizes.head_dim as f64),
            attn_logit_softcapping: softcap("attn_logit_softcapping", defaults.softcaps.0)?,
            final_logit_softcapping: softcap("final_logit_softcapping", defaults.softcaps.1)?,
            attention_bias: config.bool("attention_bias")?.unwrap_or(false),
            sliding_window: or("sliding_window", SLIDING_WINDOW)?,
            sliding,
            rope,
            rope_sliding,
            sizes,
        })
    }

    /// Checks that sizes are in range and fit together.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self) -> Result<(), CoreError> {
        self.sizes.validate()?;
        if self.sliding.len() != self.sizes.num_hidden_layers {
            let (found, layers) = (self.sliding.len(), self.sizes.num_hidden_layers);
            return Err(CoreError::Config(format!("{found} layer types for {layers} layers")));
        }
        if self.sliding_window == 0 && self.sliding.contains(&true) {
            return Err(CoreError::Config("sliding_window is 0".into()));
        }
        let positive = |name: &str, x: f64| {
            if x.is_finite() && x > 0.0 {
                Ok(())
            } else {
                Err(CoreError::Config(format!("{name} = {x} is not positive")))
            }
        };
        positive("query_pre_attn_scalar", self.query_pre_attn_scalar)?;
        self.attn_logit_softcapping.map_or(Ok(()), |cap| positive("attn_logit_softcapping", cap.into()))?;
        self.final_logit_softcapping.map_or(Ok(()), |cap| positive("final_logit_softcapping", cap.into()))?;
        if [&self.rope, &self.rope_sliding].iter().any(|rope| rope.inv_freq.len() * 2 > self.sizes.head_dim) {
            return Err(CoreError::Config(format!("RoPE turns more than a head of {}", self.sizes.head_dim)));
        }
        Ok(())
    }

    /// A Gemma small enough for tests.
    ///
    /// # Errors
    /// Never for these sizes.
    pub fn tiny(generation: Generation) -> Result<GemmaConfig, CoreError> {
        let caps = (generation == Gemma2).then_some((3.0, 5.0));
        Ok(GemmaConfig {
            generation,
            sizes: DecoderSizes {
                vocab_size: 73,
                hidden_size: 44,
                intermediate_size: 60,
                num_hidden_layers: 4,
                num_attention_heads: 6,
                num_key_value_heads: 2,
                head_dim: 10,
                rms_norm_eps: 1e-6,
                max_position_embeddings: 256,
                tie_word_embeddings: true,
            },
            query_pre_attn_scalar: 10.0,
            attn_logit_softcapping: caps.map(|caps| caps.0),
            final_logit_softcapping: caps.map(|caps| caps.1),
            attention_bias: false,
            sliding_window: 4,
            sliding: sliding_by_pattern(4, if generation == Gemma1 { 1 } else { 2 })?,
            rope: RopeSpec::new(1e6, 10, &RopeScaling::Linear { factor: 8.0 })?,
            rope_sliding: RopeSpec::new(1e4, 10, &RopeScaling::None)?,
        })
    }
}

/// Of every `pattern` layers all but the last have a window.
pub(crate) fn sliding_by_pattern(layers: usize, pattern: usize) -> Result<Vec<bool>, CoreError> {
    if pattern == 0 {
        return Err(CoreError::Config("sliding_window_pattern is 0".into()));
    }
    Ok((0..layers).map(|layer| !(layer + 1).is_multiple_of(pattern)).collect())
}
