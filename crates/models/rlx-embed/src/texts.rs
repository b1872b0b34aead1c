//! From texts to tokens that fit the model.

use rlx_text::Tokenizer;

use crate::EmbedError;

/// What happens to texts that are longer than the model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongTexts {
    /// They are cut, as in sentence-transformers.
    #[default]
    Truncate,
    /// They are split into pieces that fit, and their vector is the mean of the pieces', weighed by tokens.
    Split,
}

impl LongTexts {
    /// How many pieces a text of `len` tokens becomes where `room` fit.
    pub(crate) fn pieces(self, len: usize, room: usize) -> usize {
        match self {
            LongTexts::Truncate => 1,
            LongTexts::Split => len.div_ceil(room).max(1),
        }
    }

    /// The longest of these pieces, which are of about equal length.
    pub(crate) fn piece_len(self, len: usize, room: usize) -> usize {
        len.div_ceil(self.pieces(len, room)).min(room)
    }
}

/// A tokenizer, and what it puts around texts.
pub(crate) struct TextEncoder {
    tokenizer: Tokenizer,
    prefix: Vec<i32>,
    suffix: Vec<i32>,
    lowercase: bool,
}

impl TextEncoder {
    pub(crate) fn new(tokenizer: Tokenizer, lowercase: bool) -> Result<TextEncoder, EmbedError> {
        let around = signed(tokenizer.encode("a", true)?);
        let plain = tokenizer.encode("a", false)?.len();
        // What is put around does not depend on the text; the first id that differs between two texts is the text's.
        let other = signed(tokenizer.encode("b c", true)?);
        let same = around.iter().zip(&other).take_while(|(a, b)| a == b).count();
        let start = same.min(around.len().saturating_sub(plain));
        let end = (start + plain).min(around.len());
        let (prefix, suffix) = (around[..start].to_vec(), around[end..].to_vec());
        Ok(TextEncoder { tokenizer, prefix, suffix, lowercase })
    }

    /// Tokens around a text.
    pub(crate) fn around(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// Tokens of the text alone.
    pub(crate) fn content(&self, text: &str) -> Result<Vec<i32>, EmbedError> {
        let ids = match self.lowercase {
            true => self.tokenizer.encode(&text.to_lowercase(), false)?,
            false => self.tokenizer.encode(text, false)?,
        };
        Ok(signed(ids))
    }

    /// Tokens before the text that are no prompt's.
    pub(crate) fn prefix_len(&self) -> usize {
        self.prefix.len()
    }

    /// Appends `content` with what is put around it to `out`.
    pub(crate) fn append(&self, content: &[i32], out: &mut Vec<i32>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(content);
        out.extend_from_slice(&self.suffix);
    }

    /// Appends a pair of texts to `out`, and to `types` which of them each token belongs to; gives the number of tokens.
    pub(crate) fn append_pair(&self, first: &[i32], second: &[i32], out: &mut Vec<i32>, types: &mut Vec<i32>) -> usize {
        let before = out.len();
        self.append(first, out);
        types.resize(out.len(), 0);
        out.extend_from_slice(second);
        out.extend_from_slice(&self.suffix);
        types.resize(out.len(), 1);
        out.len() - before
    }

    /// Tokens around a pair of texts.
    pub(crate) fn around_pair(&self) -> usize {
        self.prefix.len() + 2 * self.suffix.len()
    }
}

/// Ids fit: vocabularies have at most 2^24 entries.
fn signed(ids: Vec<u32>) -> Vec<i32> {
    ids.into_iter().map(|id| i32::try_from(id).unwrap_or(i32::MAX)).collect()
}

/// How many tokens of a pair of `first` and `second` are kept where `max` fit: the longer one is cut first, as the strategy
/// `longest_first` of Hugging Face tokenizers has it.
pub(crate) fn longest_first(first: usize, second: usize, max: usize) -> (usize, usize) {
    if first + second <= max {
        return (first, second);
    }
    let short = first.min(second);
    let long = if short > max { short } else { short.max(max - short) };
    let (short, long) = if short + long > max { (max / 2, max / 2 + max % 2) } else { (short, long) };
    if first > second { (long, short) } else { (short, long) }
}

#[cfg(test)]
mod tests {
    use super::longest_first;

    #[test]
    fn the_longer_text_is_cut_first() {
        assert_eq!(longest_first(3, 4, 10), (3, 4));
        assert_eq!(longest_first(3, 20, 10), (3, 7));
        assert_eq!(longest_first(20, 3, 10), (7, 3));
        assert_eq!(longest_first(20, 30, 11), (5, 6));
        assert_eq!(longest_first(30, 20, 11), (6, 5));
        assert_eq!(longest_first(6, 6, 10), (5, 5));
        assert_eq!(longest_first(5, 5, 0), (0, 0));
        for (first, second, max) in [(7, 9, 8), (100, 2, 50), (1, 100, 3)] {
            let (a, b) = longest_first(first, second, max);
            assert!(a <= first && b <= second && a + b == max, "{first} {second} {max}: {a} {b}");
        }
    }
}
