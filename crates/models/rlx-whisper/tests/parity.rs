//! Outputs against those recorded from transformers.

use rlx_core::Families;
use rlx_core::parity::check_fixture;

fn check(fixture: &str) {
    let mut families = Families::new();
    families.register(rlx_whisper::FAMILY);
    check_fixture(format!("{}/tests/fixtures/{fixture}", env!("CARGO_MANIFEST_DIR")), &families);
}

#[test]
fn whisper_is_the_reference() {
    check("whisper");
}

/// Recorded by `scripts/reference/record_whisper_shapes.py`: odd sizes, other activations, heads that differ between the sides.
#[test]
fn other_shapes() {
    check("whisper_relu_scale");
    check("whisper_one_head");
}
