//! `cargo +nightly fuzz run gguf fuzz/seeds/gguf -- -max_total_time=60` from the root of the repository.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rlx_mem::Bytes;

fuzz_target!(|data: &[u8]| {
    if let Ok(file) = rlx_weights::gguf::parse(&Bytes::copy_from(data), "fuzz".as_ref()) {
        for tensor in &file.tensors {
            let values = tensor.to_f32().expect("a tensor that was accepted can be read");
            assert_eq!(values.len(), tensor.element_count());
        }
    }
});
