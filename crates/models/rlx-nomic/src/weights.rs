//! The one name table.

use rlx_weights::names::NameRule;

use crate::NomicBertConfig;

const fn rule(canonical: &'static str, gguf: &'static str) -> NameRule {
    NameRule::required(canonical, gguf)
}

const TABLE: &[NameRule] = &[
    rule("embeddings.word_embeddings.weight", "token_embd.weight"),
    rule("emb_ln.weight", "token_embd_norm.weight"),
    rule("emb_ln.bias", "token_embd_norm.bias"),
    rule("encoder.layers.{}.attn.Wqkv.weight", "blk.{}.attn_qkv.weight"),
    rule("encoder.layers.{}.attn.out_proj.weight", "blk.{}.attn_output.weight"),
    rule("encoder.layers.{}.norm1.weight", "blk.{}.attn_output_norm.weight"),
    rule("encoder.layers.{}.norm1.bias", "blk.{}.attn_output_norm.bias"),
    rule("encoder.layers.{}.mlp.fc11.weight", "blk.{}.ffn_up.weight"),
    rule("encoder.layers.{}.mlp.fc12.weight", "blk.{}.ffn_gate.weight"),
    rule("encoder.layers.{}.mlp.fc2.weight", "blk.{}.ffn_down.weight"),
    rule("encoder.layers.{}.norm2.weight", "blk.{}.layer_output_norm.weight"),
    rule("encoder.layers.{}.norm2.bias", "blk.{}.layer_output_norm.bias"),
    NameRule::ignored("encoder.layers.{}.attn.rotary_emb.inv_freq", ""),
    // Heads of the pretrained model.
    NameRule::ignored("pooler.*", ""),
    NameRule::ignored("cls.*", ""),
];

const QKV_BIASES: &[NameRule] = &[
    rule("encoder.layers.{}.attn.Wqkv.bias", "blk.{}.attn_qkv.bias"),
    rule("encoder.layers.{}.attn.out_proj.bias", "blk.{}.attn_output.bias"),
];

const FC1_BIASES: &[NameRule] = &[
    rule("encoder.layers.{}.mlp.fc11.bias", "blk.{}.ffn_up.bias"),
    rule("encoder.layers.{}.mlp.fc12.bias", "blk.{}.ffn_gate.bias"),
];

/// Other spellings: models with a head have the encoder under `bert.`.
pub(crate) const PREFIXES: &[(&str, &str)] = &[
    ("embeddings.", "bert.embeddings."),
    ("emb_ln.", "bert.emb_ln."),
    ("encoder.", "bert.encoder."),
    ("pooler.", "bert.pooler."),
];

/// The rows that a model of this config needs.
pub(crate) fn rules(config: &NomicBertConfig) -> Vec<NameRule> {
    let mut rules = TABLE.to_vec();
    if config.qkv_proj_bias {
        rules.extend_from_slice(QKV_BIASES);
    }
    if config.mlp_fc1_bias {
        rules.extend_from_slice(FC1_BIASES);
    }
    if config.mlp_fc2_bias {
        rules.push(rule("encoder.layers.{}.mlp.fc2.bias", "blk.{}.ffn_down.bias"));
    }
    if config.type_vocab_size > 0 {
        rules.push(rule("embeddings.token_type_embeddings.weight", "token_types.weight"));
    }
    rules
}
