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

#[test]
fn converted_files_are_those_of_llama_cpp() {
    for name in ["bert", "bert_mlm"] {
        check_conversion(fixture(name), &families());
    }
}
