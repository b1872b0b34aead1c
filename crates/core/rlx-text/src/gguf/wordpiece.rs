//! BERT WordPiece. GGUF files mark the start of a word with `▁` instead of its continuation with `##`, so the
//! greedy longest match runs over `▁word` with no continuation prefix.

use ahash::AHashMap;
use rlx_mem::StringArray;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::Subword;
use crate::TextError;
use crate::pieces::SPM_SPACE;

/// Longer words become the unknown token, as in BERT's own tokenizer; one more for the `▁`.
const MAX_WORD_CHARS: usize = 101;

pub(super) struct BertWordPiece {
    model: WordPiece,
    normalizer: BertNormalizer,
}

impl BertWordPiece {
    pub(super) fn new(
        tokens: &StringArray,
        unk: Option<u32>,
        lowercase: bool,
        strip_accents: Option<bool>,
    ) -> Result<Self, TextError> {
        let unk = unk.ok_or_else(|| {
            TextError::Vocab("tokenizer.ggml.unknown_token_id is missing; a bert vocabulary needs it".into())
        })?;
        let mut vocab: AHashMap<String, u32> = AHashMap::with_capacity(tokens.len());
        for (id, token) in (0u32..).zip(tokens.iter()) {
            vocab.entry(token.to_owned()).or_insert(id);
        }
        let model = WordPiece::builder()
            .vocab(vocab)
            .unk_token(tokens[unk as usize].to_owned())
            .continuing_subword_prefix(String::new())
            .max_input_chars_per_word(MAX_WORD_CHARS)
            .build()
            .map_err(|e| TextError::Vocab(e.to_string()))?;
        Ok(Self { model, normalizer: BertNormalizer::new(true, true, strip_accents, lowercase) })
    }
}

impl Subword for BertWordPiece {
    fn encode(&self, text: &str, _after_special: bool, out: &mut Vec<u32>) -> Result<(), TextError> {
        let failed = |e: tokenizers::Error| TextError::Encode(e.to_string());
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized).map_err(failed)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words).map_err(failed)?;
        let mut marked = String::new();
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            marked.clear();
            marked.push(SPM_SPACE);
            marked.push_str(word);
            out.extend(self.model.tokenize(&marked).map_err(failed)?.iter().map(|t| t.id));
        }
        Ok(())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.model.token_to_id(token)
    }
}
