//! Errors of loading and running models.

use std::path::PathBuf;

use rlx_flow::FlowError;
use rlx_runtime::RuntimeError;
use rlx_text::TextError;
use rlx_weights::WeightsError;

/// What can go wrong between a path and an answer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum CoreError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Flow(#[from] FlowError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("config: {0}")]
    Config(String),
    #[error(
        "{path}: cannot tell what model this is: no general.architecture in a GGUF file, no model_type in config.json"
    )]
    NoArchitecture { path: PathBuf },
    #[error("architecture `{architecture}` is not supported (supported: {supported})")]
    UnknownArchitecture { architecture: String, supported: String },
    #[error("this is a {architecture} file: use `rlx-run {family}` (or `rlx-run auto`)")]
    OtherFamily { architecture: String, family: String },
    #[error("models of the family {family} do not generate text: use `rlx-run {family}`")]
    NoDecoder { family: String },
    #[error("models of the family {family} cannot be written as GGUF files")]
    NoGguf { family: String },
    #[error("the checkpoint has no tokenizer; give one with --tokenizer, or the prompt with --prompt-ids")]
    NoTokenizer,
    #[error("the checkpoint has no chat template; give one with --chat-template (a file, or a name such as chatml)")]
    NoChatTemplate,
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("the prompt has {tokens} tokens, but at most {max_seq} fit (raise --max-seq, or shorten the prompt)")]
    PromptTooLong { tokens: usize, max_seq: usize },
    #[error("a text has {tokens} tokens, but the model takes at most {max}: cut it, or have it cut")]
    TextTooLong { tokens: usize, max: usize },
    #[error("the text has {tokens} tokens, fewer than one window of {window}")]
    TextTooShort { tokens: usize, window: usize },
    #[error("the draft model must have the model's vocabulary: {0}")]
    DraftVocabulary(String),
    #[error("draft of {0} tokens: from 1 to {max} are possible", max = crate::MAX_DRAFT_TOKENS)]
    DraftTokens(usize),
    #[error("input {name}: {what}")]
    Input { name: String, what: String },
}
