//! Config to decoder.

use rlx_core::{BASE_MODEL_PREFIXES, CoreError, DecoderModel};
use rlx_flow::{Activation, AttentionLayer, DecoderSpec, LayerSpec, Mlp, NormKind, NormPlacement, NormSpec};
use rlx_weights::Checkpoint;

use crate::{Qwen3Config, weights};

pub(crate) fn load(checkpoint: &Checkpoint) -> Result<DecoderModel, CoreError> {
    let config = Qwen3Config::from_checkpoint(checkpoint)?;
    Ok(DecoderModel {
        context_length: config.sizes.max_position_embeddings,
        rules: weights::rules(&config),
        prefixes: BASE_MODEL_PREFIXES,
        spec: config.into(),
    })
}

impl From<Qwen3Config> for DecoderSpec {
    fn from(config: Qwen3Config) -> DecoderSpec {
        let sizes = config.sizes;
        let layer = |&window: &Option<usize>| LayerSpec {
            attention: AttentionLayer {
                qkv_bias: config.qkv_bias,
                o_bias: config.o_bias,
                qk_norm: config.qk_norm,
                window,
                ..AttentionLayer::new(sizes.num_attention_heads, sizes.num_key_value_heads, sizes.head_dim)
            },
            mlp: Mlp::gated(sizes.intermediate_size, Activation::Silu),
            norms: NormPlacement::Pre,
        };
        DecoderSpec {
            vocab_size: sizes.vocab_size,
            hidden_size: sizes.hidden_size,
            embed_scale: None,
            layers: config.windows.iter().map(layer).collect(),
            norm: NormSpec { kind: NormKind::Rms, eps: sizes.rms_norm_eps },
            ropes: vec![config.rope],
            logit_softcap: None,
            tie_word_embeddings: sizes.tie_word_embeddings,
        }
    }
}
