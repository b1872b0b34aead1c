//! Dummy vocabularies: every text can be tokenised, and every token reads as lower-case letters.

use rlx_weights::GgufMetadata;
use rlx_weights::gguf::{GgufArray, GgufValue, StringArray};

/// Kind of a vocabulary: tokenizer, pre-tokenizer and special tokens of a published one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Vocab {
    Llama3,
    SmolLm2,
    MiniCpm5,
    Qwen,
    Gemma,
    Gemma4,
}

struct Facts {
    /// `tokenizer.ggml.model`: `gpt2` is byte-level BPE, `llama` SentencePiece, `gemma4` BPE on SentencePiece's tokens.
    model: &'static str,
    /// `tokenizer.ggml.pre`, where the model does not imply it.
    pre: Option<&'static str>,
    /// Id of the first special token.
    first: usize,
    specials: &'static [&'static str],
    bos: &'static str,
    eos: &'static str,
    add_bos: bool,
}

// Values of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

impl Vocab {
    fn facts(self) -> Facts {
        match self {
            Vocab::Llama3 => Facts {
                model: "gpt2",
                pre: Some("llama-bpe"),
                first: 128_000,
                specials: &["<|begin_of_text|>", "<|end_of_text|>"],
                bos: "<|begin_of_text|>",
                eos: "<|end_of_text|>",
                add_bos: true,
            },
            Vocab::SmolLm2 => Facts {
                model: "gpt2",
                pre: Some("smollm"),
                first: 0,
                specials: &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                bos: "<|endoftext|>",
                eos: "<|endoftext|>",
                add_bos: false,
            },
            Vocab::MiniCpm5 => Facts {
                model: "gpt2",
                pre: Some("minicpm5"),
                first: 0,
                specials: &["<s>", "</s>"],
                bos: "<s>",
                eos: "</s>",
                add_bos: false,
            },
            Vocab::Qwen => Facts {
                model: "gpt2",
                pre: Some("qwen2"),
                first: 151_643,
                specials: &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                bos: "<|endoftext|>",
                eos: "<|im_end|>",
                add_bos: false,
            },
            Vocab::Gemma => Facts {
                model: "llama",
                pre: Some("default"),
                first: 0,
                specials: &["<pad>", "<eos>", "<bos>", "<unk>"],
                bos: "<bos>",
                eos: "<eos>",
                add_bos: true,
            },
            Vocab::Gemma4 => Facts { model: "gemma4", pre: None, ..Vocab::Gemma.facts() },
        }
    }

    /// Writes a vocabulary of `size` tokens into `metadata`.
    pub(super) fn describe(self, size: usize, metadata: &mut GgufMetadata) {
        let facts = self.facts();
        let sentencepiece = facts.model != "gpt2";
        let mut pieces = if sentencepiece { sentencepiece_bytes() } else { byte_level_bytes() };
        // A vocabulary smaller than the published one has its special tokens at the end.
        let first = facts.first.min(size.saturating_sub(facts.specials.len()));
        let mut words = Words::default();
        let (mut tokens, mut types) = (StringArray::default(), Vec::with_capacity(size));
        let (mut merges, mut scores) = (StringArray::default(), Vec::with_capacity(size));
        for id in 0..size {
            let special = id.checked_sub(first).and_then(|i| facts.specials.get(i));
            let (text, kind) = if let Some(text) = special {
                ((*text).to_owned(), if *text == "<unk>" { UNKNOWN } else { CONTROL })
            } else if first > 0 && id > first {
                (format!("[PAD{id}]"), UNUSED)
            } else if let Some(piece) = pieces.next() {
                piece
            } else {
                let word = words.next();
                let (left, right) = word.split_at(word.len() - 1);
                merges.push(&format!("{left} {right}"));
                (word, NORMAL)
            };
            tokens.push(&text);
            types.push(kind);
            scores.push(-(id as f32));
        }
        let id_of = |text: &str| tokens.iter().position(|token| token == text).unwrap_or(0) as u32;
        metadata.set("tokenizer.ggml.model", facts.model);
        if let Some(pre) = facts.pre {
            metadata.set("tokenizer.ggml.pre", pre);
        }
        metadata.set("tokenizer.ggml.bos_token_id", id_of(facts.bos));
        metadata.set("tokenizer.ggml.eos_token_id", id_of(facts.eos));
        metadata.set("tokenizer.ggml.add_bos_token", facts.add_bos);
        if sentencepiece {
            metadata.set("tokenizer.ggml.unknown_token_id", id_of("<unk>"));
            metadata.set("tokenizer.ggml.padding_token_id", id_of("<pad>"));
            metadata.set("tokenizer.ggml.add_eos_token", false);
            metadata.set("tokenizer.ggml.add_space_prefix", false);
            metadata.set("tokenizer.ggml.scores", scores);
        }
        if facts.model != "llama" {
            metadata.set("tokenizer.ggml.merges", GgufValue::Array(GgufArray::String(merges)));
        }
        metadata.set("tokenizer.ggml.tokens", GgufValue::Array(GgufArray::String(tokens)));
        metadata.set("tokenizer.ggml.token_type", types);
    }
}

/// The 256 characters that stand for bytes in byte-level BPE (GPT-2): printable bytes for themselves, the others in
/// order from U+0100.
fn byte_level_bytes() -> Box<dyn Iterator<Item = (String, i32)>> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100u32;
    Box::new((0..=255u8).map(move |byte| {
        let code = if printable(byte) {
            u32::from(byte)
        } else {
            next += 1;
            next - 1
        };
        (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).to_string(), NORMAL)
    }))
}

/// The byte tokens of SentencePiece, then a space and the letters that words begin with.
fn sentencepiece_bytes() -> Box<dyn Iterator<Item = (String, i32)>> {
    let bytes = (0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
    let letters = std::iter::once('\u{2581}').chain('a'..='z').map(|letter| (letter.to_string(), NORMAL));
    Box::new(bytes.chain(letters))
}

/// All words of two or more letters, shorter ones first, so that each is an earlier one and a letter.
#[derive(Default)]
struct Words {
    count: usize,
}

impl Words {
    fn next(&mut self) -> String {
        let (mut rest, mut len, mut of_this_len) = (self.count, 2, 26 * 26);
        self.count += 1;
        while rest >= of_this_len {
            rest -= of_this_len;
            of_this_len *= 26;
            len += 1;
        }
        let mut word = vec![b'a'; len];
        for letter in word.iter_mut().rev() {
            *letter += (rest % 26) as u8;
            rest /= 26;
        }
        word.into_iter().map(char::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn strings(metadata: &GgufMetadata, key: &str) -> Vec<String> {
        match metadata.get(key) {
            Some(GgufValue::Array(GgufArray::String(strings))) => strings.to_vec(),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn tokens_are_distinct_and_merges_make_tokens() {
        for (vocab, size) in [
            (Vocab::Llama3, 128_256),
            (Vocab::Qwen, 2000),
            (Vocab::SmolLm2, 49_152),
            (Vocab::MiniCpm5, 3000),
            (Vocab::Gemma, 40_000),
            (Vocab::Gemma4, 3000),
        ] {
            let mut metadata = GgufMetadata::default();
            vocab.describe(size, &mut metadata);
            let tokens = strings(&metadata, "tokenizer.ggml.tokens");
            let set: HashSet<&str> = tokens.iter().map(String::as_str).collect();
            assert_eq!((tokens.len(), set.len()), (size, size), "{vocab:?}");
            let eos = metadata.get_u32("tokenizer.ggml.eos_token_id").unwrap() as usize;
            assert_eq!(tokens[eos], vocab.facts().eos);
            if vocab != Vocab::Gemma {
                let merges = strings(&metadata, "tokenizer.ggml.merges");
                assert!(!merges.is_empty());
                for merge in merges {
                    let (left, right) = merge.split_once(' ').unwrap();
                    assert!([left, right, &merge.replace(' ', "")].iter().all(|part| set.contains(part)), "{merge}");
                }
            }
        }
    }

    #[test]
    fn words_grow() {
        let mut words = Words::default();
        let first: Vec<String> = (0..26 * 26 + 27).map(|_| words.next()).collect();
        assert_eq!((&*first[0], &*first[27], &*first[675]), ("aa", "bb", "zz"));
        assert_eq!((&*first[676], &*first[702]), ("aaa", "aba"));
    }
}
