//! Config to decoder.

use rlx_core::{CoreError, DecoderModel};
use rlx_flow::{Activation, AttentionLayer, DecoderSpec, LayerSpec, Mlp, NormKind, NormPlacement, NormSpec};
use rlx_weights::Checkpoint;

use crate::config::Generation;
use crate::{GemmaConfig, weights};

pub(crate) fn load(checkpoint: &Checkpoint) -> Result<DecoderModel, CoreError> {
    let config = GemmaConfig::from_checkpoint(checkpoint)?;
    Ok(DecoderModel {
        context_length: config.sizes.max_position_embeddings,
        rules: weights::rules(&config),
        prefixes: weights::PREFIXES,
        spec: config.into(),
    })
}

impl From<GemmaConfig> for DecoderSpec {
    fn from(config: GemmaConfig) -> DecoderSpec {
        let sizes = config.sizes;
        let layer = |&sliding: &bool| LayerSpec {
            attention: AttentionLayer {
                scale: config.query_pre_attn_scalar.powf(-0.5) as f32,
                qkv_bias: config.attention_bias,
                o_bias: config.attention_bias,
                qk_norm: config.generation == Generation::Gemma3,
                rope: Some(usize::from(sliding)),
                window: sliding.then_some(config.sliding_window),
                softcap: config.attn_logit_softcapping,
                ..AttentionLayer::new(sizes.num_attention_heads, sizes.num_key_value_heads, sizes.head_dim)
            },
            mlp: Mlp::gated(sizes.intermediate_size, Activation::GeluTanh),
            beside_mlp: None,
            output_scale: false,
            norms: if config.generation == Generation::Gemma1 { NormPlacement::Pre } else { NormPlacement::Sandwich },
        };
        DecoderSpec {
            vocab_size: sizes.vocab_size,
            hidden_size: sizes.hidden_size,
            embed_scale: Some((sizes.hidden_size as f32).sqrt()),
            per_layer_inputs: None,
            layers: config.sliding.iter().map(layer).collect(),
            norm: NormSpec { kind: NormKind::Rms, eps: sizes.rms_norm_eps },
            ropes: vec![config.rope, config.rope_sliding],
            logit_softcap: config.final_logit_softcapping,
            tie_word_embeddings: sizes.tie_word_embeddings,
        }
    }
}
