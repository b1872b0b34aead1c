//! The name tables: of Gemma 1 to 3, and of Gemma 4, whose norms are stored as they are.

use rlx_weights::names::{NameRule, Transform};

use crate::config::Generation;
use crate::{Gemma4Config, GemmaConfig};

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
    rules.push(lm_head(config.sizes.tie_word_embeddings));
    rules
}

const fn lm_head(tied: bool) -> NameRule {
    if tied {
        // Some tied checkpoints store the table a second time.
        NameRule::ignored("lm_head.weight", "output.weight")
    } else {
        rule("lm_head.weight", "output.weight")
    }
}

/// Layers that share keys and values have no weights for their own, or have them without use.
const GEMMA4: &[NameRule] = &[
    rule("model.embed_tokens.weight", "token_embd.weight"),
    rule("model.norm.weight", "output_norm.weight"),
    rule("model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    rule("model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"),
    rule("model.layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight"),
    rule("model.layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight"),
    rule("model.layers.{}.layer_scalar", "blk.{}.layer_output_scale.weight"),
    rule("model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"),
    NameRule::spare("model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight"),
    NameRule::spare("model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"),
    rule("model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"),
    rule("model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"),
    NameRule::spare("model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"),
    rule("model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"),
    rule("model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"),
    rule("model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"),
    NameRule::ignored("", "rope_freqs.weight"),
    NameRule::ignored("model.vision_tower.*", ""),
    NameRule::ignored("model.audio_tower.*", ""),
    NameRule::ignored("model.embed_vision.*", ""),
    NameRule::ignored("model.embed_audio.*", ""),
];

const GEMMA4_BIASES: &[NameRule] = &[
    rule("model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias"),
    NameRule::spare("model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias"),
    NameRule::spare("model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"),
    rule("model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias"),
];

const PER_LAYER_INPUTS: &[NameRule] = &[
    rule("model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    rule("model.per_layer_model_projection.weight", "per_layer_model_proj.weight"),
    rule("model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"),
    rule("model.layers.{}.per_layer_input_gate.weight", "blk.{}.inp_gate.weight"),
    rule("model.layers.{}.per_layer_projection.weight", "blk.{}.proj.weight"),
    rule("model.layers.{}.post_per_layer_input_norm.weight", "blk.{}.post_norm.weight"),
];

const EXPERTS: &[NameRule] = &[
    rule("model.layers.{}.post_feedforward_layernorm_1.weight", "blk.{}.post_ffw_norm_1.weight"),
    rule("model.layers.{}.post_feedforward_layernorm_2.weight", "blk.{}.post_ffw_norm_2.weight"),
    rule("model.layers.{}.pre_feedforward_layernorm_2.weight", "blk.{}.pre_ffw_norm_2.weight"),
    rule("model.layers.{}.router.proj.weight", "blk.{}.ffn_gate_inp.weight"),
    rule("model.layers.{}.router.scale", "blk.{}.ffn_gate_inp.scale"),
    rule("model.layers.{}.router.per_expert_scale", "blk.{}.ffn_down_exps.scale"),
    rule("model.layers.{}.experts.{}.gate_proj.weight", "blk.{}.ffn_gate_up_exps.weight")
        .with(Transform::ExpertFirstHalf)
        .or_hf("model.layers.{}.experts.gate_up_proj", Transform::ExpertFirstHalf),
    rule("model.layers.{}.experts.{}.up_proj.weight", "blk.{}.ffn_gate_up_exps.weight")
        .with(Transform::ExpertSecondHalf)
        .or_hf("model.layers.{}.experts.gate_up_proj", Transform::ExpertSecondHalf),
    rule("model.layers.{}.experts.{}.down_proj.weight", "blk.{}.ffn_down_exps.weight")
        .with(Transform::Expert)
        .or_hf("model.layers.{}.experts.down_proj", Transform::Expert),
];

/// The rows that a Gemma 4 of this config needs.
pub(crate) fn gemma4_rules(config: &Gemma4Config) -> Vec<NameRule> {
    let mut rules = GEMMA4.to_vec();
    if config.attention_bias {
        rules.extend_from_slice(GEMMA4_BIASES);
    }
    if config.hidden_size_per_layer_input > 0 {
        rules.extend_from_slice(PER_LAYER_INPUTS);
    }
    if config.moe.is_some() {
        rules.extend_from_slice(EXPERTS);
    }
    rules.push(lm_head(config.sizes.tie_word_embeddings));
    rules
}
