//! SentencePiece Unigram (`t5` vocabularies).

use std::panic::{AssertUnwindSafe, catch_unwind};

use rlx_mem::StringArray;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::{Model, NormalizedString, Normalizer};

use super::Subword;
use crate::TextError;
use crate::pieces::{SPM_SPACE, TokenKind};

pub(super) struct UnigramLm {
    model: Unigram,
    charsmap: Option<Precompiled>,
    add_space_prefix: bool,
    remove_extra_whitespaces: bool,
}

impl UnigramLm {
    pub(super) fn new(
        tokens: &StringArray,
        scores: &[f32],
        kinds: &[TokenKind],
        unk: Option<u32>,
        add_space_prefix: bool,
        remove_extra_whitespaces: bool,
        charsmap: Option<&[u8]>,
    ) -> Result<Self, TextError> {
        if let Some(i) = scores.iter().position(|s| s.is_nan()) {
            return Err(TextError::Vocab(format!("tokenizer.ggml.scores[{i}] is not a number")));
        }
        let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let vocab = (0usize..)
            .zip(tokens.iter())
            .map(|(i, token)| match kinds[i] {
                TokenKind::Normal | TokenKind::Unused => (token.to_owned(), f64::from(scores[i])),
                TokenKind::UserDefined => (token.to_owned(), 0.0),
                // Not to be found in text, and no part in the range of scores.
                _ => (format!("\u{10FFFF}{i}\u{10FFFF}"), f64::from(best)),
            })
            .collect();
        let model =
            Unigram::from(vocab, unk.map(|id| id as usize), false).map_err(|e| TextError::Vocab(e.to_string()))?;
        let charsmap = charsmap.filter(|m| !m.is_empty()).map(parse_charsmap).transpose()?;
        Ok(Self { model, charsmap, add_space_prefix, remove_extra_whitespaces })
    }

    fn normalize(&self, text: &str) -> Result<String, TextError> {
        let mapped = match &self.charsmap {
            None => text.to_owned(),
            Some(map) => {
                let mut s = NormalizedString::from(text);
                // The double array of the file is walked unchecked by the library; a broken one is an error here.
                catch_unwind(AssertUnwindSafe(|| map.normalize(&mut s)))
                    .map_err(|_| TextError::Vocab("tokenizer.ggml.precompiled_charsmap is broken".into()))?
                    .map_err(|e| TextError::Encode(e.to_string()))?;
                s.get().to_owned()
            }
        };
        let mut out = String::with_capacity(mapped.len() + 3);
        let body = if self.remove_extra_whitespaces { mapped.trim_matches(' ') } else { &mapped };
        if self.add_space_prefix && !body.is_empty() {
            out.push(SPM_SPACE);
        }
        let mut space_before = false;
        for c in body.chars() {
            if c == ' ' {
                if !(space_before && self.remove_extra_whitespaces) {
                    out.push(SPM_SPACE);
                }
            } else {
                out.push(c);
            }
            space_before = c == ' ';
        }
        Ok(out)
    }
}

fn parse_charsmap(map: &[u8]) -> Result<Precompiled, TextError> {
    let broken = || TextError::Vocab("tokenizer.ggml.precompiled_charsmap is broken".into());
    let size = map.first_chunk::<4>().map(|b| u32::from_le_bytes(*b)).ok_or_else(broken)?;
    if size < 4 || size as usize > map.len() - 4 {
        return Err(broken());
    }
    Precompiled::from(map).map_err(|_| broken())
}

impl Subword for UnigramLm {
    fn encode(&self, text: &str, _after_special: bool, out: &mut Vec<u32>) -> Result<(), TextError> {
        let text = self.normalize(text)?;
        if text.is_empty() {
            return Ok(());
        }
        let ids = self.model.tokenize(&text).map_err(|e| TextError::Encode(e.to_string()))?;
        out.extend(ids.iter().map(|t| t.id));
        Ok(())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.model.token_to_id(token)
    }
}
