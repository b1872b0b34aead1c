//! The checks of every family, on tiny models that reach each switch of this one.

use rlx_core::testing::{TinyModel, gguf_is_safetensors};
use rlx_core::{CausalLm, CoreError, DecoderFamily, Families, Family, LoadOptions, model_suite};
use rlx_qwen3::{Qwen3, Qwen3Config};
use rlx_weights::GgufMetadata;
use serde_json::{Value, json};

const FAMILY: Family = Qwen3::FAMILY;

model_suite!(FAMILY, configs);

fn config(changes: Value) -> Value {
    let mut config = json!({
        "model_type": "qwen3", "vocab_size": 71, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 12, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 128, "rope_theta": 1000000.0, "tie_word_embeddings": false,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

fn experts(changes: Value) -> Value {
    let mut moe = config(json!({
        "model_type": "qwen3_moe", "num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
        "norm_topk_prob": true,
    }));
    for (key, value) in changes.as_object().into_iter().flatten() {
        moe[key] = value.clone();
    }
    moe
}

fn configs() -> Vec<(&'static str, Value)> {
    let yarn = json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32 });
    vec![
        ("qwen3", config(json!({}))),
        ("tied, every bias", config(json!({ "tie_word_embeddings": true, "attention_bias": true }))),
        ("yarn, one key head", config(json!({ "rope_scaling": yarn, "num_key_value_heads": 1, "head_dim": 40 }))),
        ("qwen2", config(json!({ "model_type": "qwen2", "head_dim": 16, "num_attention_heads": 4 }))),
        (
            "qwen2 with windows",
            config(json!({ "model_type": "qwen2", "use_sliding_window": true, "sliding_window": 5,
                "max_window_layers": 1 })),
        ),
        ("experts", experts(json!({}))),
        ("experts in every other layer", experts(json!({ "decoder_sparse_step": 2, "num_experts_per_tok": 7 }))),
        ("experts but for a layer", experts(json!({ "mlp_only_layers": [1], "norm_topk_prob": false }))),
    ]
}

/// What llama.cpp's converter writes for `config`.
fn metadata(config: &Value) -> GgufMetadata {
    let architecture = match config["model_type"].as_str().unwrap() {
        "qwen3_moe" => "qwen3moe",
        name => name,
    };
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", architecture);
    for (key, field) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
        ("vocab_size", "vocab_size"),
        ("expert_count", "num_experts"),
        ("expert_used_count", "num_experts_per_tok"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
    ] {
        if let Some(value) = config[field].as_u64() {
            metadata.set(format!("{architecture}.{key}"), value as u32);
        }
    }
    metadata.set(format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-6f32);
    metadata.set(format!("{architecture}.rope.freq_base"), 1e6f32);
    if config["rope_scaling"].is_object() {
        metadata.set(format!("{architecture}.rope.scaling.type"), "yarn");
        metadata.set(format!("{architecture}.rope.scaling.factor"), 4f32);
        metadata.set(format!("{architecture}.rope.scaling.original_context_length"), 32u32);
    }
    metadata
}

#[test]
fn gguf_files_give_the_same_logits() {
    // GGUF says neither which layers have windows nor that weights are not normalised.
    let said = |name: &str| !matches!(name, "qwen2 with windows" | "experts but for a layer");
    let configs: Vec<_> = configs().into_iter().filter(|(name, _)| said(name)).collect();
    gguf_is_safetensors(&FAMILY, &configs, metadata);
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
    for (changes, text) in [
        (json!({ "hidden_act": "gelu" }), "hidden_act `gelu`"),
        (json!({ "model_type": "qwen2" }), "q_proj.bias"),
        (
            json!({ "layer_types": ["full_attention"], "use_sliding_window": true, "sliding_window": 4 }),
            "names 1 layers",
        ),
        (json!({ "use_sliding_window": true, "sliding_window": 0, "max_window_layers": 0 }), "window of 0"),
        (json!({ "head_dim": 14 }), "[84, 64]"),
    ] {
        let error = error_of(config(json!({})), config(changes.clone())).to_string();
        assert!(error.contains(text), "{changes}: {error}");
    }
    for (changes, text) in [
        (json!({ "num_experts_per_tok": 8 }), "num_experts_per_tok = 8 is not between 1 and 7"),
        (json!({ "num_experts": 8 }), "experts.7."),
        (json!({ "num_experts": 1u64 << 40 }), "num_experts"),
        (json!({ "num_experts": null }), "num_local_experts is missing"),
        (json!({ "moe_intermediate_size": 0 }), "moe_intermediate_size = 0"),
    ] {
        let error = error_of(experts(json!({})), experts(changes.clone())).to_string();
        assert!(error.contains(text), "{changes}: {error}");
    }
}

#[test]
fn other_families_files_are_sent_to_them() {
    let mut families = Families::new();
    families.register(FAMILY);
    families.register(Family { name: "other", gguf_architectures: &[], hf_model_types: &["other"], ..FAMILY });
    let mut other = config(json!({}));
    other["model_type"] = "other".into();
    let checkpoint = TinyModel::new(&FAMILY, &config(json!({})), 5).checkpoint().with_config(other);
    let error = families.expect("qwen3", &checkpoint).unwrap_err().to_string();
    assert!(error.contains("use `rlx-run other`"), "{error}");
}

#[test]
fn the_tiny_config_is_valid() {
    Qwen3Config::tiny().unwrap().validate().unwrap();
}

#[path = "../examples/run_qwen3_gguf.rs"]
#[allow(dead_code, unreachable_pub, reason = "main is not called")]
mod run_qwen3_gguf;
#[path = "../examples/run_qwen3_safetensors.rs"]
#[allow(dead_code, unreachable_pub, reason = "main is not called")]
mod run_qwen3_safetensors;

#[test]
fn examples_run() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = TinyModel::new(&FAMILY, &config(json!({})), 5);
    tiny.write_safetensors(dir.path());
    let ids = run_qwen3_safetensors::run(dir.path(), "1,2,3", 5, &mut std::io::sink()).unwrap();
    assert_eq!(ids.len(), 5);

    let file = dir.path().join("tiny.gguf");
    tiny.write_gguf(&file, metadata(tiny.config()));
    assert_eq!(run_qwen3_gguf::run(&file, "1,2,3", 5, &mut std::io::sink()).unwrap(), ids);
}

#[test]
fn layers_of_draft_heads_are_not_the_models() {
    let tiny = TinyModel::new(&FAMILY, &config(json!({})), 5);
    let plain = tiny.gguf_checkpoint(metadata(tiny.config()));
    let mut more = metadata(tiny.config());
    more.set("qwen3.block_count", 3u32);
    more.set("qwen3.nextn_predict_layers", 1u32);
    let with_heads = tiny.gguf_checkpoint(more);
    let load = |checkpoint| CausalLm::load(checkpoint, &FAMILY, &LoadOptions::default()).unwrap();
    let logits = |model: CausalLm| {
        let mut session = model.session(Default::default()).unwrap();
        model.predict_logits(&mut session, &[1, 2, 3]).unwrap()
    };
    assert_eq!(logits(load(&with_heads)), logits(load(&plain)));
}
