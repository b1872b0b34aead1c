//! [`Tokenizer`]: one face for every kind of tokenizer.

use std::path::Path;
use std::sync::Arc;

use crate::gguf::{GgufTokenizer, GgufVocab};
use crate::hf::HfTokenizer;
use crate::pieces::{PieceTable, TokenKind};
use crate::{ChatTemplate, TextError};

/// Turns text into token ids and back. Cheap to clone; shared between threads.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) pieces: PieceTable,
    /// The first piece of a text loses one leading space (SentencePiece's added one).
    pub(crate) strip_leading_space: bool,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) unk: Option<u32>,
    pub(crate) pad: Option<u32>,
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) chat_template: Option<String>,
    pub(crate) warnings: Vec<String>,
}

pub(crate) enum Engine {
    Gguf(GgufTokenizer),
    Hf(Box<HfTokenizer>),
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("bos", &self.inner.bos)
            .field("eos_ids", &self.inner.stop_ids)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a Hugging Face `tokenizer.json`, and beside it, where present, `tokenizer_config.json`,
    /// `special_tokens_map.json`, `generation_config.json`, `chat_template.jinja` and `chat_template.json`.
    ///
    /// # Errors
    /// A file that cannot be read or parsed.
    pub fn from_file(tokenizer_json: &Path) -> Result<Self, TextError> {
        Ok(Self { inner: Arc::new(HfTokenizer::load(tokenizer_json)?) })
    }

    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// An unsupported model, or tables that do not fit together.
    pub fn from_gguf(v: &GgufVocab) -> Result<Self, TextError> {
        let p = GgufTokenizer::load(v)?;
        let inner = Inner {
            engine: Engine::Gguf(p.tokenizer),
            pieces: p.pieces,
            strip_leading_space: p.strip_leading_space,
            bos: p.bos,
            eos: p.eos,
            unk: p.unk,
            pad: p.pad,
            stop_ids: p.stop_ids,
            chat_template: v.chat_template.clone(),
            warnings: p.warnings,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ids of `text`. Special tokens written in the text become their ids; use it for rendered chat templates and
    /// other trusted text. With `add_special`, the ids that the model expects around a text (begin of text, `[CLS]`
    /// ...) are added; leave it off for a chat prompt whose template writes them itself.
    ///
    /// # Errors
    /// Text that the vocabulary cannot express.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        match &self.inner.engine {
            Engine::Gguf(t) => t.encode(text, add_special, true),
            Engine::Hf(t) => t.encode(text, add_special),
        }
    }

    /// Ids of untrusted text: control tokens written in it are plain text, and nothing is added around it. (Added
    /// tokens that are not control tokens are still found; they are vocabulary, not commands.)
    ///
    /// # Errors
    /// Text that the vocabulary cannot express.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match &self.inner.engine {
            Engine::Gguf(t) => t.encode(text, false, false),
            Engine::Hf(t) => t.encode_plain(text),
        }
    }

    /// Text of `ids`; bytes that are not UTF-8 become U+FFFD. With `skip_special`, control, unknown and unused tokens
    /// are left out. Nothing else is cleaned up.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.vocab_size()) {
            return Err(TextError::UnknownId { id, vocab_size: self.vocab_size() });
        }
        if let Engine::Hf(t) = &self.inner.engine
            && t.decodes_itself()
        {
            return t.decode(ids, skip_special);
        }
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        let mut at_start = self.inner.strip_leading_space;
        for &id in ids {
            self.append_piece(id, skip_special, &mut at_start, &mut bytes);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Appends the bytes that `id` adds to a text. `at_start` is true while the leading space is still to be stripped.
    pub(crate) fn append_piece(&self, id: u32, skip_special: bool, at_start: &mut bool, out: &mut Vec<u8>) {
        let kind = self.inner.pieces.kind(id).unwrap_or(TokenKind::Unused);
        if skip_special && kind.is_special() {
            return;
        }
        let mut bytes = self.inner.pieces.bytes(id).unwrap_or(&[]);
        if *at_start && !bytes.is_empty() {
            *at_start = false;
            if kind == TokenKind::Normal {
                bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            }
        }
        out.extend_from_slice(bytes);
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Number of ids. The model's logits may have more rows than that (padding); those rows are no tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.pieces.len()
    }

    /// Id of a token by its text as stored in the vocabulary (`Ġthe`, `▁the`, `<|im_end|>`).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        match &self.inner.engine {
            Engine::Gguf(t) => t.token_to_id(token),
            Engine::Hf(t) => t.token_to_id(token),
        }
    }

    /// Text of a token as stored in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        match &self.inner.engine {
            Engine::Gguf(t) => t.id_to_token(id).map(str::to_owned),
            Engine::Hf(t) => t.id_to_token(id),
        }
    }

    /// Raw bytes that a token stands for: part of a character for some, the text itself for special tokens. Empty for
    /// ids outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.inner.pieces.bytes(id).unwrap_or(&[]).to_vec()
    }

    /// What a token is for; `None` outside the vocabulary.
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.inner.pieces.kind(id)
    }

    /// The begin-of-text id.
    pub fn bos_id(&self) -> Option<u32> {
        self.inner.bos
    }

    /// The end-of-text id that the file names, one of [`eos_ids`](Self::eos_ids).
    pub fn eos_id(&self) -> Option<u32> {
        self.inner.eos
    }

    /// The unknown id.
    pub fn unk_id(&self) -> Option<u32> {
        self.inner.unk
    }

    /// The padding id.
    pub fn pad_id(&self) -> Option<u32> {
        self.inner.pad
    }

    /// All ids that end a generation (end of text, of turn, of message), ascending.
    pub fn eos_ids(&self) -> &[u32] {
        &self.inner.stop_ids
    }

    /// Source of the chat template that came with the tokenizer.
    pub fn chat_template(&self) -> Option<&str> {
        self.inner.chat_template.as_deref()
    }

    /// The tokenizer's own chat template, ready to render.
    ///
    /// # Errors
    /// No template came with the tokenizer, or it does not parse.
    pub fn load_chat_template(&self) -> Result<ChatTemplate, TextError> {
        let source = self.chat_template().ok_or_else(|| {
            TextError::Template(
                "this checkpoint brings no chat template; name one (--chat-template chatml, llama3, gemma, ...)".into(),
            )
        })?;
        ChatTemplate::new(source)
    }

    /// Doubts about the vocabulary that the user should see, e.g. an unknown pre-tokenizer.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }
}
