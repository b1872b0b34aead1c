//! The crate's error type.

use std::path::PathBuf;

/// Everything that can go wrong between text and ids. The message says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason given by the system.
        source: std::io::Error,
    },
    /// A tokenizer file is not what it should be.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        message: String,
    },
    /// The vocabulary given by a GGUF file does not hold together.
    #[error("GGUF vocabulary: {0}")]
    Vocab(String),
    /// The tokenizer algorithm is not supported.
    #[error(
        "tokenizer model `{model}` is not supported (supported: gpt2, gemma4, llama, bert, t5); \
         give the model's tokenizer.json instead"
    )]
    UnsupportedModel {
        /// Value of `tokenizer.ggml.model`.
        model: String,
    },
    /// Text could not be turned into ids.
    #[error("cannot tokenize: {0}")]
    Encode(String),
    /// Ids could not be turned into text.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// An id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab_size} tokens")]
    UnknownId {
        /// The id.
        id: u32,
        /// Number of ids of the tokenizer.
        vocab_size: usize,
    },
    /// The chat template does not parse, or fails while it runs.
    #[error("chat template: {0}")]
    Template(String),
    /// The chat template refused its input with `raise_exception`.
    #[error("the chat template refuses these messages: {0}")]
    TemplateRaised(String),
    /// The chat template exceeded a limit of work, memory or output.
    #[error("chat template stopped: {0}")]
    TemplateLimit(String),
    /// A schema, grammar or regular expression is not valid, or an answer left it.
    #[error("{kind}: {message}")]
    Grammar {
        /// Which of them.
        kind: &'static str,
        /// What is wrong, and where.
        message: String,
    },
    /// A sampler option is out of range.
    #[error("sampler option {name} = {value}: must be {expected}")]
    SamplerOption {
        /// Field of [`SamplerOptions`](crate::SamplerOptions).
        name: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// The logits cannot be sampled from.
    #[error("cannot sample: {0}")]
    Logits(String),
}
