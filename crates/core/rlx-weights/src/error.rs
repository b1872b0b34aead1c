//! The crate's error type.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rlx_ir::DType;

/// What can be wrong with a checkpoint. Every message is one line and says which file, what, and where it helps what to
/// do about it. Text taken from files is escaped and cut short.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file breaks its format: `what` says how.
    #[error("{}: {what}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the offset or the name of the tensor or key.
        what: String,
    },
    /// The file ends before what it announces.
    #[error("{}: file is cut short: {what} needs {need} bytes at offset {at}, {have} are left (download it again?)", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Offset in the file.
        at: u64,
        /// Bytes needed there.
        need: u64,
        /// Bytes left there.
        have: u64,
    },
    /// A GGUF tensor has a type number that is not known here.
    #[error("{}: tensor {} has unknown type {id}{hint}", .path.display(), quoted(.tensor))]
    UnknownTensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Type number in the file.
        id: u32,
        /// More about the number, if it is one that ggml removed; else empty.
        hint: &'static str,
    },
    /// A safetensors tensor has an element type that is not supported.
    #[error("{}: tensor {} has unsupported type {}", .path.display(), quoted(.tensor), quoted(.dtype))]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Type name in the file.
        dtype: String,
    },
    /// Parts of a split checkpoint are not there.
    #[error("split checkpoint is incomplete, missing: {}", list_paths(.missing))]
    MissingParts {
        /// The files looked for.
        missing: Vec<PathBuf>,
    },
    /// No checkpoint was found, or the one asked for is not there.
    #[error("{}: {what}", .path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
        /// What was looked for, and what there is instead.
        what: String,
    },
    /// Metadata keys without which the model cannot be loaded.
    #[error("missing metadata: {}", list_names(.keys))]
    MissingMetadata {
        /// The keys.
        keys: Vec<String>,
    },
    /// A metadata key holds another kind of value than it should.
    #[error("metadata {} should be {expected}, found {found}", quoted(.key))]
    MetadataType {
        /// The key.
        key: String,
        /// What is needed.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
    /// A parameter of the model is not in the checkpoint.
    #[error("missing parameter {name}{}{}", file_name_hint(.name, .file_name), nearest_hint(.nearest, "in file"))]
    MissingParameter {
        /// Canonical name of the parameter.
        name: String,
        /// What this checkpoint should call it.
        file_name: String,
        /// The tensor of the file whose name comes nearest.
        nearest: Option<String>,
    },
    /// Tensors of the checkpoint that the model has no use for.
    #[error("{count} tensor(s) of the checkpoint are not used by the model, first {}{}", quoted(.first), nearest_hint(.nearest, "in model"))]
    UnusedTensors {
        /// How many there are.
        count: usize,
        /// The first of them.
        first: String,
        /// The parameter whose name comes nearest to the first.
        nearest: Option<String>,
    },
    /// A tensor does not have the shape or size that is needed.
    #[error("tensor {} {what}", quoted(.tensor))]
    Shape {
        /// The tensor.
        tensor: String,
        /// What it is and what it should be.
        what: String,
    },
    /// An operation that this element type does not allow.
    #[error("tensor {} of type {dtype}: {what}", quoted(.tensor))]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: DType,
        /// What was asked of it.
        what: String,
    },
    /// The caller asked to stop.
    #[error("{}: stopped before it was complete; nothing was written", .path.display())]
    Interrupted {
        /// The file that was to be.
        path: PathBuf,
    },
    /// A caller's own mistake: a name table, a writer or a format used against its rules.
    #[error("{0}")]
    Usage(String),
}

impl WeightsError {
    pub(crate) fn io(path: &Path, source: io::Error) -> WeightsError {
        WeightsError::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn format(path: &Path, what: impl Into<String>) -> WeightsError {
        WeightsError::Format { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn not_found(path: &Path, what: impl Into<String>) -> WeightsError {
        WeightsError::NotFound { path: path.to_path_buf(), what: what.into() }
    }
}

/// A name from a file for an error message: escaped, in backquotes, at most 80 characters.
pub fn quoted(name: &str) -> impl fmt::Display {
    const MAX: usize = 80;
    let mut out: String = name.chars().take(MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX).is_some() {
        out.push_str("...");
    }
    format!("`{out}`")
}

/// Names from a file for an error message, each [`quoted`], at most a dozen.
pub fn list_names<S: AsRef<str>>(names: &[S]) -> String {
    const MAX: usize = 12;
    let mut out = names.iter().take(MAX).map(|name| quoted(name.as_ref()).to_string()).collect::<Vec<_>>().join(", ");
    if names.len() > MAX {
        out.push_str(&format!(" and {} more", names.len() - MAX));
    }
    out
}

fn list_paths(paths: &[PathBuf]) -> String {
    list_names(&paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>())
}

fn file_name_hint(name: &str, file_name: &str) -> String {
    if file_name.is_empty() || name == file_name { String::new() } else { format!(" ({file_name} in this format)") }
}

fn nearest_hint(nearest: &Option<String>, place: &str) -> String {
    match nearest {
        Some(name) => format!(" (nearest {place}: {})", quoted(name)),
        None => String::new(),
    }
}
