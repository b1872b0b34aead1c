//! Metadata keys, as llama.cpp's converter writes them.

use rlx_weights::GgufMetadata;

use super::{FileType, Shape};

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
    set("attention.key_length", shape.head_dim);
    set("attention.value_length", shape.head_dim);
    if let Some(window) = shape.sliding_window {
        set("attention.sliding_window", window);
    }
    if shape.architecture == "llama" {
        set("vocab_size", shape.vocab_size);
        set("rope.dimension_count", shape.head_dim);
    }
    metadata.set(format!("{}.rope.freq_base", shape.architecture), shape.rope_theta);
    metadata.set(format!("{}.attention.layer_norm_rms_epsilon", shape.architecture), shape.rms_norm_eps);

    shape.vocab.describe(shape.vocab_size, &mut metadata);
    metadata
}
