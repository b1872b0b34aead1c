//! Byte-level BPE (`gpt2` vocabularies) and BPE on text with visible spaces (`gemma4`).

use ahash::{AHashMap, AHashSet};
use tokenizers::Model;
use tokenizers::models::bpe::BPE;

use super::Subword;
use super::pretokenize::{PreSpec, Splitter};
use crate::TextError;
use crate::pieces::{BYTE_CHARS, SPM_SPACE};

pub(super) struct Bpe {
    model: BPE,
    splitter: Splitter,
    visible_space: bool,
}

impl Bpe {
    pub(super) fn new(
        tokens: &[String],
        merges: &[String],
        spec: &PreSpec,
        warnings: &mut Vec<String>,
    ) -> Result<Self, TextError> {
        let mut vocab: AHashMap<String, u32> = AHashMap::with_capacity(tokens.len());
        for (id, token) in (0u32..).zip(tokens) {
            vocab.entry(token.clone()).or_insert(id);
        }
        let mut pairs = Vec::with_capacity(merges.len());
        let mut seen: AHashSet<(u32, u32)> = AHashSet::with_capacity(merges.len());
        let mut unusable = 0usize;
        let mut joined = String::new();
        for merge in merges {
            // The first byte may be a space that belongs to the left part.
            let cut = merge.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(i, _)| i);
            let Some((left, right)) = cut.map(|i| (&merge[..i], &merge[i + 1..])) else {
                unusable += 1;
                continue;
            };
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            match (vocab.get(left), vocab.get(right), vocab.get(&joined)) {
                (Some(&l), Some(&r), Some(_)) => {
                    // The first rank of a repeated pair counts.
                    if seen.insert((l, r)) {
                        pairs.push((left.to_owned(), right.to_owned()));
                    }
                }
                _ => unusable += 1,
            }
        }
        if unusable > 0 {
            warnings.push(format!(
                "{unusable} of {} entries of tokenizer.ggml.merges name tokens that are not in the vocabulary; ignored",
                merges.len()
            ));
        }
        let model = BPE::builder()
            .vocab_and_merges(vocab, pairs)
            .ignore_merges(spec.ignore_merges)
            .byte_fallback(spec.visible_space)
            .build()
            .map_err(|e| TextError::Vocab(e.to_string()))?;
        Ok(Self { model, splitter: spec.splitter()?, visible_space: spec.visible_space })
    }

    fn word(&self, word: &str, out: &mut Vec<u32>) -> Result<(), TextError> {
        // A run of line breaks that is a token is taken whole, whatever the merges say.
        if self.visible_space
            && word.bytes().all(|b| b == b'\n')
            && let Some(id) = self.model.token_to_id(word)
        {
            out.push(id);
            return Ok(());
        }
        let ids = self.model.tokenize(word).map_err(|e| TextError::Encode(e.to_string()))?;
        out.extend(ids.iter().map(|t| t.id));
        Ok(())
    }
}

impl Subword for Bpe {
    fn encode(&self, text: &str, _after_special: bool, out: &mut Vec<u32>) -> Result<(), TextError> {
        if self.visible_space {
            let escaped = text.replace(' ', SPM_SPACE.encode_utf8(&mut [0; 4]));
            return self.splitter.split(&escaped, |word| self.word(word, out));
        }
        let mut encoded = String::new();
        self.splitter.split(text, |word| {
            encoded.clear();
            BYTE_CHARS.encode(word, &mut encoded);
            self.word(&encoded, out)
        })
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.model.token_to_id(token)
    }
}
