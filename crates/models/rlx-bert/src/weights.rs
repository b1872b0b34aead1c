//! The one name table.

use rlx_weights::names::{NameRule, Transform};

use crate::{BertConfig, BertHead};

const fn rule(canonical: &'static str, gguf: &'static str) -> NameRule {
    NameRule::required(canonical, gguf)
}

/// A norm's parameter, which checkpoints converted from TensorFlow call `gamma` or `beta`.
const fn norm(canonical: &'static str, gguf: &'static str, old: &'static str) -> NameRule {
    rule(canonical, gguf).or_hf(old, Transform::None)
}

const TABLE: &[NameRule] = &[
    rule("embeddings.word_embeddings.weight", "token_embd.weight"),
    rule("embeddings.position_embeddings.weight", "position_embd.weight"),
    norm("embeddings.LayerNorm.weight", "token_embd_norm.weight", "embeddings.LayerNorm.gamma"),
    norm("embeddings.LayerNorm.bias", "token_embd_norm.bias", "embeddings.LayerNorm.beta"),
    rule("encoder.layer.{}.attention.self.query.weight", "blk.{}.attn_q.weight"),
    rule("encoder.layer.{}.attention.self.query.bias", "blk.{}.attn_q.bias"),
    rule("encoder.layer.{}.attention.self.key.weight", "blk.{}.attn_k.weight"),
    rule("encoder.layer.{}.attention.self.key.bias", "blk.{}.attn_k.bias"),
    rule("encoder.layer.{}.attention.self.value.weight", "blk.{}.attn_v.weight"),
    rule("encoder.layer.{}.attention.self.value.bias", "blk.{}.attn_v.bias"),
    rule("encoder.layer.{}.attention.output.dense.weight", "blk.{}.attn_output.weight"),
    rule("encoder.layer.{}.attention.output.dense.bias", "blk.{}.attn_output.bias"),
    norm(
        "encoder.layer.{}.attention.output.LayerNorm.weight",
        "blk.{}.attn_output_norm.weight",
        "encoder.layer.{}.attention.output.LayerNorm.gamma",
    ),
    norm(
        "encoder.layer.{}.attention.output.LayerNorm.bias",
        "blk.{}.attn_output_norm.bias",
        "encoder.layer.{}.attention.output.LayerNorm.beta",
    ),
    rule("encoder.layer.{}.intermediate.dense.weight", "blk.{}.ffn_up.weight"),
    rule("encoder.layer.{}.intermediate.dense.bias", "blk.{}.ffn_up.bias"),
    rule("encoder.layer.{}.output.dense.weight", "blk.{}.ffn_down.weight"),
    rule("encoder.layer.{}.output.dense.bias", "blk.{}.ffn_down.bias"),
    norm(
        "encoder.layer.{}.output.LayerNorm.weight",
        "blk.{}.layer_output_norm.weight",
        "encoder.layer.{}.output.LayerNorm.gamma",
    ),
    norm(
        "encoder.layer.{}.output.LayerNorm.bias",
        "blk.{}.layer_output_norm.bias",
        "encoder.layer.{}.output.LayerNorm.beta",
    ),
    NameRule::ignored("embeddings.position_ids", ""),
    NameRule::ignored("embeddings.token_type_ids", ""),
    NameRule::ignored("cls.seq_relationship.*", ""),
];

const POOLER: &[NameRule] = &[rule("pooler.dense.weight", ""), rule("pooler.dense.bias", "")];

const MASKED_LM: &[NameRule] = &[
    rule("cls.predictions.transform.dense.weight", ""),
    rule("cls.predictions.transform.dense.bias", ""),
    norm("cls.predictions.transform.LayerNorm.weight", "", "cls.predictions.transform.LayerNorm.gamma"),
    norm("cls.predictions.transform.LayerNorm.bias", "", "cls.predictions.transform.LayerNorm.beta"),
];

/// The bias of the masked-language-model head: tied like the table, so that two of different values are two only if that is.
pub(crate) fn masked_lm_bias(config: &BertConfig) -> &'static str {
    if config.tie_word_embeddings { TIED_BIAS } else { OWN_BIAS }
}

const TIED_BIAS: &str = "cls.predictions.bias";
const OWN_BIAS: &str = "cls.predictions.decoder.bias";

const CLASSIFICATION: &[NameRule] = &[rule("classifier.weight", ""), rule("classifier.bias", "")];

/// Other spellings: models with a head have the encoder under `bert.`.
pub(crate) const PREFIXES: &[(&str, &str)] =
    &[("embeddings.", "bert.embeddings."), ("encoder.", "bert.encoder."), ("pooler.", "bert.pooler.")];

/// The rows that a model of this config with this head needs. Heads that are not asked for are ignored.
pub(crate) fn rules(config: &BertConfig, head: BertHead) -> Vec<NameRule> {
    let mut rules = TABLE.to_vec();
    rules.push(match config.type_vocab_size {
        0 => NameRule::ignored("embeddings.token_type_embeddings.weight", "token_types.weight"),
        _ => rule("embeddings.token_type_embeddings.weight", "token_types.weight"),
    });
    match head {
        BertHead::Pooler | BertHead::Classification { .. } => rules.extend_from_slice(POOLER),
        _ => rules.push(NameRule::ignored("pooler.*", "")),
    }
    match head {
        BertHead::Classification { .. } => rules.extend_from_slice(CLASSIFICATION),
        _ => rules.push(NameRule::ignored("classifier.*", "cls.*")),
    }
    match head {
        BertHead::MaskedLm => {
            rules.extend_from_slice(MASKED_LM);
            rules.push(match config.tie_word_embeddings {
                // Some tied checkpoints store the table a second time.
                true => NameRule::ignored("cls.predictions.decoder.weight", ""),
                false => rule("cls.predictions.decoder.weight", ""),
            });
            let bias = masked_lm_bias(config);
            let other = if bias == TIED_BIAS { OWN_BIAS } else { TIED_BIAS };
            rules.push(rule(bias, "").or_hf(other, Transform::None));
            rules.push(NameRule::ignored(other, ""));
        }
        _ => rules.push(NameRule::ignored("cls.predictions.*", "")),
    }
    rules
}
