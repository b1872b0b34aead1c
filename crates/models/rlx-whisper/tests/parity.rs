//! Outputs against those recorded from transformers.

use rlx_core::Families;
use rlx_core::parity::check_fixture;

#[test]
fn whisper_is_the_reference() {
    let mut families = Families::new();
    families.register(rlx_whisper::FAMILY);
    check_fixture(format!("{}/tests/fixtures/whisper", env!("CARGO_MANIFEST_DIR")), &families);
}
