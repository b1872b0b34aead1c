//! Config to decoder.

use rlx_core::{BASE_MODEL_PREFIXES, CoreError, DecoderModel};
use rlx_flow::{Activation, AttentionLayer, DecoderSpec, LayerSpec, Mlp, NormKind, NormSpec};
use rlx_weights::Checkpoint;

use crate::{Llama32Config, weights};

pub(crate) fn load(checkpoint: &Checkpoint) -> Result<DecoderModel, CoreError> {
    let config = Llama32Config::from_checkpoint(checkpoint)?;
    Ok(DecoderModel {
        context_length: config.max_position_embeddings,
        rules: weights::rules(&config),
        prefixes: BASE_MODEL_PREFIXES,
        spec: config.into(),
    })
}

impl From<Llama32Config> for DecoderSpec {
    fn from(config: Llama32Config) -> DecoderSpec {
        let attention = AttentionLayer {
            qkv_bias: config.attention_bias,
            o_bias: config.attention_bias,
            ..AttentionLayer::new(config.num_attention_heads, config.num_key_value_heads, config.head_dim)
        };
        let mlp = Mlp::Gated {
            intermediate_size: config.intermediate_size,
            activation: Activation::Silu,
            bias: config.mlp_bias,
        };
        DecoderSpec {
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            embed_scale: None,
            per_layer_inputs: None,
            layers: vec![LayerSpec::new(attention, mlp); config.num_hidden_layers],
            norm: NormSpec { kind: NormKind::Rms, eps: config.rms_norm_eps },
            ropes: vec![config.rope],
            logit_softcap: None,
            tie_word_embeddings: config.tie_word_embeddings,
        }
    }
}
