//! Files cut short, files with flipped bytes, and the corpus of the fuzz targets: errors of one line, never a panic.

use std::path::Path;

use proptest::prelude::*;
use rlx_core::testing::{Random, fuzz_seeds, mutate};
use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::gguf::{self, GgufArray, GgufWriter};
use rlx_weights::inspect::inspect;
use rlx_weights::{OpenOptions, TensorView, WeightsError, safetensors_file};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llama32").join(name)).unwrap()
}

/// A GGUF of about a kilobyte in which most bytes mean something.
fn dense_gguf() -> Vec<u8> {
    let mut writer = GgufWriter::new("llama");
    writer.set("general.alignment", 32u32).set("a.f64", 0.5f64).set("a.flags", vec![true, false]);
    writer.set("tokenizer.ggml.tokens", &["<s>", "a", "b"][..]).set("tokenizer.ggml.scores", vec![0.0f32, -1.0, -2.0]);
    writer.set(
        "a.nested",
        GgufArray::Array(vec![GgufArray::I32(vec![1]), GgufArray::Array(vec![GgufArray::U8(vec![])])]),
    );
    for (name, dtype, shape) in [("w", DType::F32, &[2, 3][..]), ("q", DType::Q4_K, &[1, 256]), ("h", DType::F16, &[4])]
    {
        writer.add_tensor(name, dtype, shape).unwrap();
    }
    let mut stream = writer.start(Vec::new()).unwrap();
    stream.write(&[1; 24]).unwrap();
    stream.write(&[2; 144]).unwrap();
    stream.write(&[3; 8]).unwrap();
    stream.finish().unwrap()
}

fn dense_safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([1; 32]);
    bytes
}

fn parse_gguf(bytes: &[u8]) -> Result<Vec<TensorView>, WeightsError> {
    gguf::parse(&Bytes::copy_from(bytes), "x.gguf".as_ref()).map(|file| file.tensors)
}

fn parse_safetensors(bytes: &[u8]) -> Result<Vec<TensorView>, WeightsError> {
    safetensors_file::parse(&Bytes::copy_from(bytes), "x".as_ref()).map(|file| file.tensors)
}

/// What a program does with a file: read every tensor, or show the message.
fn digest(result: Result<Vec<TensorView>, WeightsError>, file_len: usize) -> bool {
    match result {
        Ok(tensors) => {
            let bytes: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
            assert!(bytes <= file_len, "tensors share bytes");
            for tensor in &tensors {
                assert_eq!(tensor.to_f32().unwrap().len(), tensor.element_count());
            }
            true
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 1000 && !text.contains(char::is_control), "{text:?}");
            false
        }
    }
}

#[test]
fn every_cut_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["model.f32.gguf", "model.safetensors"] {
        let (whole, path) = (fixture(name), dir.path().join(name));
        for step in 0..64 {
            let cut = &whole[..whole.len() * step / 64];
            std::fs::write(&path, cut).unwrap();
            let error = inspect(&path, &OpenOptions::default()).expect_err("cut").to_string();
            assert!(error.contains("cut short") || error.contains("empty"), "{step}/64: {error}");
            assert!(!error.contains('\n'));
        }
    }
    // Byte by byte through a small file, whose end is the padding of the last tensor.
    let whole = dense_gguf();
    for len in 0..whole.len() - 24 {
        assert!(!digest(parse_gguf(&whole[..len]), len), "{len}");
    }
    assert!(digest(parse_gguf(&whole[..whole.len() - 24]), whole.len()));
    let whole = dense_safetensors();
    for len in 0..whole.len() {
        assert!(!digest(parse_safetensors(&whole[..len]), len), "{len}");
    }
}

fn replay(target: &str, own: [Vec<u8>; 2], parse: fn(&[u8]) -> Result<Vec<TensorView>, WeightsError>) {
    let mut random = Random::new(1);
    let mut accepted = 0;
    for (i, seed) in own.into_iter().chain(fuzz_seeds(target)).enumerate() {
        // The first two are whole files; what the fuzzer found need not be.
        assert!(digest(parse(&seed), seed.len()) || i >= 2);
        let rounds = if seed.len() < 1 << 14 { 10_000 } else { 300 };
        for _ in 0..rounds {
            let bytes = mutate(&seed, &mut random);
            accepted += usize::from(digest(parse(&bytes), bytes.len()));
        }
    }
    assert!(accepted > 0, "the mutations should leave some files readable");
}

#[test]
fn mutated_gguf_corpus() {
    replay("gguf", [dense_gguf(), fixture("model.f32.gguf")], parse_gguf);
}

#[test]
fn mutated_safetensors_corpus() {
    replay("safetensors", [dense_safetensors(), fixture("model.safetensors")], parse_safetensors);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        for (mut bytes, parse) in [
            (dense_gguf(), parse_gguf as fn(&[u8]) -> Result<Vec<TensorView>, WeightsError>),
            (dense_safetensors(), parse_safetensors),
        ] {
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            digest(parse(&bytes), bytes.len());
        }
    }

    #[test]
    fn any_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let gguf = [&b"GGUF\x03\0\0\0"[..], &tail].concat();
        digest(parse_gguf(&gguf), gguf.len());
        digest(parse_safetensors(&tail), tail.len());
    }
}
