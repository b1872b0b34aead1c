//! Sizes and switches of a Gemma model, from GGUF metadata.

use rlx_core::{CoreError, DecoderSizes, GgufHeader, rope_from_gguf};
use rlx_flow::{RopeScaling, RopeSpec};
use rlx_weights::Checkpoint;

use crate::GemmaConfig;
use crate::config::{Generation, SLIDING_WINDOW, sliding_by_pattern};

impl GemmaConfig {
    /// Reads the metadata of a GGUF file of architecture `gemma`, `gemma2` or `gemma3`.
    ///
    /// Files do not say `query_pre_attn_scalar`. A `config.json` of the same model beside the file is asked for it; else, as in
    /// llama.cpp, it is taken for `head_dim`, and for `hidden_size / num_attention_heads` in the largest models (Gemma 2 of
    /// 46 layers, Gemma 3 of 62). A key `<arch>.attention.scale`, should there be one, is believed before all.
    ///
    /// # Errors
    /// If a key is missing, of the wrong type or out of range.
    pub fn from_gguf(checkpoint: &Checkpoint) -> Result<GemmaConfig, CoreError> {
        let metadata = checkpoint.gguf().ok_or_else(|| CoreError::Config("not a GGUF file".into()))?;
        let architecture = checkpoint.architecture().unwrap_or_default();
        let generation = Generation::of(architecture)
            .ok_or_else(|| CoreError::Config(format!("architecture `{architecture}` is not a Gemma 1, 2 or 3")))?;
        let sizes = DecoderSizes::from_gguf(checkpoint)?;
        sizes.validate()?;
        let number = |suffix: &str| metadata.get_f64(&metadata.arch_key(suffix));
        let size = |suffix: &str| metadata.get_u32(&metadata.arch_key(suffix)).map(|n| n as usize);
        let query_pre_attn_scalar = match (number("attention.scale"), scalar_beside(checkpoint, generation, &sizes)) {
            (Some(scale), _) if scale > 0.0 => 1.0 / (scale * scale),
            (_, Some(scalar)) => scalar,
            _ => unsaid_scalar(generation, &sizes),
        };
        let default_window = (generation == Generation::Gemma2).then_some(SLIDING_WINDOW);
        let window = size("attention.sliding_window").or(default_window).filter(|&window| window > 0);
        let pattern = size("attention.sliding_window_pattern").unwrap_or(generation.sliding_window_pattern());
        let rope = rope_from_gguf_or(checkpoint, generation, sizes.head_dim)?;
        let rope_sliding = match generation {
            Generation::Gemma3 => {
                let theta = number("rope.freq_base_swa").unwrap_or(1e4);
                RopeSpec::new(theta, sizes.head_dim, &RopeScaling::None)?
            }
            Generation::Gemma1 | Generation::Gemma2 => rope.clone(),
        };
        let softcap = |suffix: &str, default: Option<f32>| match number(suffix) {
            Some(cap) => (cap != 0.0).then_some(cap as f32),
            None => default,
        };
        let second = generation == Generation::Gemma2;
        Ok(GemmaConfig {
            generation,
            query_pre_attn_scalar,
            attn_logit_softcapping: softcap("attn_logit_softcapping", second.then_some(50.0)),
            final_logit_softcapping: softcap("final_logit_softcapping", second.then_some(30.0)),
            attention_bias: checkpoint.tensor("blk.0.attn_q.bias").is_some(),
            sliding_window: window.unwrap_or(sizes.max_position_embeddings),
            sliding: match window {
                Some(_) => sliding_by_pattern(sizes.num_hidden_layers, pattern)?,
                None => vec![false; sizes.num_hidden_layers],
            },
            rope,
            rope_sliding,
            sizes,
        })
    }

    /// What a GGUF file of the model says of it: the counterpart of [`GemmaConfig::from_gguf`]. `query_pre_attn_scalar` is said as
    /// `<arch>.attention.scale` where readers would take another one, and the layers' windows where they are not those of
    /// the generation.
    ///
    /// # Errors
    /// If the format has no words for it.
    pub fn to_gguf(&self) -> Result<GgufHeader, CoreError> {
        let mut header = GgufHeader::new(match self.generation {
            Generation::Gemma1 => "gemma",
            Generation::Gemma2 => "gemma2",
            Generation::Gemma3 => "gemma3",
        });
        let layers = self.sizes.num_hidden_layers;
        header.set_decoder_sizes(&self.sizes)?;
        header.set_rope(&self.rope)?;
        if self.generation == Generation::Gemma3 {
            if self.rope_sliding.scaling != RopeScaling::None {
                return Err(CoreError::Config(
                    "GGUF files of Gemma 3 cannot say that RoPE is scaled in layers with a sliding window".into(),
                ));
            }
            header.set("rope.freq_base_swa", self.rope_sliding.theta as f32);
        }
        if self.query_pre_attn_scalar != unsaid_scalar(self.generation, &self.sizes) {
            header.set("attention.scale", self.query_pre_attn_scalar.powf(-0.5) as f32);
            let scalar = self.query_pre_attn_scalar;
            header.notes.push(format!(
                "query_pre_attn_scalar = {scalar} is not what other readers assume: llama.cpp will scale attention wrongly"
            ));
        }
        // Readers assume caps of Gemma 2 unless they are told.
        let caps = [
            ("attn_logit_softcapping", self.attn_logit_softcapping),
            ("final_logit_softcapping", self.final_logit_softcapping),
        ];
        for (key, cap) in caps {
            if let Some(cap) = cap.or((self.generation == Generation::Gemma2).then_some(0.0)) {
                header.set(key, cap);
            }
        }
        if self.generation == Generation::Gemma2 && caps.iter().any(|(_, cap)| cap.is_none()) {
            header.notes.push("llama.cpp cannot run a Gemma 2 without soft caps".into());
        }
        if !self.sliding.contains(&true) {
            if self.generation == Generation::Gemma2 {
                header.set_size("attention.sliding_window", 0)?;
            }
            return Ok(header);
        }
        header.set_size("attention.sliding_window", self.sliding_window)?;
        let usual = self.generation.sliding_window_pattern();
        if self.sliding != sliding_by_pattern(layers, usual)? {
            let fits = |&pattern: &usize| sliding_by_pattern(layers, pattern).is_ok_and(|made| made == self.sliding);
            // One more than there are layers: all have the window.
            let pattern = (1..=layers + 1).find(fits).ok_or_else(|| {
                CoreError::Config(
                    "GGUF files cannot say which layers have sliding windows: they follow no pattern".into(),
                )
            })?;
            header.set_size("attention.sliding_window_pattern", pattern)?;
            header
                .notes
                .push(format!("llama.cpp will take one layer of {usual} for one without a window, not as it is here"));
        }
        Ok(header)
    }
}

/// `query_pre_attn_scalar` of files that do not say it.
fn unsaid_scalar(generation: Generation, sizes: &DecoderSizes) -> f64 {
    let largest = match generation {
        Generation::Gemma1 => false,
        Generation::Gemma2 => sizes.num_hidden_layers == 46,
        Generation::Gemma3 => sizes.num_hidden_layers == 62,
    };
    if largest { sizes.hidden_size as f64 / sizes.num_attention_heads as f64 } else { sizes.head_dim as f64 }
}

/// `query_pre_attn_scalar` of a `config.json` beside the file, if it describes this model.
fn scalar_beside(checkpoint: &Checkpoint, generation: Generation, sizes: &DecoderSizes) -> Option<f64> {
    // What stands there by chance must not keep the file from loading.
    let json = checkpoint.sidecar_json("config.json").ok()??;
    let config = GemmaConfig::from_hf(&json).ok()?;
    let shape = |sizes: &DecoderSizes| {
        (sizes.num_hidden_layers, sizes.hidden_size, sizes.intermediate_size, sizes.num_attention_heads, sizes.head_dim)
    };
    (config.generation == generation && shape(&config.sizes) == shape(sizes)).then_some(config.query_pre_attn_scalar)
}

/// The RoPE of layers that see everything. Early Gemma 3 files leave its base out.
fn rope_from_gguf_or(checkpoint: &Checkpoint, generation: Generation, dim: usize) -> Result<RopeSpec, CoreError> {
    let says = checkpoint.gguf().is_some_and(|metadata| metadata.contains(&metadata.arch_key("rope.freq_base")));
    if generation == Generation::Gemma3 && !says {
        return Ok(RopeSpec::new(1e6, dim, &RopeScaling::None)?);
    }
    rope_from_gguf(checkpoint, dim)
}
