//! Config to decoder.

use rlx_core::{CoreError, DecoderModel, GgufHeader};
use rlx_flow::{
    Activation, AttentionLayer, DecoderSpec, LayerSpec, Mlp, MoeLayer, NormKind, NormPlacement, NormSpec,
    PerLayerInputs, RouterScore,
};
use rlx_weights::Checkpoint;

use crate::config::Generation;
use crate::{Gemma4Config, GemmaConfig, weights};

fn is_gemma4(checkpoint: &Checkpoint) -> bool {
    checkpoint.architecture().is_some_and(|name| name.starts_with("gemma4"))
}

pub(crate) fn to_gguf(checkpoint: &Checkpoint) -> Result<GgufHeader, CoreError> {
    if is_gemma4(checkpoint) {
        return Gemma4Config::from_checkpoint(checkpoint)?.to_gguf();
    }
    GemmaConfig::from_checkpoint(checkpoint)?.to_gguf()
}

pub(crate) fn load(checkpoint: &Checkpoint) -> Result<DecoderModel, CoreError> {
    if is_gemma4(checkpoint) {
        let config = Gemma4Config::from_checkpoint(checkpoint)?;
        return Ok(DecoderModel {
            context_length: config.sizes.max_position_embeddings,
            rules: weights::gemma4_rules(&config),
            prefixes: weights::PREFIXES,
            spec: config.into(),
        });
    }
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

impl From<Gemma4Config> for DecoderSpec {
    fn from(config: Gemma4Config) -> DecoderSpec {
        let sizes = config.sizes;
        let moe = config.moe.map(|moe| MoeLayer {
            experts: moe.num_experts,
            top_k: moe.top_k_experts,
            intermediate_size: moe.moe_intermediate_size,
            activation: Activation::GeluTanh,
            score: RouterScore::Softmax,
            normalise: true,
            expert_scale: Some("router.per_expert_scale"),
        });
        let layer = |layer: &crate::Gemma4Layer| LayerSpec {
            attention: AttentionLayer {
                // Queries and keys are normalised, and not scaled besides.
                scale: 1.0,
                qkv_bias: config.attention_bias,
                o_bias: config.attention_bias,
                qk_norm: true,
                v_norm: true,
                rope: Some(usize::from(layer.sliding)),
                window: layer.sliding.then_some(config.sliding_window),
                keys_as_values: layer.attention_k_eq_v,
                kv_from: layer.kv_from,
                ..AttentionLayer::new(sizes.num_attention_heads, layer.num_key_value_heads, layer.head_dim)
            },
            mlp: Mlp::gated(layer.intermediate_size, Activation::GeluTanh),
            norms: NormPlacement::Sandwich,
            beside_mlp: moe,
            output_scale: true,
        };
        let per_layer_inputs = (config.hidden_size_per_layer_input > 0).then_some(PerLayerInputs {
            vocab_size: config.vocab_size_per_layer_input,
            width: config.hidden_size_per_layer_input,
            activation: Activation::GeluTanh,
        });
        DecoderSpec {
            vocab_size: sizes.vocab_size,
            hidden_size: sizes.hidden_size,
            embed_scale: Some((sizes.hidden_size as f32).sqrt()),
            per_layer_inputs,
            layers: config.layers.iter().map(layer).collect(),
            norm: NormSpec { kind: NormKind::Rms, eps: sizes.rms_norm_eps },
            ropes: vec![config.rope, config.rope_sliding],
            logit_softcap: config.final_logit_softcapping,
            tie_word_embeddings: sizes.tie_word_embeddings,
        }
    }
}
