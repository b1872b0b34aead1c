//! Checks that every decoder family passes, on tiny models of random weights made in memory.
//!
//! [`model_suite!`](crate::model_suite) makes a test of each. A family's own tests add parity with recorded outputs
//! ([`check_fixture`](crate::parity::check_fixture)) and whatever is special about it.

mod checks;
mod hostile;
mod letters;
mod mutate;
mod random;
mod tiny;

pub use checks::{
    batched_is_single, cached_decode_is_recompute, conversion_is_exact, draft_heads_are_left_out,
    drafts_change_nothing, gguf_is_safetensors, instruction_sets_agree, kv_types_agree, packed_is_dequantised,
    state_is_exact, threads_agree,
};
pub use hostile::hostile_configs_are_errors;
pub use letters::letters_tokenizer;
pub use mutate::{fuzz_seeds, mutate};
pub use random::Random;
pub use tiny::TinyModel;

/// A test of each check for a family: `model_suite!(FAMILY, configs)` or `model_suite!(FAMILY, configs, gguf = metadata)`.
///
/// `configs` is a `fn() -> Vec<(&'static str, serde_json::Value)>`: `config.json`s that together reach every switch of the
/// family, by name. `metadata` is a `fn(&serde_json::Value) -> GgufMetadata` that says the same in GGUF's words.
#[macro_export]
macro_rules! model_suite {
    ($family:expr, $configs:expr) => {
        $crate::model_suite!(@tests $family, $configs,
            cached_decode_is_recompute batched_is_single drafts_change_nothing
            draft_heads_are_left_out state_is_exact kv_types_agree instruction_sets_agree
            threads_agree packed_is_dequantised conversion_is_exact hostile_configs_are_errors);
    };
    ($family:expr, $configs:expr, gguf = $metadata:expr) => {
        $crate::model_suite!($family, $configs);

        #[test]
        fn gguf_is_safetensors() {
            $crate::testing::gguf_is_safetensors(&$family, &$configs(), $metadata);
        }
    };
    (@tests $family:expr, $configs:expr, $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                $crate::testing::$check(&$family, &$configs());
            }
        )*
    };
}
