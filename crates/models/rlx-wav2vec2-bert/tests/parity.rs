//! Outputs against those recorded from transformers.

use rlx_core::Families;
use rlx_core::parity::check_fixture;

fn check(name: &str) {
    let mut families = Families::new();
    families.register(rlx_wav2vec2_bert::FAMILY);
    check_fixture(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR")), &families);
}

#[test]
fn encoder_with_clamped_distances_and_padding() {
    check("wav2vec2_bert");
}

#[test]
fn adapter_sees_the_padding() {
    check("wav2vec2_bert_adapter");
}

#[test]
fn ctc_head_over_rows_of_three_lengths() {
    check("ctc");
}

#[test]
fn two_adapter_layers_after_an_intermediate_feed_forward() {
    check("ctc_adapter");
}

#[test]
fn rotary_positions() {
    check("rotary");
}

#[test]
fn projected_distances_beyond_the_table() {
    check("relative");
}

#[test]
fn no_positions() {
    check("no_positions");
}

#[test]
fn distances_and_kernels_of_published_size() {
    check("long");
}

#[test]
fn adapter_that_counts_other_rows_than_it_makes() {
    check("adapter_kernel_5_stride_3");
}

#[test]
fn adapter_without_a_mask() {
    check("adapter_unmasked");
}
