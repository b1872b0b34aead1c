//! Long inputs: the work grows with the length, and the answers stay right.

mod common;

use std::time::{Duration, Instant};

use common::{data, json, stream};
use rlx_text::{GgufVocab, Tokenizer};

const MIB: usize = 1 << 20;

/// Far above what it takes, far below what quadratic work would take.
const PATIENCE: Duration = Duration::from_secs(30);

fn texts(size: usize) -> Vec<(&'static str, String)> {
    let words = "The quick brown fox doesn't jump over 12345 lazy dogs; \u{1F600} naïve 日本語.\n";
    vec![
        ("words", words.repeat(size / words.len())),
        ("one letter", "a".repeat(size)),
        ("two letters", "ab".repeat(size / 2)),
        ("spaces", " ".repeat(size)),
        ("spaces and a word", " ".repeat(size) + "x"),
        ("line breaks", "\n".repeat(size) + "x"),
        ("digits", "1234567890".repeat(size / 10)),
        ("apostrophes", "'".repeat(size)),
        ("marks", "e\u{301}\u{302}".repeat(size / 5)),
        ("markers", "<|im_end|><s></s>".repeat(size / 17)),
        ("broken markers", "<|im_end<|im_".repeat(size / 13)),
    ]
}

fn check(name: &str, t: &Tokenizer, complete: bool, size: usize) {
    for (what, text) in texts(size) {
        let start = Instant::now();
        let ids = t.encode_plain(&text).unwrap();
        assert!(start.elapsed() < PATIENCE, "{name}: {what}: encoding took {:?}", start.elapsed());
        let start = Instant::now();
        let decoded = t.decode(&ids, true).unwrap();
        if complete {
            assert!(decoded == text, "{name}: {what}: decoded text differs");
        }
        assert!(stream(t, &ids) == decoded, "{name}: {what}: streamed text differs");
        assert!(start.elapsed() < PATIENCE, "{name}: {what}: decoding took {:?}", start.elapsed());
    }
}

fn byte_level() -> (Tokenizer, Tokenizer) {
    let file = json("tiny/byte_level/tokenizer.json");
    let map = file["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::new(); map.len()];
    for (token, id) in map {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    let merges = file["model"]["merges"].as_array().unwrap().iter();
    let v = GgufVocab {
        model: "gpt2".into(),
        pre: Some("smollm".into()),
        tokens: tokens.into(),
        merges: Some(merges.map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap())).collect()),
        ..GgufVocab::default()
    };
    let hf = Tokenizer::from_file(&data("tiny/byte_level/tokenizer.json")).unwrap();
    (Tokenizer::from_gguf(&v).unwrap(), hf)
}

#[test]
fn byte_level_bpe() {
    let (gguf, hf) = byte_level();
    check("gguf", &gguf, true, MIB);
    check("tokenizer.json", &hf, true, MIB / 8);
    for (what, text) in texts(MIB / 8) {
        assert!(gguf.encode_plain(&text).unwrap() == hf.encode_plain(&text).unwrap(), "{what}");
    }
}

#[test]
fn what_the_library_would_get_wrong_is_an_error() {
    let (gguf, hf) = byte_level();
    let text = " ".repeat(MIB) + "x";
    assert!(gguf.encode(&text, false).is_ok());
    let e = hf.encode(&text, false).unwrap_err().to_string();
    assert!(e.contains("white space"), "{e}");
    assert!(hf.encode_plain(&text).is_err());
}

#[test]
fn spm() {
    let file = json("tiny/spm/tokenizer.json");
    let map = file["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::new(); map.len()];
    for (token, id) in map {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    let types = tokens.iter().map(|t| if t.starts_with("<0x") { 6 } else { 1 }).collect();
    let v = GgufVocab {
        model: "llama".into(),
        scores: Some((0..tokens.len()).map(|i| -(i as f32)).collect()),
        token_types: Some(types),
        tokens: tokens.into(),
        ..GgufVocab::default()
    };
    check("gguf", &Tokenizer::from_gguf(&v).unwrap(), true, MIB);
    check("tokenizer.json", &Tokenizer::from_file(&data("tiny/spm/tokenizer.json")).unwrap(), true, MIB / 8);
}

#[test]
fn others() {
    check("word_piece", &Tokenizer::from_file(&data("tiny/word_piece/tokenizer.json")).unwrap(), false, MIB / 8);
    check("unigram", &Tokenizer::from_file(&data("tiny/unigram/tokenizer.json")).unwrap(), false, MIB / 8);
}
