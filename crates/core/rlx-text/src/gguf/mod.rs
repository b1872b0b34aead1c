//! Tokenizers from the vocabulary stored in a GGUF file.

mod bpe;
mod from_hf;
mod merges;
mod pretokenize;
mod ranks;
mod sentencepiece;
mod spm;
mod texts;
mod unigram;
mod vocab;
mod wordpiece;

pub use from_hf::FromHf;
pub use vocab::GgufVocab;
pub(crate) use vocab::{GgufTokenizer, is_markup, stop_ids};

use crate::TextError;

/// One subword algorithm over one vocabulary.
pub(crate) trait Subword: Send + Sync {
    /// Appends the ids of `text`, which holds no special tokens. `after_special` is true at the start of the input
    /// and behind a special token, where SentencePiece adds its leading space.
    fn encode(&self, text: &str, after_special: bool, out: &mut Vec<u32>) -> Result<(), TextError>;

    /// Id of a token by its stored text.
    fn token_to_id(&self, token: &str) -> Option<u32>;
}
