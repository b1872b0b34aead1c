//! Outputs against those recorded from transformers, from both spellings of the config and from llama.cpp's GGUF.

use rlx_core::parity::check_fixture;
use rlx_core::{DecoderFamily, Families};
use rlx_minicpm5::MiniCpm5;

fn check(name: &str) {
    let mut families = Families::new();
    families.register(MiniCpm5::FAMILY);
    check_fixture(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR")), &families);
}

#[test]
fn minicpm5() {
    check("minicpm5");
}
