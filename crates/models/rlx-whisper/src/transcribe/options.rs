//! How to transcribe.

use rlx_core::CoreError;

use crate::decode::DecodeOptions;
use crate::text::{Task, language_code};

/// Above this temperature a text is not trusted to be read on from.
pub(super) const PROMPT_RESET_TEMPERATURE: f32 = 0.5;

/// How to transcribe a sound.
#[derive(Clone, Debug, PartialEq)]
pub struct TranscribeOptions {
    /// How to decode each window.
    pub decode: DecodeOptions,
    /// Code or English name of the language spoken; found out from the first window if not given.
    pub language: Option<String>,
    /// Transcribe or translate.
    pub task: Task,
    /// Text that the first window is read on from: names and words to expect, and the style of writing.
    pub initial_prompt: Option<String>,
    /// Words to expect, told to every window.
    pub hotwords: Option<String>,
    /// Whether a window is read on from the text of those before. Without, windows are less consistent but errors do not spread.
    pub condition_on_previous_text: bool,
    /// Whether to find out when each word was said.
    pub word_timestamps: bool,
    /// With word timestamps: silence longer than this around improbable words is skipped, in seconds.
    pub hallucination_silence_threshold: Option<f64>,
}

impl Default for TranscribeOptions {
    fn default() -> Self {
        TranscribeOptions {
            decode: DecodeOptions::default(),
            language: None,
            task: Task::Transcribe,
            initial_prompt: None,
            hotwords: None,
            condition_on_previous_text: true,
            word_timestamps: false,
            hallucination_silence_threshold: None,
        }
    }
}

impl TranscribeOptions {
    /// The code of the language that was asked for.
    ///
    /// # Errors
    /// If it is not one that Whisper knows.
    pub(super) fn language_code(&self) -> Result<Option<&'static str>, CoreError> {
        let Some(name) = &self.language else { return Ok(None) };
        match language_code(name) {
            Some(code) => Ok(Some(code)),
            None => Err(CoreError::Config(format!("language `{name}`: give a code such as de, or its English name"))),
        }
    }
}
