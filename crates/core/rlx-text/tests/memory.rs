//! A large vocabulary costs memory in proportion to its text. One test, since the allocator that counts is that of the whole process.

use peak_alloc::PeakAlloc;
use rlx_text::{GgufVocab, StringArray, Tokenizer};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const TOKENS: usize = 262_144;

/// Words over a few letters: all of one letter, then all of two, and so on, each but the first ones made by a merge.
fn words(letters: &str) -> (StringArray, StringArray) {
    let letters: Vec<String> = letters.chars().map(String::from).collect();
    let (mut tokens, mut merges) = (letters.clone(), Vec::new());
    let mut at = 0;
    while tokens.len() < TOKENS {
        for letter in letters.iter().take(TOKENS - tokens.len()) {
            merges.push(format!("{} {letter}", tokens[at]));
            tokens.push(format!("{}{letter}", tokens[at]));
        }
        at += 1;
    }
    (tokens.into(), merges.into())
}

/// Bytes per token at the peak of loading `vocab`, and bytes per token that the tokenizer keeps.
fn cost(vocab: &GgufVocab) -> (Tokenizer, usize, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
    let peak = ALLOCATOR.peak_usage() - before;
    (tokenizer, peak / TOKENS, (ALLOCATOR.current_usage() - before) / TOKENS)
}

#[test]
fn a_vocabulary_takes_little_more_than_its_text() {
    let (tokens, merges) = words("abcdefgh");
    let text = tokens.text_len() / TOKENS;
    let scores = (0..TOKENS).map(|i| -(i as f32)).collect();
    let spm = GgufVocab { model: "llama".into(), tokens: tokens.clone(), scores: Some(scores), ..GgufVocab::default() };
    let bpe = GgufVocab {
        model: "gpt2".into(),
        pre: Some("qwen2".into()),
        tokens,
        merges: Some(merges),
        ..GgufVocab::default()
    };
    // Texts as stored and as bytes with their ends, an index, scores; merges with their index.
    for (vocab, fixed) in [(spm, 56), (bpe, 76)] {
        let (tokenizer, peak, kept) = cost(&vocab);
        assert_eq!(tokenizer.token_to_id(&vocab.tokens[100_000]), Some(100_000));
        assert!(kept <= peak && peak < 2 * text + fixed, "{}: {peak} bytes per token of {text}", vocab.model);
    }
}
