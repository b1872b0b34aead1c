//! Vocabularies of tiktoken, which are byte strings in the order of their merges.

use std::collections::HashMap;

use super::GgufVocab;
use crate::TextError;
use crate::pieces::BYTE_CHARS;

/// Longest byte string that is looked at; those of published vocabularies have 128 bytes at most.
const MAX_TOKEN_BYTES: usize = 256;

/// Numbers of [`GgufVocab::token_types`].
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

impl GgufVocab {
    /// The vocabulary whose first ids are the byte strings `ranks`, in tiktoken's order (of two strings that could be merged the first
    /// is), and whose next ids are the control tokens `controls`. `pre` names the pre-tokenizer.
    ///
    /// # Errors
    /// If a byte string is longer than any published one.
    pub fn from_ranks(ranks: &[&[u8]], controls: &[String], pre: &str) -> Result<GgufVocab, TextError> {
        let mut by_bytes: HashMap<&[u8], usize> = HashMap::with_capacity(ranks.len());
        for (rank, bytes) in ranks.iter().enumerate() {
            if bytes.len() > MAX_TOKEN_BYTES {
                return Err(TextError::Vocab(format!("token {rank} has {} bytes", bytes.len())));
            }
            by_bytes.entry(bytes).or_insert(rank);
        }
        let text = |bytes: &[u8]| {
            let mut text = String::new();
            BYTE_CHARS.encode(bytes, &mut text);
            text
        };
        let mut merges = Vec::with_capacity(ranks.len());
        for (rank, bytes) in ranks.iter().enumerate() {
            if let Some(cut) = last_merge(bytes, rank, &by_bytes) {
                merges.push(format!("{} {}", text(&bytes[..cut]), text(&bytes[cut..])));
            }
        }
        let tokens = ranks.iter().map(|bytes| text(bytes)).chain(controls.iter().cloned());
        let types = ranks.iter().map(|_| NORMAL).chain(controls.iter().map(|_| CONTROL));
        Ok(GgufVocab {
            model: "gpt2".into(),
            pre: Some(pre.into()),
            tokens: tokens.collect(),
            token_types: Some(types.collect()),
            merges: Some(merges.into()),
            ..GgufVocab::default()
        })
    }
}

/// Where the two parts meet that are merged last into the token `bytes` of rank `rank`: what merges of lower ranks leave of it. None
/// for a single byte, and for a token that no merges lead to.
fn last_merge(bytes: &[u8], rank: usize, by_bytes: &HashMap<&[u8], usize>) -> Option<usize> {
    // Starts of the parts, and the end.
    let mut bounds: Vec<usize> = (0..=bytes.len()).collect();
    loop {
        let pairs = bounds.windows(3).enumerate();
        let found = pairs.filter_map(|(i, w)| Some((*by_bytes.get(&bytes[w[0]..w[2]])?, i))).min();
        match found.filter(|&(other, _)| other < rank) {
            Some((_, i)) => drop(bounds.remove(i + 1)),
            None => break,
        }
    }
    match bounds[..] {
        [_, cut, _] => Some(cut),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;

    #[test]
    fn merges_are_found_again() {
        let mut ranks: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        ranks.extend(["he", "ll", " w", "hell", "hello", " wo", "zzz"].map(|text| text.as_bytes().to_vec()));
        let ranks: Vec<&[u8]> = ranks.iter().map(Vec::as_slice).collect();
        let vocab = GgufVocab::from_ranks(&ranks, &["<|end|>".into()], "gpt-2").unwrap();
        let merges = vocab.merges.as_ref().unwrap().to_vec();
        assert_eq!(merges, ["h e", "l l", "Ġ w", "he ll", "hell o", "Ġw o"]);
        let tokenizer = Tokenizer::from_gguf(&vocab).unwrap();
        assert_eq!(tokenizer.token_to_id("<|end|>"), Some(263));
        assert_eq!(tokenizer.encode("hello wo\u{e9}", false).unwrap(), [260, 261, 0xc3, 0xa9]);
        let long = [b'a'; 300];
        assert!(GgufVocab::from_ranks(&[&long[..]], &[], "gpt-2").is_err());
    }
}
