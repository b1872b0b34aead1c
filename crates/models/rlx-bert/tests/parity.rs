//! Outputs recorded from transformers, in every form that a fixture has.

use rlx_core::Families;
use rlx_core::parity::{check_conversion, check_fixture};

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn families() -> Families {
    let mut families = Families::new();
    families.register(rlx_bert::FAMILY);
    families
}

#[test]
fn bert() {
    check_fixture(fixture("bert"), &families());
}

#[test]
fn bert_mlm() {
    check_fixture(fixture("bert_mlm"), &families());
}

/// Recorded by `scripts/reference/record_encoders.py`: odd sizes, other activations, text types, padding inside of texts, cross-encoders,
/// and a masked-language-model head with a table and a bias of its own.
#[test]
fn other_shapes() {
    for name in ["bert_odd", "bert_wide_gelu_new", "bert_cross_encoder", "bert_three_labels", "bert_mlm_untied"] {
        check_fixture(fixture(name), &families());
    }
}

#[test]
fn converted_files_are_those_of_llama_cpp() {
    for name in ["bert", "bert_mlm"] {
        check_conversion(fixture(name), &families());
    }
}
