//! Constrained output: answers that follow a JSON schema, a grammar or a regular expression.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use crate::{LogitsProcessor, TextError, TokenKind, Tokenizer};

/// What answers must follow.
#[derive(Clone, Debug, PartialEq)]
pub enum GrammarSource {
    /// A JSON schema. Between the parts of a value there is one space after `,` and `:`, and no other white space, unless the
    /// schema says something else in `x-guidance` (`whitespace_flexible`, `item_separator`, `key_separator`).
    JsonSchema(Value),
    /// A context-free grammar in the Lark format, whose first rule is `start`.
    Lark(String),
    /// A regular expression for the whole answer.
    Regex(String),
}

/// A grammar compiled for a vocabulary. Cheap to clone.
#[derive(Clone)]
pub struct Grammar {
    matcher: Matcher,
}

/// Holds one answer to a [`Grammar`]: forbids every token after which the answer could not be completed. It works on the bytes of
/// tokens, whichever way the text is cut into them.
pub struct GrammarProcessor {
    matcher: Matcher,
    /// Length of the history that the matcher has followed; none before the answer begins.
    followed: Option<usize>,
}

impl Grammar {
    /// Compiles `source` for the vocabulary of `tokenizer`.
    ///
    /// # Errors
    /// If the schema, grammar or expression is not valid, or nothing can follow it.
    pub fn new(tokenizer: &Tokenizer, source: &GrammarSource) -> Result<Grammar, TextError> {
        let (kind, grammar) = match source {
            GrammarSource::JsonSchema(schema) => {
                ("JSON schema", TopLevelGrammar::from_json_schema(spaced(schema.clone())))
            }
            GrammarSource::Lark(text) => ("grammar", TopLevelGrammar::from_lark(text.clone())),
            GrammarSource::Regex(text) => ("regular expression", TopLevelGrammar::from_regex(text)),
        };
        let fail = |error: &dyn std::fmt::Display| TextError::Grammar { kind, message: error.to_string() };
        let env: TokEnv = Arc::new(Vocabulary::new(tokenizer));
        let mut factory = ParserFactory::new_simple(&env).map_err(|error| fail(&error))?;
        factory.quiet();
        let matcher = Matcher::new(factory.create_parser(grammar));
        match matcher.get_error() {
            Some(error) => Err(fail(&error)),
            None => Ok(Grammar { matcher }),
        }
    }

    /// What of the grammar is not observed.
    pub fn warnings(&mut self) -> Vec<String> {
        self.matcher.grammar_warnings()
    }

    /// A processor for one answer.
    pub fn processor(&self) -> GrammarProcessor {
        GrammarProcessor { matcher: self.matcher.deep_clone(), followed: None }
    }
}

impl GrammarProcessor {
    /// Whether the answer may end here. False once it has left the grammar.
    pub fn is_accepting(&mut self) -> bool {
        self.matcher.stop_reason().is_ok()
            && (self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false))
    }

    fn follow(&mut self, history: &[u32]) -> Result<(), TextError> {
        let new = &history[self.followed.unwrap_or(history.len()).min(history.len())..];
        self.matcher.consume_tokens(new).map_err(failed)?;
        self.followed = Some(history.len());
        Ok(())
    }
}

impl LogitsProcessor for GrammarProcessor {
    fn process(&mut self, logits: &mut [f32], history: &[u32]) -> Result<(), TextError> {
        self.follow(history)?;
        let mask = self.matcher.compute_mask_or_eos().map_err(failed)?;
        forbid(logits, &mask);
        Ok(())
    }

    fn forced(&mut self, history: &[u32], out: &mut Vec<u32>) -> Result<(), TextError> {
        self.follow(history)?;
        if !self.matcher.is_stopped() {
            out.extend(self.matcher.compute_ff_tokens());
        }
        Ok(())
    }

    fn is_complete(&mut self, history: &[u32]) -> Result<bool, TextError> {
        self.follow(history)?;
        Ok(self.matcher.is_stopped())
    }
}

fn failed(error: impl std::fmt::Display) -> TextError {
    TextError::Grammar { kind: "grammar", message: error.to_string() }
}

/// Leaves only the logits of tokens in `mask`.
fn forbid(logits: &mut [f32], mask: &SimpleVob) {
    let words = mask.as_slice();
    for (i, logits) in logits.chunks_mut(32).enumerate() {
        let word = words.get(i).copied().unwrap_or(0);
        match word {
            0 => logits.fill(f32::NEG_INFINITY),
            u32::MAX => {}
            _ => {
                for (bit, logit) in logits.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

/// The schema with the white space of [`GrammarSource::JsonSchema`]. Free white space lets small models write nothing else.
fn spaced(mut schema: Value) -> Value {
    if schema == Value::Bool(true) {
        schema = serde_json::json!({});
    }
    if let Some(object) = schema.as_object_mut() {
        let options = object.entry("x-guidance").or_insert_with(|| serde_json::json!({}));
        if let Some(options) = options.as_object_mut()
            && options.get("whitespace_flexible") != Some(&Value::Bool(true))
        {
            options.insert("whitespace_flexible".into(), false.into());
            options.entry("item_separator").or_insert_with(|| ", ".into());
            options.entry("key_separator").or_insert_with(|| ": ".into());
        }
    }
    schema
}

/// The vocabulary as a trie of bytes.
struct Vocabulary {
    trie: TokTrie,
    tokenizer: Tokenizer,
}

impl Vocabulary {
    fn new(tokenizer: &Tokenizer) -> Vocabulary {
        let mut words: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32).map(|id| word(tokenizer, id)).collect();
        let mut ends = tokenizer.eos_ids().to_vec();
        ends.retain(|&id| (id as usize) < words.len());
        if ends.is_empty() {
            // Where nothing ends a text, an answer ends when nothing can follow.
            ends.push(words.len() as u32);
            words.push(b"\xff<|end|>".to_vec());
        }
        let info = TokRxInfo::new(words.len() as u32, ends[0]);
        Vocabulary { trie: TokTrie::from(&info, &words).with_eos_tokens(&ends), tokenizer: tokenizer.clone() }
    }
}

/// The bytes of a token; tokens that are no text begin with a byte that is not in UTF-8.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id);
    match tokenizer.token_kind(id) {
        Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte) => bytes,
        Some(TokenKind::Control) => [&[TokTrie::SPECIAL_TOKEN_MARKER], &bytes[..]].concat(),
        Some(TokenKind::Unknown | TokenKind::Unused) | None => vec![],
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let own = |text: &str| {
            let ids = self.tokenizer.encode_plain(text).unwrap_or_default();
            let whole: Vec<u8> = ids.iter().flat_map(|&id| self.tokenizer.token_bytes(id)).collect();
            // SentencePiece begins with a space of its own.
            if whole == text.as_bytes() { ids } else { self.trie.greedy_tokenize(text.as_bytes()) }
        };
        self.trie.tokenize_with_greedy_fallback(bytes, own)
    }
}
