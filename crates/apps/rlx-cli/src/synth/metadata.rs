//! Metadata keys, as llama.cpp's converter writes them.

use rlx_weights::GgufMetadata;
use rlx_weights::gguf::{GgufArray, GgufValue};

use super::shapes::Layer;
use super::{FileType, Gemma4, Shape};

/// Version of the block formats that llama.cpp's quantiser notes.
const QUANTIZATION_VERSION: u32 = 2;

pub(super) fn of(shape: &Shape, file_type: FileType) -> GgufMetadata {
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", shape.architecture);
    metadata.set("general.type", "model");
    metadata.set("general.name", format!("{} (random weights)", shape.title));
    metadata.set("general.file_type", file_type.id());
    if file_type.base().is_block() {
        metadata.set("general.quantization_version", QUANTIZATION_VERSION);
    }

    let mut set = |key: &str, value: usize| {
        metadata.set(format!("{}.{key}", shape.architecture), u32::try_from(value).unwrap_or(u32::MAX));
    };
    set("block_count", shape.num_hidden_layers);
    set("context_length", shape.max_position_embeddings);
    set("embedding_length", shape.hidden_size);
    set("feed_forward_length", shape.intermediate_size);
    set("attention.head_count", shape.num_attention_heads);
    set("attention.head_count_kv", shape.num_key_value_heads);
    let head_dim = shape.gemma4.map_or(shape.head_dim, |gemma4| gemma4.global_head_dim);
    set("attention.key_length", head_dim);
    set("attention.value_length", head_dim);
    if let Some(window) = shape.sliding_window {
        set("attention.sliding_window", window);
    }
    if shape.architecture == "llama" {
        set("vocab_size", shape.vocab_size);
        set("rope.dimension_count", shape.head_dim);
    }
    if let Some(moe) = shape.moe {
        set("expert_count", moe.num_experts);
        set("expert_used_count", moe.num_experts_per_tok);
        set("expert_feed_forward_length", moe.moe_intermediate_size);
    }
    metadata.set(format!("{}.rope.freq_base", shape.architecture), shape.rope_theta);
    metadata.set(format!("{}.attention.layer_norm_rms_epsilon", shape.architecture), shape.rms_norm_eps);

    if shape.architecture == "gemma2" {
        metadata.set("gemma2.attn_logit_softcapping", 50.0f32);
        metadata.set("gemma2.final_logit_softcapping", 30.0f32);
    }
    if let Some(gemma4) = &shape.gemma4 {
        describe_gemma4(gemma4, shape, &mut metadata);
    }

    shape.vocab.describe(shape.vocab_size, &mut metadata);
    metadata
}

/// What only files of Gemma 4 have, and sizes that differ from layer to layer.
fn describe_gemma4(gemma4: &Gemma4, shape: &Shape, metadata: &mut GgufMetadata) {
    let size = |value: usize| GgufValue::from(u32::try_from(value).unwrap_or(u32::MAX));
    let of_layers = |size: fn(&Layer) -> usize| -> GgufValue {
        let sizes = shape.layers().map(|layer| i32::try_from(size(&layer)).unwrap_or(i32::MAX));
        sizes.collect::<Vec<i32>>().into()
    };
    let mut set = |key: &str, value: GgufValue| metadata.set(format!("gemma4.{key}"), value);
    set("rope.freq_base_swa", 1e4f32.into());
    set("final_logit_softcapping", 30.0f32.into());
    set("attention.shared_kv_layers", size(gemma4.num_kv_shared_layers));
    set("embedding_length_per_layer_input", size(gemma4.hidden_size_per_layer_input));
    let sliding = shape.layers().map(|layer| layer.sliding).collect();
    set("attention.sliding_window_pattern", GgufValue::Array(GgufArray::Bool(sliding)));
    set("attention.key_length_swa", size(shape.head_dim));
    set("attention.value_length_swa", size(shape.head_dim));
    set("rope.dimension_count", size(gemma4.global_head_dim));
    set("rope.dimension_count_swa", size(shape.head_dim));
    if gemma4.use_double_wide_mlp {
        set("feed_forward_length", of_layers(|layer| layer.intermediate_size));
    }
    if gemma4.num_global_key_value_heads != shape.num_key_value_heads {
        set("attention.head_count_kv", of_layers(|layer| layer.num_key_value_heads));
    }
}
