//! Tokens to words.

use rlx_core::CoreError;

use super::WhisperText;

/// Languages that put no spaces between words.
const WITHOUT_SPACES: &[&str] = &["zh", "ja", "th", "lo", "my", "yue"];

/// A word and its tokens. Words keep the space before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenWord {
    /// Text.
    pub word: String,
    /// Tokens.
    pub tokens: Vec<u32>,
}

impl WhisperText {
    /// Splits tokens into words at spaces and punctuation; into characters for languages without spaces. A special token is a
    /// word of its own.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn split_to_words(&self, tokens: &[u32], language: &str) -> Result<Vec<TokenWord>, CoreError> {
        let pieces = self.split_to_characters(tokens)?;
        if WITHOUT_SPACES.contains(&language) {
            return Ok(pieces);
        }
        let mut words: Vec<TokenWord> = Vec::new();
        for piece in pieces {
            let special = piece.tokens.first().is_some_and(|&id| id >= self.eot);
            let begins = special || piece.word.starts_with(' ') || is_punctuation(piece.word.trim());
            match words.last_mut() {
                Some(word) if !begins => {
                    word.word.push_str(&piece.word);
                    word.tokens.extend(piece.tokens);
                }
                _ => words.push(piece),
            }
        }
        Ok(words)
    }

    /// The smallest groups of tokens that are whole characters.
    fn split_to_characters(&self, tokens: &[u32]) -> Result<Vec<TokenWord>, CoreError> {
        let decode = |ids: &[u32]| self.tokenizer().decode(ids, false);
        // The text as a whole tells whether U+FFFD was said by the model or is half a character.
        let whole: Vec<char> = decode(tokens)?.chars().collect();
        let mut groups = Vec::new();
        let mut group = Vec::new();
        let mut done = 0;
        for &token in tokens {
            group.push(token);
            let text = decode(&group)?;
            let broken = text.chars().position(|c| c == char::REPLACEMENT_CHARACTER);
            if broken.is_none_or(|at| whole.get(done + at) == Some(&char::REPLACEMENT_CHARACTER)) {
                done += text.chars().count();
                groups.push(TokenWord { word: text, tokens: std::mem::take(&mut group) });
            }
        }
        Ok(groups)
    }
}

/// Whether `text` is one run of ASCII punctuation as Python's `text in string.punctuation` sees it: a part of that string, which
/// the empty text is too.
fn is_punctuation(text: &str) -> bool {
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~".contains(text)
}
