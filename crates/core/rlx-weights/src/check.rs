//! Whether a checkpoint can be run, judged by the fields that llama.cpp needs at load time.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::gguf::GgufMetadata;
use crate::{Checkpoint, Format, OpenOptions, WeightsError};

/// What the caller runs and what it knows; names are `general.architecture` of GGUF and `model_type` of `config.json`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Architectures<'a> {
    /// Architectures that run.
    pub supported: &'a [&'a str],
    /// Architectures that are known and do not run, each with what is missing for it.
    pub known: &'a [(&'a str, &'a str)],
}

/// What [`check`] finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict")]
pub enum Verdict {
    /// It runs.
    #[serde(rename = "SUPPORTED")]
    Supported {
        /// The architecture.
        architecture: String,
    },
    /// It is known and does not run.
    KnownUnimplemented {
        /// What is missing for it.
        what: String,
    },
    /// It lacks metadata.
    MissingMetadata {
        /// The keys.
        keys: Vec<String>,
    },
    /// Nobody here has heard of its architecture.
    Unknown {
        /// The architecture.
        architecture: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Supported { .. } => f.pad("SUPPORTED"),
            Verdict::KnownUnimplemented { what } => f.pad(&format!("KnownUnimplemented({what})")),
            Verdict::MissingMetadata { keys } => f.pad(&format!("MissingMetadata({})", keys.join(", "))),
            Verdict::Unknown { .. } => f.pad("Unknown"),
        }
    }
}

/// Judges the checkpoint at `path`. A tensor of a type that is not implemented is a [`Verdict::KnownUnimplemented`] too.
///
/// # Errors
/// As [`Checkpoint::open`]: a broken file is an error, no verdict.
pub fn check(path: &Path, options: &OpenOptions, architectures: &Architectures<'_>) -> Result<Verdict, WeightsError> {
    match Checkpoint::open(path, options) {
        Ok(checkpoint) => Ok(judge(&checkpoint, architectures)),
        Err(WeightsError::UnknownTensorType { id, hint, .. }) => {
            Ok(Verdict::KnownUnimplemented { what: format!("tensor type {id}{hint}") })
        }
        Err(WeightsError::UnsupportedDtype { dtype, .. }) => {
            let what = format!("tensor type {}", crate::error::quoted(&dtype));
            Ok(Verdict::KnownUnimplemented { what })
        }
        Err(other) => Err(other),
    }
}

/// Judges an open checkpoint.
pub fn judge(checkpoint: &Checkpoint, architectures: &Architectures<'_>) -> Verdict {
    let Some(architecture) = checkpoint.architecture() else {
        let key = if checkpoint.format() == &Format::Gguf { "general.architecture" } else { "config.json: model_type" };
        return Verdict::MissingMetadata { keys: vec![key.to_owned()] };
    };
    if let Some((_, what)) = architectures.known.iter().find(|(name, _)| *name == architecture) {
        return Verdict::KnownUnimplemented { what: (*what).to_owned() };
    }
    let architecture = architecture.to_owned();
    if !architectures.supported.contains(&architecture.as_str()) {
        return Verdict::Unknown { architecture };
    }
    let keys = checkpoint.gguf().map(missing_keys).unwrap_or_default();
    if keys.is_empty() { Verdict::Supported { architecture } } else { Verdict::MissingMetadata { keys } }
}

/// Which of the fields that llama.cpp needs of every model are absent or of the wrong kind.
fn missing_keys(meta: &GgufMetadata) -> Vec<String> {
    let numbers = ["context_length", "embedding_length", "block_count"].map(|suffix| meta.arch_key(suffix));
    let mut missing: Vec<String> = numbers.into_iter().filter(|key| meta.get_u32(key).is_none()).collect();
    if meta.get_str("tokenizer.ggml.model").is_none() {
        missing.push("tokenizer.ggml.model".to_owned());
    }
    // The tokenizer `none` of models without text has no tokens.
    if meta.get_str("tokenizer.ggml.model") != Some("none") && meta.get_strings("tokenizer.ggml.tokens").is_none() {
        missing.push("tokenizer.ggml.tokens".to_owned());
    }
    missing
}
