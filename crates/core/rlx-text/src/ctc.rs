//! From the tokens of a CTC head to text.

use serde_json::Value;

use crate::TextError;

/// The vocabulary of a model that gives a token, or a blank, for every stretch of sound (Graves et al. 2006), as the tokenizers of the
/// wav2vec2 family have it (transformers' `Wav2Vec2CTCTokenizer`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtcVocabulary {
    /// By id; none for the blank and ids without a token, which stand for no text.
    tokens: Vec<Option<String>>,
    blank: u32,
}

impl CtcVocabulary {
    /// Reads `vocab.json` (tokens to ids; or, by language, objects of such) and what `tokenizer_config.json` says of the word
    /// delimiter and the language. `size` is the number of logits, `blank` the id of the blank.
    ///
    /// # Errors
    /// If an id is outside the logits, or the file is no vocabulary.
    pub fn from_hf(
        vocab: &Value,
        tokenizer_config: Option<&Value>,
        size: usize,
        blank: u32,
    ) -> Result<CtcVocabulary, TextError> {
        let fail = |what: String| Err(TextError::Vocab(format!("vocab.json: {what}")));
        let text = |key: &str| tokenizer_config?.get(key)?.as_str();
        let Some(mut entries) = vocab.as_object() else { return fail("is no JSON object".into()) };
        // Multilingual models keep a vocabulary per language.
        if entries.values().any(Value::is_object) {
            let language = text("target_lang").or(entries.keys().next().map(String::as_str)).unwrap_or_default();
            match entries.get(language).and_then(Value::as_object) {
                Some(own) => entries = own,
                None => return fail(format!("has no language `{language}`")),
            }
        }
        if blank as usize >= size {
            return fail(format!("the blank {blank} is outside the {size} logits"));
        }
        let delimiter = text("word_delimiter_token").unwrap_or("|");
        let mut tokens = vec![None; size];
        for (token, id) in entries {
            let Some(slot) = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?)) else {
                return fail(format!("`{token}` has the id {id}, and there are {size} logits"));
            };
            *slot = Some(if token == delimiter { " ".to_string() } else { token.clone() });
        }
        tokens[blank as usize] = None;
        Ok(CtcVocabulary { tokens, blank })
    }

    /// The text of the best tokens of successive rows: repetitions are one, blanks nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut last = self.blank;
        for &id in ids {
            if id != last
                && let Some(Some(token)) = self.tokens.get(id as usize)
            {
                text.push_str(token);
            }
            last = id;
        }
        text.trim().to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain() -> CtcVocabulary {
        let vocab = json!({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5, "b": 6});
        CtcVocabulary::from_hf(&vocab, None, 8, 0).unwrap()
    }

    #[test]
    fn repetitions_are_one_unless_a_blank_lies_between() {
        let vocabulary = plain();
        assert_eq!(vocabulary.decode(&[4, 5, 5, 0, 5, 4, 4, 6, 0, 4]), "aa b");
        assert_eq!(vocabulary.decode(&[1, 5, 0, 7, 99, 3]), "<s>a<unk>");
        assert_eq!(vocabulary.decode(&[]), "");
    }

    #[test]
    fn names_come_from_the_tokenizer_config() {
        let config = json!({"word_delimiter_token": "_", "pad_token": "[PAD]"});
        let vocab = json!({"[PAD]": 2, "_": 0, "x": 1, "|": 3});
        let vocabulary = CtcVocabulary::from_hf(&vocab, Some(&config), 4, 2).unwrap();
        assert_eq!(vocabulary.decode(&[1, 0, 2, 1, 3]), "x x|");
        let config = json!({"target_lang": "fra"});
        let vocab = json!({"eng": {"a": 0}, "fra": {"é": 1, "|": 0}});
        let vocabulary = CtcVocabulary::from_hf(&vocab, Some(&config), 3, 2).unwrap();
        assert_eq!(vocabulary.decode(&[1, 2, 1]), "éé");
    }

    #[test]
    fn what_is_no_vocabulary_is_refused() {
        for (vocab, blank) in [
            (json!([]), 0),
            (json!({"a": 3}), 0),
            (json!({"a": -1}), 0),
            (json!({"a": "x"}), 0),
            (json!({"a": 0}), 3),
            (json!({"eng": {"a": 9}}), 0),
            (json!({"eng": {}, "b": 1}), 7),
        ] {
            assert!(CtcVocabulary::from_hf(&vocab, None, 3, blank).is_err(), "{vocab} {blank}");
        }
    }
}
