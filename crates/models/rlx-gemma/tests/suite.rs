//! The checks of every family, on tiny models of each generation that reach its switches.

use rlx_core::testing::{TinyModel, gguf_is_safetensors};
use rlx_core::{CausalLm, CoreError, DecoderFamily, Family, LoadOptions, model_suite};
use rlx_gemma::{Gemma, Gemma4Config, GemmaConfig, Generation};
use rlx_weights::gguf::GgufArray;
use rlx_weights::{GgufMetadata, GgufValue};
use serde_json::{Value, json};

const FAMILY: Family = Gemma::FAMILY;

model_suite!(FAMILY, configs);

fn config(model_type: &str, changes: Value) -> Value {
    let mut config = json!({
        "model_type": model_type, "vocab_size": 73, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 12, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 128, "sliding_window": 5,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

/// Windows in all layers but the second and the last; whole heads of 20.
fn gemma4(changes: Value) -> Value {
    let types = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"];
    let mut all = json!({
        "num_hidden_layers": 4, "layer_types": types, "global_head_dim": 20, "final_logit_softcapping": 9.0,
        "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 73, "rope_parameters": {
            "full_attention": { "partial_rotary_factor": 0.4, "rope_theta": 1e6, "rope_type": "proportional" },
            "sliding_attention": { "rope_theta": 1e4, "rope_type": "default" },
        },
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    config("gemma4_text", all)
}

fn configs() -> Vec<(&'static str, Value)> {
    let experts = json!({ "enable_moe_block": true, "num_experts": 5, "top_k_experts": 2, "moe_intermediate_size": 32,
        "attention_k_eq_v": true, "num_global_key_value_heads": 1 });
    vec![
        ("gemma", config("gemma", json!({ "hidden_act": "gelu", "num_key_value_heads": 1 }))),
        (
            "gemma 2",
            config(
                "gemma2",
                json!({ "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0,
            "query_pre_attn_scalar": 12 }),
            ),
        ),
        (
            "gemma 2 without caps",
            config(
                "gemma2",
                json!({ "attn_logit_softcapping": null,
            "final_logit_softcapping": null, "query_pre_attn_scalar": 31 }),
            ),
        ),
        (
            "gemma 3",
            config(
                "gemma3_text",
                json!({ "sliding_window_pattern": 3, "query_pre_attn_scalar": 12,
            "rope_scaling": { "rope_type": "linear", "factor": 8.0 } }),
            ),
        ),
        (
            "gemma 3, untied, biases",
            config(
                "gemma3_text",
                json!({ "sliding_window_pattern": 2,
            "tie_word_embeddings": false, "attention_bias": true, "query_pre_attn_scalar": 40 }),
            ),
        ),
        ("gemma 4", gemma4(json!({}))),
        (
            "gemma 4, shared and per layer",
            gemma4(json!({ "num_kv_shared_layers": 2, "use_double_wide_mlp": true,
            "hidden_size_per_layer_input": 32 })),
        ),
        ("gemma 4 with experts", gemma4(experts)),
    ]
}

/// What llama.cpp's converter writes for `config`.
fn metadata(config: &Value) -> GgufMetadata {
    let architecture = config["model_type"].as_str().unwrap().trim_end_matches("_text");
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", architecture);
    let fourth = architecture == "gemma4";
    let width = if fourth { "global_head_dim" } else { "head_dim" };
    for (key, field) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", width),
        ("attention.value_length", width),
        ("attention.key_length_swa", "head_dim"),
        ("attention.sliding_window", "sliding_window"),
        ("attention.shared_kv_layers", "num_kv_shared_layers"),
        ("embedding_length_per_layer_input", "hidden_size_per_layer_input"),
        ("expert_count", "num_experts"),
        ("expert_used_count", "top_k_experts"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
    ] {
        if let Some(value) = config[field].as_u64() {
            metadata.set(format!("{architecture}.{key}"), value as u32);
        }
    }
    for (key, field) in [
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
        ("rope.scaling.factor", "factor"),
    ] {
        if let Some(value) = config[field].as_f64().or(config["rope_scaling"][field].as_f64()) {
            metadata.set(format!("{architecture}.{key}"), value as f32);
        }
    }
    if config["rope_scaling"].is_object() {
        metadata.set(format!("{architecture}.rope.scaling.type"), "linear");
    }
    metadata.set(format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-6f32);
    let old = matches!(architecture, "gemma" | "gemma2");
    metadata.set(format!("{architecture}.rope.freq_base"), if old { 1e4f32 } else { 1e6 });
    if let Some(pattern) = config["sliding_window_pattern"].as_u64() {
        metadata.set(format!("{architecture}.attention.sliding_window_pattern"), pattern as u32);
    }
    if fourth {
        let types = config["layer_types"].as_array().unwrap();
        let flags = types.iter().map(|kind| kind == "sliding_attention").collect();
        let key = format!("{architecture}.attention.sliding_window_pattern");
        metadata.set(key, GgufValue::Array(GgufArray::Bool(flags)));
    }
    metadata
}

#[test]
fn gguf_files_give_the_same_logits() {
    // Files do not say the scale of queries, and keep Gemma 4's RoPE and widths per layer in ways of their own (see the
    // fixtures).
    let configs: Vec<_> =
        configs().into_iter().filter(|(name, _)| matches!(*name, "gemma" | "gemma 2" | "gemma 3")).collect();
    gguf_is_safetensors(&FAMILY, &configs, metadata);
}

#[test]
fn experts_and_whole_heads_are_read_from_gguf() {
    let config = gemma4(json!({ "enable_moe_block": true, "num_experts": 5, "top_k_experts": 2,
        "moe_intermediate_size": 32, "rope_parameters": {
            "full_attention": { "rope_theta": 1e6, "rope_type": "default" },
            "sliding_attention": { "rope_theta": 1e4, "rope_type": "default" },
        } }));
    gguf_is_safetensors(&FAMILY, &[("gemma 4 with experts", config)], metadata);
}

#[test]
fn pictures_and_sounds_are_left_aside() {
    for (outer, inner) in [("gemma3", "gemma3_text"), ("gemma4", "gemma4_text")] {
        let text = if outer == "gemma4" { gemma4(json!({})) } else { config(inner, json!({})) };
        let tiny = TinyModel::new(&FAMILY, &text, 5);
        let mut tensors: Vec<_> = tiny.tensors().to_vec();
        for tensor in &mut tensors {
            tensor.name = tensor.name.replace("model.", "model.language_model.");
        }
        let mut tower = tensors[0].clone();
        tower.name = "model.vision_tower.patch.weight".into();
        tensors.push(tower);
        let whole = json!({ "model_type": outer, "text_config": text });
        let checkpoint = rlx_weights::Checkpoint::custom("memory", "tiny".as_ref(), vec![], tensors).unwrap();
        let options = LoadOptions::default();
        CausalLm::load(&checkpoint.with_config(whole), &FAMILY, &options).unwrap();
    }
}

fn error_of(of: Value, changed: Value) -> CoreError {
    let checkpoint = TinyModel::new(&FAMILY, &of, 5).checkpoint().with_config(changed);
    match CausalLm::load(&checkpoint, &FAMILY, &LoadOptions::default()) {
        Ok(_) => panic!("loaded"),
        Err(error) => error,
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let third = |changes| config("gemma3_text", changes);
    for (changes, text) in [
        (json!({ "hidden_activation": "silu" }), "hidden_activation `silu`"),
        (json!({ "sliding_window_pattern": 0 }), "sliding_window_pattern is 0"),
        (json!({ "sliding_window": 0 }), "sliding_window is 0"),
        (json!({ "query_pre_attn_scalar": 0 }), "query_pre_attn_scalar = 0 is not positive"),
        (json!({ "layer_types": ["full_attention"] }), "names 1 layers of 3"),
        (json!({ "layer_types": ["full_attention", "full_attention", "conv"] }), "layer type \"conv\""),
        (json!({ "use_bidirectional_attention": true }), "bidirectional"),
        (json!({ "model_type": "gemma2" }), "model.layers.0.self_attn.q_norm.weight"),
    ] {
        let error = error_of(third(json!({})), third(changes.clone())).to_string();
        assert!(error.contains(text), "{changes}: {error}");
    }
    for (changes, text) in [
        (json!({ "num_kv_shared_layers": 4 }), "no layer of its type"),
        (json!({ "num_kv_shared_layers": 3 }), "no layer of its type"),
        (json!({ "enable_moe_block": true }), "num_experts is missing"),
        (json!({ "global_head_dim": 0 }), "0"),
        (json!({ "final_logit_softcapping": 0.0 }), "final_logit_softcapping is not positive"),
    ] {
        let error = error_of(gemma4(json!({})), gemma4(changes.clone())).to_string();
        assert!(error.contains(text), "{changes}: {error}");
    }
}

#[test]
fn published_configs_leave_fields_out() {
    // As published for Gemma 3 4B.
    let four_b = json!({ "model_type": "gemma3", "text_config": { "hidden_size": 2560, "intermediate_size": 10240,
        "model_type": "gemma3_text", "num_hidden_layers": 34, "rope_scaling": { "factor": 8.0, "rope_type": "linear" },
        "sliding_window": 1024 } });
    let config = GemmaConfig::from_hf(&four_b).unwrap();
    assert_eq!(
        (config.sizes.num_attention_heads, config.sizes.num_key_value_heads, config.sizes.head_dim),
        (8, 4, 256)
    );
    assert_eq!(config.sizes.vocab_size, 262_208);
    assert_eq!(config.sliding.iter().filter(|sliding| !**sliding).count(), 5);
    let fourth = Gemma4Config::from_hf(&json!({ "model_type": "gemma4_text" })).unwrap();
    fourth.validate().unwrap();
    assert_eq!((fourth.layers[4].head_dim, fourth.layers[5].head_dim), (256, 512));
    assert_eq!(fourth.rope.inv_freq.iter().filter(|&&f| f != 0.0).count(), 64);
    assert_eq!(fourth.hidden_size_per_layer_input, 256);
}

#[test]
fn tiny_configs_are_valid() {
    for generation in [Generation::Gemma1, Generation::Gemma2, Generation::Gemma3] {
        GemmaConfig::tiny(generation).unwrap().validate().unwrap();
    }
}

#[path = "../examples/run_gemma_gguf.rs"]
#[allow(dead_code, unreachable_pub, reason = "main is not called")]
mod run_gemma_gguf;
#[path = "../examples/run_gemma_safetensors.rs"]
#[allow(dead_code, unreachable_pub, reason = "main is not called")]
mod run_gemma_safetensors;

#[test]
fn examples_run() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = TinyModel::new(&FAMILY, &configs()[0].1.clone(), 5);
    tiny.write_safetensors(dir.path());
    let ids = run_gemma_safetensors::run(dir.path(), "1,2,3", 5, &mut std::io::sink()).unwrap();
    assert_eq!(ids.len(), 5);

    let file = dir.path().join("tiny.gguf");
    tiny.write_gguf(&file, metadata(tiny.config()));
    assert_eq!(run_gemma_gguf::run(&file, "1,2,3", 5, &mut std::io::sink()).unwrap(), ids);
}
