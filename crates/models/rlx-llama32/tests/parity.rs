//! Outputs against those recorded from transformers, from both spellings of the config and from llama.cpp's GGUF;
//! and the GGUF file that is made of the model against llama.cpp's.

use rlx_core::parity::{check_conversion, check_fixture};
use rlx_core::{DecoderFamily, Families};
use rlx_llama32::Llama32;

fn check(name: &str) {
    let mut families = Families::new();
    families.register(Llama32::FAMILY);
    let dir = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    check_fixture(&dir, &families);
    // Cases of our own are recorded without a GGUF file.
    if std::path::Path::new(&dir).join("model.f32.gguf").exists() {
        check_conversion(&dir, &families);
    }
}

#[test]
fn llama32_with_three_band_rope() {
    check("llama32");
}

#[test]
fn smollm2_without_head_dim() {
    check("smollm2");
}

#[test]
fn dynamic_rope_goes_by_the_longest_row() {
    check("llama_dynamic");
}
