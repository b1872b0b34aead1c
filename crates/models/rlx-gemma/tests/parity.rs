//! Outputs against those recorded from transformers, from both spellings of the config and from llama.cpp's GGUF;
//! and the GGUF file that is made of the model against llama.cpp's.

use rlx_core::parity::{check_conversion, check_fixture};
use rlx_core::{DecoderFamily, Families};
use rlx_gemma::Gemma;

fn check(name: &str) {
    let mut families = Families::new();
    families.register(Gemma::FAMILY);
    let dir = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    check_fixture(&dir, &families);
    // Cases of our own are recorded without a GGUF file.
    if std::path::Path::new(&dir).join("model.f32.gguf").exists() {
        check_conversion(&dir, &families);
    }
}

#[test]
fn gemma1() {
    check("gemma1");
}

#[test]
fn gemma2_with_caps_and_windows() {
    check("gemma2");
}

#[test]
fn gemma2_scaled_by_head_dim() {
    check("gemma2_scale_headdim");
}

#[test]
fn gemma3_with_two_ropes() {
    check("gemma3");
}

#[test]
fn gemma4_with_shared_keys_and_per_layer_inputs() {
    check("gemma4_e2b");
}

#[test]
fn gemma4_with_experts() {
    check("gemma4_moe");
}

#[test]
fn gemma1_with_grouped_queries_and_padding() {
    check("gemma1_gqa2");
}
