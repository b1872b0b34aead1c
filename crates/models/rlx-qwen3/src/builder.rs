//! Config to decoder.

use rlx_core::{BASE_MODEL_PREFIXES, CoreError, DecoderModel};
use rlx_flow::{Activation, AttentionLayer, DecoderSpec, LayerSpec, Mlp, MoeLayer, NormKind, NormSpec, RouterScore};
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
        let layer = |(index, &window): (usize, &Option<usize>)| {
            let attention = AttentionLayer {
                qkv_bias: config.qkv_bias,
                o_bias: config.o_bias,
                qk_norm: config.qk_norm,
                window,
                ..AttentionLayer::new(sizes.num_attention_heads, sizes.num_key_value_heads, sizes.head_dim)
            };
            let mlp = match config.moe.as_ref().filter(|moe| moe.sparse[index]) {
                Some(moe) => Mlp::Moe(MoeLayer {
                    experts: moe.num_experts,
                    top_k: moe.num_experts_per_tok,
                    intermediate_size: moe.moe_intermediate_size,
                    activation: Activation::Silu,
                    score: RouterScore::Softmax,
                    normalise: moe.norm_topk_prob,
                    expert_scale: None,
                }),
                None => Mlp::gated(sizes.intermediate_size, Activation::Silu),
            };
            LayerSpec::new(attention, mlp)
        };
        DecoderSpec {
            vocab_size: sizes.vocab_size,
            hidden_size: sizes.hidden_size,
            embed_scale: None,
            per_layer_inputs: None,
            layers: config.windows.iter().enumerate().map(layer).collect(),
            norm: NormSpec { kind: NormKind::Rms, eps: sizes.rms_norm_eps },
            ropes: vec![config.rope],
            logit_softcap: None,
            tie_word_embeddings: sizes.tie_word_embeddings,
        }
    }
}
