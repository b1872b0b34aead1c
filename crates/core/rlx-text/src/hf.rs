//! Tokenizers from Hugging Face `tokenizer.json` files, through the `tokenizers` library.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

use crate::TextError;
use crate::gguf::{is_markup, stop_ids};
use crate::pieces::{BYTE_CHARS, PieceTable, SPM_SPACE, TokenKind, byte_token};
use crate::tokenizer::{Engine, Inner};

/// More ids than any published vocabulary; a larger one would only exhaust memory.
pub(crate) const MAX_IDS: usize = 16 << 20;

pub(crate) struct HfTokenizer {
    tokenizer: tokenizers::Tokenizer,
    /// The same with special tokens left unparsed; built when first needed.
    plain: OnceLock<tokenizers::Tokenizer>,
    style: Style,
    /// Begin-of-text id that the configuration asks for and the post-processor does not add.
    prepend: Option<u32>,
}

/// How the file's decoder turns tokens into text.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    /// Byte-level alphabet.
    ByteLevel,
    /// `▁` for spaces; `strip` says whether the text's first space goes.
    VisibleSpace { strip: bool },
    /// `##` continuations; words joined by the library.
    WordPiece,
    /// Anything else: the library decodes.
    Library,
}

impl Style {
    fn of(decoder: &Value) -> Self {
        match decoder["type"].as_str() {
            Some("ByteLevel") => Self::ByteLevel,
            Some("Metaspace") if decoder["replacement"] == "▁" => {
                let scheme = decoder["prepend_scheme"].as_str().unwrap_or("always");
                Self::VisibleSpace { strip: scheme != "never" && decoder["add_prefix_space"] != Value::Bool(false) }
            }
            Some("WordPiece") if decoder["prefix"] == "##" => Self::WordPiece,
            Some("Sequence") => {
                let mut strip = false;
                let mut spaces = false;
                for part in decoder["decoders"].as_array().map(Vec::as_slice).unwrap_or_default() {
                    match part["type"].as_str() {
                        Some("Replace") if part["pattern"]["String"] == "▁" && part["content"] == " " => {
                            spaces = true
                        }
                        Some("ByteFallback" | "Fuse") => {}
                        Some("Strip") if part["content"] == " " && part["stop"] == 0 && part["start"] == 1 => {
                            strip = true;
                        }
                        Some("ByteLevel") if decoder["decoders"].as_array().is_some_and(|d| d.len() == 1) => {
                            return Self::ByteLevel;
                        }
                        _ => return Self::Library,
                    }
                }
                if spaces { Self::VisibleSpace { strip } } else { Self::Library }
            }
            _ => Self::Library,
        }
    }

    fn bytes(self, token: &str, kind: TokenKind, byte_fallback: bool) -> (Vec<u8>, TokenKind) {
        if kind != TokenKind::Normal {
            return (token.as_bytes().to_vec(), kind);
        }
        match self {
            Self::ByteLevel => (BYTE_CHARS.decode(token), kind),
            Self::VisibleSpace { .. } => match byte_token(token).filter(|_| byte_fallback) {
                Some(b) => (vec![b], TokenKind::Byte),
                None => (token.replace(SPM_SPACE, " ").into_bytes(), kind),
            },
            Self::WordPiece => match token.strip_prefix("##") {
                Some(rest) => (rest.as_bytes().to_vec(), kind),
                None => (format!(" {token}").into_bytes(), kind),
            },
            Self::Library => (token.as_bytes().to_vec(), kind),
        }
    }
}

impl HfTokenizer {
    pub(crate) fn load(path: &Path) -> Result<Inner, TextError> {
        let bad = |message: String| TextError::File { path: path.to_owned(), message };
        let bytes = std::fs::read(path).map_err(|source| TextError::Io { path: path.to_owned(), source })?;
        let mut tokenizer = guard(|| tokenizers::Tokenizer::from_bytes(&bytes)).map_err(bad)?;
        drop(bytes);
        // Limits on length are the caller's business; a stored one would silently cut texts.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| bad(e.to_string()))?;

        let side = SideFiles::load(path)?;
        let decoder = serde_json::to_value(tokenizer.get_decoder()).unwrap_or(Value::Null);
        let style = Style::of(&decoder);
        let byte_fallback = decoder.to_string().contains("ByteFallback");

        let vocab = tokenizer.get_vocab(true);
        let n = vocab.values().copied().max().map_or(0, |m| m as usize + 1);
        if n == 0 {
            return Err(bad("the vocabulary is empty".into()));
        }
        if n > MAX_IDS {
            return Err(bad(format!("token id {} is too large", n - 1)));
        }
        let mut texts: Vec<Option<&str>> = vec![None; n];
        for (token, &id) in &vocab {
            texts[id as usize] = Some(token);
        }
        let added = tokenizer.get_added_tokens_decoder();
        let mut pieces = PieceTable::default();
        for (id, text) in (0u32..).zip(&texts) {
            let (token, kind) = match (added.get(&id), text) {
                (Some(t), _) if t.special => (t.content.as_str(), TokenKind::Control),
                (Some(t), _) => (t.content.as_str(), TokenKind::UserDefined),
                (None, Some(t)) => (*t, TokenKind::Normal),
                (None, None) => ("", TokenKind::Unused),
            };
            let (bytes, kind) = style.bytes(token, kind, byte_fallback);
            pieces.push(&bytes, kind);
        }

        let id_of = |name: &str| side.token(name).and_then(|t| vocab.get(&t).copied());
        let in_range = |id: u64| u32::try_from(id).ok().filter(|&id| (id as usize) < n);
        let first_id = |v: &Value| match v {
            Value::Array(a) => a.first().and_then(Value::as_u64),
            v => v.as_u64(),
        };
        let bos = id_of("bos_token").or_else(|| first_id(&side.generation["bos_token_id"]).and_then(in_range));
        let eos = id_of("eos_token").or_else(|| first_id(&side.generation["eos_token_id"]).and_then(in_range));
        let mut named = vec![eos];
        match &side.generation["eos_token_id"] {
            Value::Array(ids) => named.extend(ids.iter().map(|v| v.as_u64().and_then(in_range))),
            v => named.push(v.as_u64().and_then(in_range)),
        }
        let special = |text: &str| {
            vocab.get(text).copied().filter(|id| added.get(id).is_some_and(|t| t.special || !is_markup(text)))
        };
        let stop_ids = stop_ids(&named, special);
        let unk = id_of("unk_token");
        let pad = id_of("pad_token");

        let empty = guard(|| tokenizer.encode_fast("", true)).map_err(TextError::Encode)?;
        let wants_bos = side.tokenizer_config["add_bos_token"] == Value::Bool(true);
        let prepend = bos.filter(|id| wants_bos && !empty.get_ids().contains(id));

        let strip_leading_space = matches!(style, Style::VisibleSpace { strip: true });
        Ok(Inner {
            engine: Engine::Hf(Box::new(Self { tokenizer, plain: OnceLock::new(), style, prepend })),
            pieces,
            strip_leading_space,
            bos,
            eos,
            unk,
            pad,
            stop_ids,
            chat_template: side.chat_template,
            warnings: Vec::new(),
        })
    }

    pub(crate) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        check_space_runs(text)?;
        let encoding = guard(|| self.tokenizer.encode_fast(text, add_special)).map_err(TextError::Encode)?;
        let mut ids = Vec::with_capacity(encoding.len() + 1);
        ids.extend(self.prepend.filter(|_| add_special));
        ids.extend_from_slice(encoding.get_ids());
        Ok(ids)
    }

    pub(crate) fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let plain = self.plain.get_or_init(|| {
            let mut plain = self.tokenizer.clone();
            plain.set_encode_special_tokens(true);
            plain
        });
        check_space_runs(text)?;
        let encoding = guard(|| plain.encode_fast(text, false)).map_err(TextError::Encode)?;
        Ok(encoding.get_ids().to_vec())
    }

    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        guard(|| self.tokenizer.decode(ids, skip_special)).map_err(TextError::Decode)
    }

    /// Whether text is more than the concatenation of each token's bytes.
    pub(crate) fn decodes_itself(&self) -> bool {
        matches!(self.style, Style::WordPiece | Style::Library)
    }

    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub(crate) fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }
}

/// The library's regular expressions give up on longer runs of white space, and then it takes the rest of the text for
/// one word, without a word about it.
const MAX_SPACE_RUN: usize = 500_000;

fn check_space_runs(text: &str) -> Result<(), TextError> {
    if text.len() <= MAX_SPACE_RUN {
        return Ok(());
    }
    let longest = text.split(|c: char| !c.is_whitespace()).map(str::len).max().unwrap_or(0);
    if longest > MAX_SPACE_RUN {
        return Err(TextError::Encode(format!(
            "the text holds a run of {longest} bytes of white space; at most {MAX_SPACE_RUN} are supported"
        )));
    }
    Ok(())
}

/// Runs a library call; its error or panic (broken tables inside the file) becomes a message.
fn guard<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("the tokenizer file is inconsistent (the tokenizer library gave up on it)".into()),
    }
}

/// The files published beside a `tokenizer.json`.
pub(crate) struct SideFiles {
    pub(crate) tokenizer_config: Value,
    special_tokens_map: Value,
    generation: Value,
    pub(crate) chat_template: Option<String>,
}

impl SideFiles {
    pub(crate) fn load(tokenizer_json: &Path) -> Result<Self, TextError> {
        let dir = tokenizer_json.parent().unwrap_or(Path::new(""));
        let tokenizer_config = read_json(&dir.join("tokenizer_config.json"))?;
        let mut chat_template = match &tokenizer_config["chat_template"] {
            Value::String(s) => Some(s.clone()),
            Value::Array(list) => list
                .iter()
                .find(|t| t["name"] == "default")
                .or_else(|| list.first())
                .and_then(|t| t["template"].as_str())
                .map(str::to_owned),
            _ => None,
        };
        if let Value::String(s) = &read_json(&dir.join("chat_template.json"))?["chat_template"] {
            chat_template = Some(s.clone());
        }
        if let Some(s) = read_text(&dir.join("chat_template.jinja"))? {
            chat_template = Some(s);
        }
        Ok(Self {
            special_tokens_map: read_json(&dir.join("special_tokens_map.json"))?,
            generation: read_json(&dir.join("generation_config.json"))?,
            tokenizer_config,
            chat_template,
        })
    }

    /// Text of a named special token; stored as a string or as an object with `content`.
    pub(crate) fn token(&self, name: &str) -> Option<String> {
        [&self.tokenizer_config, &self.special_tokens_map].into_iter().find_map(|file| {
            let entry = &file[name];
            entry.as_str().or_else(|| entry["content"].as_str()).map(str::to_owned)
        })
    }
}

fn read_text(path: &Path) -> Result<Option<String>, TextError> {
    match std::fs::read_to_string(path) {
        Ok(s) => Ok(Some(s)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Io { path: path.to_owned(), source }),
    }
}

/// The file's JSON, or null if there is no such file.
pub(crate) fn read_json(path: &Path) -> Result<Value, TextError> {
    match read_text(path)? {
        None => Ok(Value::Null),
        Some(text) => serde_json::from_str(&text)
            .map_err(|e| TextError::File { path: path.to_owned(), message: format!("not valid JSON: {e}") }),
    }
}
