//! Outputs against those recorded from transformers, from both spellings of the config and from llama.cpp's GGUF;
//! and the GGUF file that is made of the model against llama.cpp's.

use rlx_core::parity::{check_conversion, check_fixture};
use rlx_core::{DecoderFamily, Families};
use rlx_minicpm5::MiniCpm5;

fn check(name: &str) {
    let mut families = Families::new();
    families.register(MiniCpm5::FAMILY);
    let dir = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    check_fixture(&dir, &families);
    check_conversion(&dir, &families);
}

#[test]
fn minicpm5() {
    check("minicpm5");
}
