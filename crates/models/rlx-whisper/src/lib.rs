//! Whisper (Radford et al. 2022): speech recognition and translation into English.
//!
//! An encoder reads windows of 30 s of log-mel spectrogram; a decoder, which attends to the encoder's output, writes text and
//! timestamps.
//!
//! - [`decode`]: from a window to tokens: greedy, beam search, sampling, and the rules that tokens must keep.
//! - [`output`]: transcriptions as text, subtitles, tables and JSON.
//! - [`text`]: special tokens, languages, words.
//! - [`transcribe`]: from sounds of any length to segments with timestamps; [`WhisperRunner`] does all of it in one call.

#[cfg(test)]
extern crate self as rlx_whisper;

mod builder;
pub mod cli;
mod config;
pub mod decode;
mod formats;
mod forward;
mod heard;
mod model;
pub mod output;
mod runner;
pub mod text;
pub mod transcribe;
mod weights;

pub use config::WhisperConfig;
pub use formats::register_formats;
pub use heard::Heard;
pub use model::WhisperModel;
pub use runner::{WhisperBuilder, WhisperRunner};
pub use text::{LANGUAGES, Task, WhisperText, language_code, language_name};
pub use transcribe::{TranscribeOptions, Transcriber, merge_spans};

/// The family.
pub const FAMILY: rlx_core::Family = rlx_core::Family {
    name: "whisper",
    about: "Whisper: speech recognition and translation",
    gguf_architectures: &["whisper"],
    hf_model_types: &["whisper"],
    task: rlx_core::Task::Network { check: forward::check, forward: forward::forward, gguf: None },
};

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
