//! Outputs against those recorded from transformers, from both spellings of the config and from llama.cpp's GGUF.

use rlx_core::parity::check_fixture;
use rlx_core::{DecoderFamily, Families};
use rlx_gemma::Gemma;

fn check(name: &str) {
    let mut families = Families::new();
    families.register(Gemma::FAMILY);
    check_fixture(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR")), &families);
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
