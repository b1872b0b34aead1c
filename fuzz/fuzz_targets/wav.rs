//! `cargo +nightly fuzz run wav fuzz/seeds/wav -- -max_total_time=60` from the root of the repository.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rlx_audio::{AudioReader, MAX_SAMPLE};

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = AudioReader::from_bytes(data.to_vec(), "fuzz.wav") else { return };
    while let Ok(Some(chunk)) = reader.next_chunk() {
        assert!(!chunk.is_empty() && chunk.iter().all(|x| x.abs() <= MAX_SAMPLE));
    }
});
