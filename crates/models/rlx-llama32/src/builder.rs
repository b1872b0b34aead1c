//! Config to decoder.

use rlx_core::{CoreError, DecoderModel};
use rlx_flow::{Activation, AttentionLayer, DecoderSpec, LayerSpec, Mlp, NormKind, NormSpec};
use rlx_weights::Checkpoint;

use crate::{Llama32Config, weights};

pub(crate) fn load(checkpoint: &Checkpoint) -> Result<DecoderModel, CoreError> {
    let config = Llama32Config::from_checkpoint(checkpoint)?;
    Ok(DecoderModel {
        context_length: config.max_position_embeddings,
        rules: weights::rules(&config),
        spec: config.into(),
    })
}

impl From<Llama32Config> for DecoderSpec {
    fn from(config: Llama32Config) -> DecoderSpec {
        let attention = AttentionLayer {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            qkv_bias: config.attention_bias,
            o_bias: config.attention_bias,
            qk_norm: false,
            rope: Some(0),
            window: None,
            softcap: None,
        };
        let mlp = Mlp::Gated {
            intermediate_size: config.intermediate_size,
            activation: Activation::Silu,
            bias: config.mlp_bias,
        };
        DecoderSpec {
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            layers: vec![LayerSpec { attention, mlp }; config.num_hidden_layers],
            norm: NormSpec { kind: NormKind::Rms, eps: config.rms_norm_eps },
            ropes: vec![config.rope],
            tie_word_embeddings: config.tie_word_embeddings,
        }
    }
}
