//! The crate's error type.

use std::io;
use std::path::Path;

use rlx_weights::WeightsError;

/// What can be wrong with texts and vectors on their way. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VectorsError {
    /// The operating system refused.
    #[error("{name}: {source}")]
    Io {
        /// The file, or `stdin`.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// One row of the input is no text.
    #[error("{name}, {unit} {number}: {what}")]
    Row {
        /// The file, or `stdin`.
        name: String,
        /// What `number` counts: `line`, `row`.
        unit: &'static str,
        /// Which one, from 1.
        number: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A whole file is not what it should be.
    #[error("{name}: {what}")]
    File {
        /// The file.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A checkpoint format's own error: the index is a safetensors file.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A caller's own mistake.
    #[error("{0}")]
    Usage(String),
}

impl VectorsError {
    pub(crate) fn io(name: impl Into<String>, source: io::Error) -> VectorsError {
        VectorsError::Io { name: name.into(), source }
    }

    pub(crate) fn file(path: &Path, what: impl Into<String>) -> VectorsError {
        VectorsError::File { name: path.display().to_string(), what: what.into() }
    }
}
