//! Byte-level BPE (`gpt2` vocabularies) and BPE on text with visible spaces (`gemma4`).

use std::sync::Arc;

use rlx_mem::StringArray;

use super::Subword;
use super::merges::{Merges, Scratch};
use super::pretokenize::{PreSpec, Splitter};
use super::texts::TextTable;
use crate::TextError;
use crate::pieces::{BYTE_CHARS, SPM_SPACE};

pub(super) struct Bpe {
    table: Arc<TextTable>,
    merges: Merges,
    splitter: Splitter,
    /// Words that are tokens are not merged.
    ignore_merges: bool,
    visible_space: bool,
    /// Tokens of single bytes, for characters without a token; none where the vocabulary has no such thing.
    bytes: Option<Box<[Option<u32>; 256]>>,
}

impl Bpe {
    pub(super) fn new(
        table: Arc<TextTable>,
        list: &StringArray,
        spec: &PreSpec,
        warnings: &mut Vec<String>,
    ) -> Result<Self, TextError> {
        let mut merges = Merges::with_capacity(list.len());
        let mut unusable = 0usize;
        let mut joined = String::new();
        for merge in list.iter() {
            // The first byte may be a space that belongs to the left part.
            let cut = merge.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(i, _)| i);
            let Some((left, right)) = cut.map(|i| (&merge[..i], &merge[i + 1..])) else {
                unusable += 1;
                continue;
            };
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            match (table.id(left), table.id(right), table.id(&joined)) {
                (Some(left), Some(right), Some(result)) => merges.push(left, right, result),
                _ => unusable += 1,
            }
        }
        if unusable > 0 {
            warnings.push(format!(
                "{unusable} of {} entries of tokenizer.ggml.merges name tokens that are not in the vocabulary; ignored",
                list.len()
            ));
        }
        let byte = |b: usize| table.id(&format!("<0x{b:02X}>"));
        let bytes = spec.visible_space.then(|| Box::new(std::array::from_fn(byte)));
        let (ignore_merges, visible_space) = (spec.ignore_merges, spec.visible_space);
        Ok(Self { table, merges, splitter: spec.splitter()?, ignore_merges, visible_space, bytes })
    }

    fn word(&self, word: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        // A run of line breaks that is a token is taken whole, whatever the merges say.
        let whole = self.ignore_merges || (self.visible_space && word.bytes().all(|b| b == b'\n'));
        if whole && let Some(id) = self.table.id(word) {
            out.push(id);
            return;
        }
        let symbols = word.char_indices().flat_map(|(start, c)| self.symbols(&word[start..start + c.len_utf8()]));
        self.merges.apply(symbols, scratch, out);
    }

    /// The tokens that a character starts as: its own, or those of its bytes. A character that has neither is left out.
    fn symbols(&self, c: &str) -> impl Iterator<Item = u32> {
        let mut ids = [None; 4];
        match (self.table.id(c), &self.bytes) {
            (Some(id), _) => ids[0] = Some(id),
            (None, Some(bytes)) if c.bytes().all(|b| bytes[b as usize].is_some()) => {
                ids.iter_mut().zip(c.bytes()).for_each(|(id, b)| *id = bytes[b as usize]);
            }
            (None, _) => {}
        }
        ids.into_iter().flatten()
    }
}

impl Subword for Bpe {
    fn encode(&self, text: &str, _after_special: bool, out: &mut Vec<u32>) -> Result<(), TextError> {
        let mut scratch = Scratch::default();
        if self.visible_space {
            let escaped = text.replace(' ', SPM_SPACE.encode_utf8(&mut [0; 4]));
            return self.splitter.split(&escaped, |word| {
                self.word(word, &mut scratch, out);
                Ok(())
            });
        }
        let mut encoded = String::new();
        self.splitter.split(text, |word| {
            encoded.clear();
            BYTE_CHARS.encode(word, &mut encoded);
            self.word(&encoded, &mut scratch, out);
            Ok(())
        })
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.table.id(token)
    }
}
