//! Outputs against those recorded from transformers, from both spellings of the config and from llama.cpp's GGUF.

use rlx_core::parity::check_fixture;
use rlx_core::{DecoderFamily, Families};
use rlx_llama32::Llama32;

fn check(name: &str) {
    let mut families = Families::new();
    families.register(Llama32::FAMILY);
    check_fixture(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR")), &families);
}

#[test]
fn llama32_with_three_band_rope() {
    check("llama32");
}

#[test]
fn smollm2_without_head_dim() {
    check("smollm2");
}
