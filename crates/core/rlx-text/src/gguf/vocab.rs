//! [`GgufVocab`] and the parts all GGUF tokenizers share: special tokens, begin/end ids, bytes per token.

use std::borrow::Cow;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use rlx_mem::StringArray;

use super::Subword;
use super::bpe::Bpe;
use super::pretokenize::{PreSpec, pre_spec};
use super::spm::Spm;
use super::texts::TextTable;
use super::unigram::UnigramLm;
use super::wordpiece::BertWordPiece;
use crate::TextError;
use crate::pieces::{BYTE_CHARS, PieceTable, SPM_SPACE, TokenKind, byte_token};

/// The tokenizer metadata of a GGUF file, as plain values.
///
/// Whoever reads the file fills each field from the key named in its documentation and leaves it `None` when the key
/// is absent; `None` and a default are not the same thing for every tokenizer model.
#[derive(Clone, Debug, Default)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`: `gpt2`, `gemma4`, `llama`, `bert` or `t5`.
    pub model: String,
    /// `tokenizer.ggml.pre`: name of the pre-tokenizer of a `gpt2` vocabulary.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`: text of each id.
    pub tokens: StringArray,
    /// `tokenizer.ggml.scores`: one score per token; needed by `llama` and `t5`.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`: `"left right"`, best first; needed by `gpt2`.
    pub merges: Option<StringArray>,
    /// `tokenizer.ggml.bos_token_id`; for `bert` also `tokenizer.ggml.cls_token_id`.
    pub bos_id: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos_id: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: end of turn.
    pub eot_id: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: end of message.
    pub eom_id: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk_id: Option<u32>,
    /// `tokenizer.ggml.seperator_token_id` (spelt so in the format).
    pub sep_id: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad_id: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`.
    pub remove_extra_whitespaces: Option<bool>,
    /// `tokenizer.ggml.precompiled_charsmap`: SentencePiece's normalisation table, for `t5`.
    pub precompiled_charsmap: Option<Vec<u8>>,
    /// `tokenizer.ggml.normalizer.lowercase`, for `bert`; absent means true.
    pub lowercase: Option<bool>,
    /// `tokenizer.ggml.normalizer.strip_accents`, for `bert`; absent means the same as `lowercase`.
    pub strip_accents: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
    /// `general.name`; Phi-3 checkpoints are known by it, their special tokens swallow the white space behind them.
    pub model_name: Option<String>,
}

/// Texts of control tokens that end a turn, a message or the document in published models.
pub(crate) const STOP_TOKENS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Whether a stop token's text is also an HTML tag. As a user-defined token it is that tag.
pub(crate) fn is_markup(text: &str) -> bool {
    text == "</s>"
}

/// Ids that stop generation, ascending: those named by the file and the control tokens of [`STOP_TOKENS`].
pub(crate) fn stop_ids(named: &[Option<u32>], special: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = named.iter().flatten().copied().collect();
    ids.extend(STOP_TOKENS.iter().filter_map(|t| special(t)));
    let mut drop = |text: &str| {
        if let Some(id) = special(text).filter(|&id| !named.contains(&Some(id))) {
            ids.retain(|&x| x != id);
        }
    };
    // Harmony-like formats end messages, not turns, with <|end|>; Gemma 4 keeps </s> as text.
    let has = |text: &str| special(text).is_some();
    if (has("<|return|>") && has("<|call|>")) || (has("<|flush|>") && (has("<|call|>") || has("<|calls|>"))) {
        drop("<|end|>");
    }
    if has("<|tool_response>") {
        drop("</s>");
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Finds special tokens in text, longest first at the leftmost place.
struct SpecialMatcher {
    automaton: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl SpecialMatcher {
    fn new(tokens: &StringArray, ids: Vec<u32>) -> Result<Self, TextError> {
        let automaton = if ids.is_empty() {
            None
        } else {
            let built = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(ids.iter().map(|&id| tokens[id as usize].as_bytes()))
                .map_err(|e| TextError::Vocab(format!("special tokens: {e}")))?;
            Some(built)
        };
        Ok(Self { automaton, ids })
    }
}

/// A GGUF vocabulary ready to tokenize.
pub(crate) struct GgufTokenizer {
    engine: Box<dyn Subword>,
    table: Arc<TextTable>,
    all_special: SpecialMatcher,
    user_defined: SpecialMatcher,
    /// Special tokens swallow the white space that follows them.
    strip_after_special: bool,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

/// What the facade needs besides the encoder.
pub(crate) struct GgufParts {
    pub(crate) tokenizer: GgufTokenizer,
    pub(crate) pieces: PieceTable,
    pub(crate) strip_leading_space: bool,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) unk: Option<u32>,
    pub(crate) pad: Option<u32>,
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) warnings: Vec<String>,
}

/// How stored token text maps to bytes.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    ByteLevel,
    VisibleSpace,
}

impl GgufTokenizer {
    pub(crate) fn load(v: &GgufVocab) -> Result<GgufParts, TextError> {
        let mut warnings = Vec::new();
        let n = v.tokens.len();
        if n == 0 {
            return Err(TextError::Vocab("tokenizer.ggml.tokens is empty".into()));
        }
        if u32::try_from(n).is_err() {
            return Err(TextError::Vocab(format!("{n} tokens do not fit 32-bit ids")));
        }
        check_len("scores", v.scores.as_ref().map(Vec::len), n)?;
        check_len("token_type", v.token_types.as_ref().map(Vec::len), n)?;

        let table = Arc::new(TextTable::new(match v.tokens.iter().any(str::is_empty) {
            true => v.tokens.iter().enumerate().map(|(i, text)| name_if_empty(text, i)).collect(),
            false => v.tokens.clone(),
        }));
        let tokens = table.texts();
        let mut kinds: Vec<TokenKind> = match &v.token_types {
            Some(types) => types.iter().map(|&t| kind_of(t)).collect(),
            None => vec![TokenKind::Normal; n],
        };

        let mut valid = |name: &str, given: Option<u32>, default: Option<u32>| {
            let default = default.filter(|&d| (d as usize) < n);
            match given {
                Some(id) if (id as usize) < n => Some(id),
                Some(id) => {
                    warnings.push(format!("tokenizer.ggml.{name} = {id} is outside the vocabulary of {n}; ignored"));
                    default
                }
                None => default,
            }
        };
        let defaults = Defaults::of(&v.model)?;
        let bos = valid("bos_token_id", v.bos_id, defaults.bos);
        let eos = valid("eos_token_id", v.eos_id, defaults.eos);
        let unk = valid("unknown_token_id", v.unk_id, defaults.unk);
        let sep = valid("seperator_token_id", v.sep_id, defaults.sep);
        let pad = valid("padding_token_id", v.pad_id, None);
        let eot = valid("eot_token_id", v.eot_id, None);
        let eom = valid("eom_token_id", v.eom_id, None);
        // Ids the file names are special whatever their type says; a file without types knows no other way.
        for id in [bos, eos, sep, eot, eom].into_iter().flatten() {
            let kind = &mut kinds[id as usize];
            if *kind == TokenKind::Normal {
                *kind = TokenKind::Control;
            }
        }
        if let Some(id) = unk {
            let kind = &mut kinds[id as usize];
            if *kind == TokenKind::Normal {
                *kind = TokenKind::Unknown;
            }
        }

        let mut style = Style::VisibleSpace;
        let mut strip_leading_space = false;
        let mut add_bos = defaults.add_bos;
        let engine: Box<dyn Subword> = match v.model.as_str() {
            "gpt2" | "gemma4" => {
                let name = if v.model == "gemma4" { "gemma4" } else { v.pre.as_deref().unwrap_or("") };
                let spec = pre_spec(name).unwrap_or_else(|| {
                    let what = if name.is_empty() { "is missing".into() } else { format!("`{name}` is not known") };
                    warnings.push(format!(
                        "tokenizer.ggml.pre {what}; using the default pre-tokenizer, some texts will get other ids \
                         than in training"
                    ));
                    PreSpec::default_spec()
                });
                add_bos = spec.add_bos;
                if !spec.visible_space {
                    style = Style::ByteLevel;
                }
                let merges = v.merges.as_ref().ok_or_else(|| {
                    TextError::Vocab("tokenizer.ggml.merges is missing; a gpt2 vocabulary needs it".into())
                })?;
                Box::new(Bpe::new(Arc::clone(&table), merges, &spec, &mut warnings)?)
            }
            "llama" => {
                let scores = v.scores.as_deref().ok_or_else(|| {
                    TextError::Vocab("tokenizer.ggml.scores is missing; a llama vocabulary needs it".into())
                })?;
                let add_space = v.add_space_prefix.unwrap_or(true);
                strip_leading_space = add_space;
                Box::new(Spm::new(Arc::clone(&table), scores, &kinds, unk, add_space))
            }
            "bert" => {
                strip_leading_space = true;
                Box::new(BertWordPiece::new(tokens, unk, v.lowercase.unwrap_or(true), v.strip_accents)?)
            }
            "t5" => {
                let scores = v.scores.as_deref().ok_or_else(|| {
                    TextError::Vocab("tokenizer.ggml.scores is missing; a t5 vocabulary needs it".into())
                })?;
                let add_space = v.add_space_prefix.unwrap_or(true);
                strip_leading_space = add_space;
                Box::new(UnigramLm::new(
                    tokens,
                    scores,
                    &kinds,
                    unk,
                    add_space,
                    v.remove_extra_whitespaces.unwrap_or(true),
                    v.precompiled_charsmap.as_deref(),
                )?)
            }
            other => return Err(TextError::UnsupportedModel { model: other.into() }),
        };

        let mut affix = |on: bool, id: Option<u32>, what: &str| match (on, id) {
            (true, None) => {
                warnings.push(format!("the vocabulary asks to add {what} but names no such token; not added"));
                Vec::new()
            }
            (true, Some(id)) => vec![id],
            (false, _) => Vec::new(),
        };
        let prefix = affix(v.add_bos.unwrap_or(add_bos), bos, "a begin-of-text token");
        let suffix = if v.model == "bert" {
            affix(true, sep, "a separator")
        } else {
            affix(v.add_eos.unwrap_or(defaults.add_eos), eos, "an end-of-text token")
        };

        let mut pieces = PieceTable::with_capacity(n, tokens.text_len());
        for (token, &kind) in tokens.iter().zip(&kinds) {
            pieces.push(&piece_bytes(token, kind, style), kind);
        }
        let of_kind = |wanted: fn(TokenKind) -> bool| -> Vec<u32> {
            (0u32..).zip(&kinds).filter(|&(_, &k)| wanted(k)).map(|(id, _)| id).collect()
        };
        let all_special = SpecialMatcher::new(
            tokens,
            of_kind(|k| matches!(k, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined)),
        )?;
        let user_defined = SpecialMatcher::new(tokens, of_kind(|k| k == TokenKind::UserDefined))?;
        let stop_ids = stop_ids(&[eos, eot, eom], |text| {
            engine.token_to_id(text).filter(|&id| {
                let kind = kinds[id as usize];
                kind.is_special() || v.token_types.is_none() || (kind == TokenKind::UserDefined && !is_markup(text))
            })
        });
        let strip_after_special = v
            .model_name
            .as_deref()
            .map(str::to_lowercase)
            .is_some_and(|name| name.contains("phi-3") || name.contains("phi3"));

        Ok(GgufParts {
            tokenizer: Self { engine, table, all_special, user_defined, strip_after_special, prefix, suffix },
            pieces,
            strip_leading_space,
            bos,
            eos,
            unk,
            pad,
            stop_ids,
            warnings,
        })
    }

    pub(crate) fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, TextError> {
        let mut out = Vec::with_capacity(text.len() / 4 + 2);
        if add_special {
            out.extend_from_slice(&self.prefix);
        }
        let matcher = if parse_special { &self.all_special } else { &self.user_defined };
        let mut rest = text;
        let mut after_special = true;
        if let Some(automaton) = &matcher.automaton {
            let mut done = 0;
            for m in automaton.find_iter(text) {
                // Stripped white space may reach into the next match only if that is white space itself.
                if m.start() < done {
                    continue;
                }
                if m.start() > done {
                    self.engine.encode(&text[done..m.start()], after_special, &mut out)?;
                }
                out.push(matcher.ids[m.pattern().as_usize()]);
                done = m.end();
                if self.strip_after_special {
                    done = text.len() - text[done..].trim_start().len();
                }
                after_special = true;
            }
            rest = &text[done..];
        }
        if !rest.is_empty() {
            self.engine.encode(rest, after_special, &mut out)?;
        }
        if add_special {
            out.extend_from_slice(&self.suffix);
        }
        Ok(out)
    }

    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.engine.token_to_id(token)
    }

    pub(crate) fn id_to_token(&self, id: u32) -> Option<&str> {
        self.table.text(id)
    }
}

/// Ids and switches that the format defines for files that do not store them.
struct Defaults {
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    sep: Option<u32>,
    add_bos: bool,
    add_eos: bool,
}

impl Defaults {
    fn of(model: &str) -> Result<Self, TextError> {
        let none = Self { bos: None, eos: None, unk: None, sep: None, add_bos: false, add_eos: false };
        Ok(match model {
            "gpt2" | "gemma4" => none,
            "llama" => Self { bos: Some(1), eos: Some(2), unk: Some(0), add_bos: true, ..none },
            "bert" => Self { bos: Some(101), unk: Some(100), sep: Some(102), add_bos: true, ..none },
            "t5" => Self { eos: Some(1), unk: Some(2), add_eos: true, ..none },
            other => return Err(TextError::UnsupportedModel { model: other.into() }),
        })
    }
}

/// Text of token `i`, which must be one.
fn name_if_empty(text: &str, i: usize) -> Cow<'_, str> {
    if text.is_empty() { format!("[EMPTY_{i}]").into() } else { text.into() }
}

fn check_len(what: &str, len: Option<usize>, tokens: usize) -> Result<(), TextError> {
    match len {
        Some(len) if len != tokens => {
            Err(TextError::Vocab(format!("tokenizer.ggml.{what} has {len} entries for {tokens} tokens")))
        }
        _ => Ok(()),
    }
}

fn kind_of(token_type: i32) -> TokenKind {
    match token_type {
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        5 => TokenKind::Unused,
        6 => TokenKind::Byte,
        _ => TokenKind::Normal,
    }
}

fn piece_bytes(token: &str, kind: TokenKind, style: Style) -> Vec<u8> {
    match (kind, style) {
        (TokenKind::Byte, _) => match byte_token(token) {
            Some(b) => vec![b],
            None => token.as_bytes().to_vec(),
        },
        (TokenKind::Normal, Style::ByteLevel) => BYTE_CHARS.decode(token),
        (TokenKind::Normal, Style::VisibleSpace) => token.replace(SPM_SPACE, " ").into_bytes(),
        _ => token.as_bytes().to_vec(),
    }
}
