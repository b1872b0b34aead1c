//! Outputs against those recorded from transformers, from both spellings of the config and from llama.cpp's GGUF;
//! and the GGUF file that is made of the model against llama.cpp's.

use rlx_core::parity::{check_conversion, check_fixture};
use rlx_core::{DecoderFamily, Families};
use rlx_qwen3::Qwen3;

fn check(name: &str) {
    let mut families = Families::new();
    families.register(Qwen3::FAMILY);
    let dir = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    check_fixture(&dir, &families);
    check_conversion(&dir, &families);
}

#[test]
fn qwen2_with_biases() {
    check("qwen2");
}

#[test]
fn qwen3_tied() {
    check("qwen3_tied");
}

#[test]
fn qwen3_untied_with_yarn() {
    check("qwen3_untied_yarn");
}

#[test]
fn qwen3_mixture_of_experts() {
    check("qwen3_moe");
}
