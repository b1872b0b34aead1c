//! The names of all tensors.

use rlx_weights::names::{MapOptions, NameRule};

use crate::Wav2Vec2BertConfig;

/// Models with a head have the encoder under a name of its own.
const PREFIXES: &[(&str, &str)] = &[("", "wav2vec2_bert.")];

/// Which of them a model has follows from its config; the graph asks for those.
const NAMES: &[&str] = &[
    "feature_projection.layer_norm.weight",
    "feature_projection.layer_norm.bias",
    "feature_projection.projection.weight",
    "feature_projection.projection.bias",
    "encoder.layers.{}.ffn1_layer_norm.weight",
    "encoder.layers.{}.ffn1_layer_norm.bias",
    "encoder.layers.{}.ffn1.intermediate_dense.weight",
    "encoder.layers.{}.ffn1.intermediate_dense.bias",
    "encoder.layers.{}.ffn1.output_dense.weight",
    "encoder.layers.{}.ffn1.output_dense.bias",
    "encoder.layers.{}.self_attn_layer_norm.weight",
    "encoder.layers.{}.self_attn_layer_norm.bias",
    "encoder.layers.{}.self_attn.linear_q.weight",
    "encoder.layers.{}.self_attn.linear_q.bias",
    "encoder.layers.{}.self_attn.linear_k.weight",
    "encoder.layers.{}.self_attn.linear_k.bias",
    "encoder.layers.{}.self_attn.linear_v.weight",
    "encoder.layers.{}.self_attn.linear_v.bias",
    "encoder.layers.{}.self_attn.linear_out.weight",
    "encoder.layers.{}.self_attn.linear_out.bias",
    "encoder.layers.{}.self_attn.distance_embedding.weight",
    "encoder.layers.{}.self_attn.linear_pos.weight",
    "encoder.layers.{}.self_attn.pos_bias_u",
    "encoder.layers.{}.self_attn.pos_bias_v",
    "encoder.layers.{}.conv_module.layer_norm.weight",
    "encoder.layers.{}.conv_module.layer_norm.bias",
    "encoder.layers.{}.conv_module.pointwise_conv1.weight",
    "encoder.layers.{}.conv_module.depthwise_conv.weight",
    "encoder.layers.{}.conv_module.depthwise_layer_norm.weight",
    "encoder.layers.{}.conv_module.depthwise_layer_norm.bias",
    "encoder.layers.{}.conv_module.pointwise_conv2.weight",
    "encoder.layers.{}.ffn2_layer_norm.weight",
    "encoder.layers.{}.ffn2_layer_norm.bias",
    "encoder.layers.{}.ffn2.intermediate_dense.weight",
    "encoder.layers.{}.ffn2.intermediate_dense.bias",
    "encoder.layers.{}.ffn2.output_dense.weight",
    "encoder.layers.{}.ffn2.output_dense.bias",
    "encoder.layers.{}.final_layer_norm.weight",
    "encoder.layers.{}.final_layer_norm.bias",
    "intermediate_ffn.intermediate_dense.weight",
    "intermediate_ffn.intermediate_dense.bias",
    "intermediate_ffn.output_dense.weight",
    "intermediate_ffn.output_dense.bias",
    "adapter.proj.weight",
    "adapter.proj.bias",
    "adapter.proj_layer_norm.weight",
    "adapter.proj_layer_norm.bias",
    "adapter.layers.{}.residual_layer_norm.weight",
    "adapter.layers.{}.residual_layer_norm.bias",
    "adapter.layers.{}.residual_conv.weight",
    "adapter.layers.{}.residual_conv.bias",
    "adapter.layers.{}.self_attn_layer_norm.weight",
    "adapter.layers.{}.self_attn_layer_norm.bias",
    "adapter.layers.{}.self_attn_conv.weight",
    "adapter.layers.{}.self_attn_conv.bias",
    "adapter.layers.{}.self_attn.linear_q.weight",
    "adapter.layers.{}.self_attn.linear_q.bias",
    "adapter.layers.{}.self_attn.linear_k.weight",
    "adapter.layers.{}.self_attn.linear_k.bias",
    "adapter.layers.{}.self_attn.linear_v.weight",
    "adapter.layers.{}.self_attn.linear_v.bias",
    "adapter.layers.{}.self_attn.linear_out.weight",
    "adapter.layers.{}.self_attn.linear_out.bias",
    "adapter.layers.{}.ffn_layer_norm.weight",
    "adapter.layers.{}.ffn_layer_norm.bias",
    "adapter.layers.{}.ffn.intermediate_dense.weight",
    "adapter.layers.{}.ffn.intermediate_dense.bias",
    "adapter.layers.{}.ffn.output_dense.weight",
    "adapter.layers.{}.ffn.output_dense.bias",
    "lm_head.weight",
    "lm_head.bias",
];

/// The name table. There are no GGUF files of these models.
pub(crate) fn rules() -> Vec<NameRule> {
    let names = NAMES.iter().map(|name| NameRule::optional(name, ""));
    // Stands for masked rows in training.
    names.chain([NameRule::ignored("masked_spec_embed", "")]).collect()
}

/// What the table needs to know of the model.
pub(crate) fn map_options(config: &Wav2Vec2BertConfig) -> MapOptions<'static> {
    let adapter_layers = config.adapter.map_or(0, |adapter| adapter.num_adapter_layers);
    MapOptions { layers: config.num_hidden_layers.max(adapter_layers), prefixes: PREFIXES, ..MapOptions::default() }
}
