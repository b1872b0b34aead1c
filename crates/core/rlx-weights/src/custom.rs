//! Weight formats that other crates add, chosen by file extension.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crate::{Checkpoint, WeightsError};

/// A weight format of its own: reads a file into a [`Checkpoint`] (see [`Checkpoint::custom`]).
pub trait CustomFormat: Send + Sync {
    /// Name shown to users, as [`Format::Custom`](crate::Format::Custom).
    fn name(&self) -> &str;
    /// File extensions without the dot, in lower case.
    fn extensions(&self) -> &[&str];
    /// Opens a file with one of the extensions.
    ///
    /// # Errors
    /// Whatever is wrong with the file, as [`WeightsError`]; files are hostile here as everywhere.
    fn open(&self, path: &Path) -> Result<Checkpoint, WeightsError>;
}

static FORMATS: RwLock<Vec<Arc<dyn CustomFormat>>> = RwLock::new(Vec::new());

/// Adds a format for the whole process; [`Checkpoint::open`] then opens its extensions.
///
/// # Errors
/// [`WeightsError::Usage`] if it names no extension, or one that is taken.
pub fn register_format(format: Box<dyn CustomFormat>) -> Result<(), WeightsError> {
    if format.extensions().is_empty() {
        return Err(WeightsError::Usage(format!("format {} names no file extension", format.name())));
    }
    let mut formats = FORMATS.write().unwrap_or_else(PoisonError::into_inner);
    for extension in format.extensions() {
        let taken = ["gguf", "safetensors", "json"].contains(extension)
            || formats.iter().any(|other| other.extensions().contains(extension));
        if taken {
            return Err(WeightsError::Usage(format!("extension .{extension} is taken by another weight format")));
        }
    }
    formats.push(Arc::from(format));
    Ok(())
}

/// Names of the formats that can be opened, each with its extensions: the built-in ones first.
pub fn list_formats() -> Vec<(String, Vec<String>)> {
    let mut out = vec![("gguf".to_owned(), vec!["gguf".to_owned()])];
    out.push(("safetensors".to_owned(), vec!["safetensors".to_owned()]));
    for format in FORMATS.read().unwrap_or_else(PoisonError::into_inner).iter() {
        out.push((format.name().to_owned(), format.extensions().iter().map(|&e| e.to_owned()).collect()));
    }
    out
}

/// The format registered for the extension of `path`.
pub(crate) fn format_for(path: &Path) -> Option<Arc<dyn CustomFormat>> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let formats = FORMATS.read().unwrap_or_else(PoisonError::into_inner);
    formats.iter().find(|format| format.extensions().contains(&extension.as_str())).cloned()
}
