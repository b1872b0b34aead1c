//! Errors of loading encoders and embedding texts.

use rlx_core::CoreError;
use rlx_core::fetch::FetchError;
use rlx_text::TextError;
use rlx_weights::WeightsError;

/// What can go wrong between a text and its vector.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum EmbedError {
    #[error(transparent)]
    Core(#[from] CoreError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("no model was named: give a path or a name to the builder")]
    NoModel,
    #[error("{file}: {what}")]
    Settings { file: String, what: String },
    #[error(
        "the checkpoint has no tokenizer (tokenizer.json beside the weights, or one in the GGUF file): give one with --tokenizer, or the builder's `tokenizer`"
    )]
    NoTokenizer,
    #[error("the tokenizer has {tokenizer} ids, the model takes ids below {model}: they do not belong together")]
    OtherTokenizer { tokenizer: usize, model: usize },
    #[error("the checkpoint has no prompt named `{name}` (it has: {known})")]
    UnknownPrompt { name: String, known: String },
    #[error("vectors of {dims} dims were asked of a model that makes {dim}")]
    Dims { dims: usize, dim: usize },
    #[error("max length {given} is not between {min} and {max} tokens")]
    MaxLength { given: usize, min: usize, max: usize },
    #[error("this is a cross-encoder: it scores pairs of texts (`rerank`) and makes no vectors")]
    CrossEncoder,
    #[error(
        "this model makes vectors and scores no pairs: `rerank` needs a cross-encoder (sequence classification with one label)"
    )]
    NoCrossEncoder,
    #[error("the model scores pairs by {labels} labels; `rerank` needs one")]
    Labels { labels: usize },
    #[error("input {name}: {what}")]
    Input { name: String, what: String },
}
