//! Formats of Whisper checkpoints that are neither safetensors nor GGUF. Both have the extension `.bin`: files of whisper.cpp, and
//! `model.bin` of CTranslate2 (faster-whisper).

mod ct2;
mod ggml;

use std::path::Path;
use std::sync::OnceLock;

use rlx_weights::{Checkpoint, CustomFormat, WeightsError, map_file, register_format};

/// Lets [`Checkpoint::open`] read the `.bin` files of whisper.cpp and CTranslate2, and folders that hold one. Calling it again changes
/// nothing.
///
/// # Errors
/// If another format has taken the extension.
pub fn register_formats() -> Result<(), WeightsError> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| register_format(Box::new(WhisperBin)).map_err(|error| error.to_string()));
    done.clone().map_err(WeightsError::Usage)
}

struct WhisperBin;

impl CustomFormat for WhisperBin {
    fn name(&self) -> &str {
        "whisper-bin"
    }

    fn extensions(&self) -> &[&str] {
        &["bin"]
    }

    fn open(&self, path: &Path) -> Result<Checkpoint, WeightsError> {
        let bytes = map_file(path)?;
        let what = match bytes.first_chunk::<4>() {
            Some(&ggml::MAGIC) => return ggml::open(&bytes, path),
            Some(&version) if ct2::VERSIONS.contains(&u32::from_le_bytes(version)) => return ct2::open(&bytes, path),
            Some(b"PK\x03\x04") => "a PyTorch file, whose pickled code is not run: convert it to safetensors",
            Some(_) => "neither a file of whisper.cpp nor a model.bin of CTranslate2",
            None => "shorter than any model",
        };
        Err(WeightsError::Format { path: path.to_path_buf(), what: what.into() })
    }
}
