//! The one name table.

use rlx_weights::names::{NameRule, Presence, Transform};

use crate::Qwen3Config;

const fn rule(canonical: &'static str, gguf: &'static str) -> NameRule {
    NameRule::required(canonical, gguf)
}

const TABLE: &[NameRule] = &[
    rule("model.embed_tokens.weight", "token_embd.weight"),
    rule("model.norm.weight", "output_norm.weight"),
    rule("model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    rule("model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"),
    rule("model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight"),
    rule("model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"),
    rule("model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"),
    rule("model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"),
    NameRule::ignored("model.layers.{}.self_attn.rotary_emb.inv_freq", ""),
    NameRule::ignored("", "rope_freqs.weight"),
];

const DENSE: &[NameRule] = &[
    rule("model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"),
    rule("model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"),
    rule("model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"),
];

/// GGUF files stack the experts of a layer; so do checkpoints saved as they lie in memory by transformers 5.
const SPARSE: &[NameRule] = &[
    rule("model.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight"),
    rule("model.layers.{}.mlp.experts.{}.gate_proj.weight", "blk.{}.ffn_gate_exps.weight")
        .with(Transform::Expert)
        .or_hf("model.layers.{}.mlp.experts.gate_up_proj", Transform::ExpertFirstHalf),
    rule("model.layers.{}.mlp.experts.{}.up_proj.weight", "blk.{}.ffn_up_exps.weight")
        .with(Transform::Expert)
        .or_hf("model.layers.{}.mlp.experts.gate_up_proj", Transform::ExpertSecondHalf),
    rule("model.layers.{}.mlp.experts.{}.down_proj.weight", "blk.{}.ffn_down_exps.weight")
        .with(Transform::Expert)
        .or_hf("model.layers.{}.mlp.experts.down_proj", Transform::Expert),
];

const QK_NORMS: &[NameRule] = &[
    rule("model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"),
    rule("model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"),
];

const QKV_BIASES: &[NameRule] = &[
    rule("model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias"),
    rule("model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias"),
    rule("model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"),
];

/// The rows that a model of this config needs.
pub(crate) fn rules(config: &Qwen3Config) -> Vec<NameRule> {
    let mut rules = TABLE.to_vec();
    let sparse = config.moe.as_ref().map_or(0, |moe| moe.sparse.iter().filter(|&&sparse| sparse).count());
    let mixed = sparse > 0 && sparse < config.sizes.num_hidden_layers;
    // Where layers differ, the graph says which of the two a layer must have.
    let presence = if mixed { Presence::Optional } else { Presence::Required };
    let of_all = |rules: &[NameRule]| rules.iter().map(|rule| NameRule { presence, ..*rule }).collect::<Vec<_>>();
    if sparse < config.sizes.num_hidden_layers {
        rules.extend(of_all(DENSE));
    }
    if sparse > 0 {
        rules.extend(of_all(SPARSE));
    }
    if config.qk_norm {
        rules.extend_from_slice(QK_NORMS);
    }
    if config.qkv_bias {
        rules.extend_from_slice(QKV_BIASES);
    }
    if config.o_bias {
        rules.push(rule("model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias"));
    }
    rules.push(if config.sizes.tie_word_embeddings {
        // Some tied checkpoints store the table a second time.
        NameRule::ignored("lm_head.weight", "output.weight")
    } else {
        rule("lm_head.weight", "output.weight")
    });
    rules
}
