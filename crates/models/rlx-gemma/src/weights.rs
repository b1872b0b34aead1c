//! The one name table.

use rlx_weights::names::{NameRule, Transform};

use crate::GemmaConfig;
use crate::config::Generation;

/// The language model of a Gemma 3 that sees pictures stands under one of the two last; older exports have no `model.`.
pub(crate) const PREFIXES: &[(&str, &str)] = &[
    ("model.", ""),
    ("model.", "language_model.model."),
    ("model.", "model.language_model."),
    ("lm_head.", "language_model.lm_head."),
];

const fn rule(canonical: &'static str, gguf: &'static str) -> NameRule {
    NameRule::required(canonical, gguf)
}

/// A norm: Hugging Face files hold its weight less one.
const fn norm(canonical: &'static str, gguf: &'static str) -> NameRule {
    NameRule::required(canonical, gguf).with_hf(Transform::AddOne)
}

const TABLE: &[NameRule] = &[
    rule("model.embed_tokens.weight", "token_embd.weight"),
    norm("model.norm.weight", "output_norm.weight"),
    norm("model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    rule("model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"),
    rule("model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight"),
    rule("model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"),
    rule("model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"),
    rule("model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"),
    rule("model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"),
    rule("model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"),
    NameRule::ignored("model.layers.{}.self_attn.rotary_emb.inv_freq", ""),
    NameRule::ignored("vision_tower.*", ""),
    NameRule::ignored("multi_modal_projector.*", ""),
    NameRule::ignored("model.vision_tower.*", ""),
    NameRule::ignored("model.multi_modal_projector.*", ""),
];

const PRE_NORMS: &[NameRule] = &[norm("model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight")];

const SANDWICH_NORMS: &[NameRule] = &[
    norm("model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"),
    norm("model.layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight"),
    norm("model.layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight"),
];

const QK_NORMS: &[NameRule] = &[
    norm("model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"),
    norm("model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"),
];

const ATTENTION_BIASES: &[NameRule] = &[
    rule("model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias"),
    rule("model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias"),
    rule("model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"),
    rule("model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias"),
];

/// The rows that a model of this config needs.
pub(crate) fn rules(config: &GemmaConfig) -> Vec<NameRule> {
    let mut rules = TABLE.to_vec();
    match config.generation {
        Generation::Gemma1 => rules.extend_from_slice(PRE_NORMS),
        Generation::Gemma2 => rules.extend_from_slice(SANDWICH_NORMS),
        Generation::Gemma3 => {
            rules.extend_from_slice(SANDWICH_NORMS);
            rules.extend_from_slice(QK_NORMS);
        }
    }
    if config.attention_bias {
        rules.extend_from_slice(ATTENTION_BIASES);
    }
    rules.push(if config.sizes.tie_word_embeddings {
        // Some tied checkpoints store the table a second time.
        NameRule::ignored("lm_head.weight", "output.weight")
    } else {
        rule("lm_head.weight", "output.weight")
    });
    rules
}
