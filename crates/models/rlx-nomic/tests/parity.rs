//! Outputs recorded from transformers, in every form that a fixture has.

use rlx_core::Families;
use rlx_core::parity::{check_conversion, check_fixture};

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn families() -> Families {
    let mut families = Families::new();
    families.register(rlx_nomic::FAMILY);
    families
}

#[test]
fn nomic_bert() {
    check_fixture(fixture("nomic_bert"), &families());
}

/// Recorded by `scripts/reference/record_encoders.py`: other sizes, a single kind of text, padding inside of texts.
#[test]
fn other_shapes() {
    for name in ["nomic_odd", "nomic_one_type"] {
        check_fixture(fixture(name), &families());
    }
}

/// The fixture's second spelling of the config names another longest text, so that the converter would write another number.
#[test]
fn converted_files_are_those_of_llama_cpp() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "model.f32.gguf"] {
        std::fs::copy(fixture("nomic_bert").join(file), dir.path().join(file)).unwrap();
    }
    check_conversion(dir.path(), &families());
}
