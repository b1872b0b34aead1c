//! Errors of the runtime.

/// What can go wrong between a graph and its results.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RuntimeError {
    #[error(transparent)]
    Graph(#[from] rlx_ir::IrError),
    #[error(transparent)]
    Backend(#[from] rlx_cpu::CpuError),
    #[error("parameter {name}: {what}")]
    Param { name: String, what: String },
    #[error("the graph is not a language model's: it has no {0}")]
    NotALanguageModel(&'static str),
    #[error("a sequence of {len} tokens exceeds the maximum of {max} (raise --max-seq)")]
    TooLong { len: usize, max: usize },
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    TokenId { id: u32, vocab: usize },
    #[error("no tokens to run")]
    Empty,
    #[error("no sequence {0} in this session")]
    NoSequence(u32),
    #[error("cannot cut a sequence of {len} tokens to {to}")]
    Truncate { len: usize, to: usize },
    #[error("the saved sequence does not fit this model: {0}")]
    Snapshot(String),
    #[error("cross-attention: {0}")]
    Cross(String),
    #[error("session option {0}")]
    Options(String),
}
