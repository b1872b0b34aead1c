//! The checks of every family, on tiny models that reach each switch of this one.

use rlx_core::testing::{TinyModel, gguf_is_safetensors};
use rlx_core::{CausalLm, CoreError, DecoderFamily, Family, LoadOptions, model_suite};
use rlx_llama32::{Llama32, Llama32Config};
use rlx_weights::{Checkpoint, GgufMetadata};
use serde_json::{Value, json};

const FAMILY: Family = Llama32::FAMILY;

model_suite!(FAMILY, configs);

fn config(changes: Value) -> Value {
    let mut config = json!({
        "model_type": "llama", "vocab_size": 67, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 128,
        "rope_theta": 10000.0, "tie_word_embeddings": false,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

fn configs() -> Vec<(&'static str, Value)> {
    let llama3 = json!({ "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32 });
    let yarn = json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32 });
    vec![
        ("plain", config(json!({}))),
        ("tied", config(json!({ "tie_word_embeddings": true, "rope_scaling": { "type": "linear", "factor": 2.0 } }))),
        ("biases", config(json!({ "attention_bias": true, "mlp_bias": true, "num_key_value_heads": 4 }))),
        ("wide heads", config(json!({ "head_dim": 40, "num_key_value_heads": 1, "rope_parameters": llama3 }))),
        ("yarn", config(json!({ "rope_scaling": yarn, "hidden_size": 256, "num_hidden_layers": 1 }))),
        ("dynamic", config(json!({ "rope_scaling": { "rope_type": "dynamic", "factor": 2.0 } }))),
    ]
}

/// What llama.cpp's converter writes for `config`.
fn metadata(config: &Value) -> GgufMetadata {
    let size = |key: &str| config[key].as_u64().map(|n| n as u32);
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", "llama");
    let heads = size("num_attention_heads").unwrap();
    let head_dim = size("head_dim").unwrap_or(size("hidden_size").unwrap() / heads);
    for (key, value) in [
        ("block_count", size("num_hidden_layers").unwrap()),
        ("context_length", size("max_position_embeddings").unwrap()),
        ("embedding_length", size("hidden_size").unwrap()),
        ("feed_forward_length", size("intermediate_size").unwrap()),
        ("attention.head_count", heads),
        ("attention.head_count_kv", size("num_key_value_heads").unwrap()),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
        ("rope.dimension_count", head_dim),
        ("vocab_size", size("vocab_size").unwrap()),
    ] {
        metadata.set(format!("llama.{key}"), value);
    }
    metadata.set("llama.attention.layer_norm_rms_epsilon", config["rms_norm_eps"].as_f64().unwrap() as f32);
    metadata.set("llama.rope.freq_base", config["rope_theta"].as_f64().unwrap() as f32);
    let scaling = &config["rope_scaling"];
    if let Some(kind) = scaling["rope_type"].as_str().or(scaling["type"].as_str()) {
        metadata.set("llama.rope.scaling.type", kind);
        metadata.set("llama.rope.scaling.factor", scaling["factor"].as_f64().unwrap() as f32);
        if let Some(original) = scaling["original_max_position_embeddings"].as_u64() {
            metadata.set("llama.rope.scaling.original_context_length", original as u32);
        }
    }
    metadata
}

#[test]
fn gguf_files_give_the_same_logits() {
    // The three bands of Llama 3 stand in a tensor of their own (see the fixture); GGUF has no dynamic scaling.
    let configs: Vec<_> =
        configs().into_iter().filter(|(name, _)| !matches!(*name, "wide heads" | "dynamic")).collect();
    gguf_is_safetensors(&FAMILY, &configs, metadata);
}

/// The error of loading `config` with the weights of the plain model.
fn error_of(changes: Value) -> CoreError {
    let tiny = TinyModel::new(&FAMILY, &config(json!({})), 5);
    let checkpoint = tiny.checkpoint().with_config(config(changes));
    match CausalLm::load(&checkpoint, &FAMILY, &LoadOptions::default()) {
        Ok(_) => panic!("loaded"),
        Err(error) => error,
    }
}

#[test]
fn errors_say_what_is_wrong() {
    for (changes, text) in [
        (json!({ "num_attention_heads": 0 }), "num_attention_heads = 0 is not between 1 and"),
        (json!({ "num_key_value_heads": 3 }), "num_attention_heads = 4 is no multiple of num_key_value_heads = 3"),
        (json!({ "num_key_value_heads": 0 }), "num_key_value_heads = 0 is not between 1 and"),
        (json!({ "hidden_size": null }), "hidden_size is missing"),
        (json!({ "hidden_size": 1u64 << 60 }), "are more than"),
        (json!({ "hidden_size": 1u64 << 60, "head_dim": 16 }), "hidden_size = 1152921504606846976 is not between"),
        (json!({ "head_dim": 15 }), "15"),
        (json!({ "vocab_size": 68 }), "model.embed_tokens.weight"),
        (json!({ "num_hidden_layers": 3 }), "model.layers.2."),
        (json!({ "num_hidden_layers": 1 }), "model.layers.1."),
        (json!({ "mlp_bias": true }), "bias"),
        (json!({ "rope_scaling": { "rope_type": "longrope" } }), "rope scaling `longrope` is not supported"),
        (json!({ "rope_scaling": { "rope_type": "linear" } }), "needs factor"),
        (json!({ "rms_norm_eps": "small" }), "rms_norm_eps is \"small\", not a number"),
        (json!({ "hidden_act": "gelu" }), "gelu"),
    ] {
        let error = error_of(changes.clone()).to_string();
        assert!(error.contains(text), "{changes}: {error}");
    }
}

#[test]
fn gguf_without_a_key_names_it() {
    let plain = config(json!({}));
    let tiny = TinyModel::new(&FAMILY, &plain, 5);
    let full = metadata(&plain);
    for key in ["block_count", "embedding_length", "attention.head_count", "feed_forward_length", "context_length"] {
        let key = format!("llama.{key}");
        let mut less = GgufMetadata::default();
        for (name, value) in full.iter().filter(|(name, _)| *name != key) {
            less.set(name, value.clone());
        }
        let checkpoint: Checkpoint = tiny.gguf_checkpoint(less);
        let error = Llama32Config::from_checkpoint(&checkpoint).unwrap_err().to_string();
        assert!(error.contains(&key), "{key}: {error}");
    }
}
