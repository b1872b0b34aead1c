//! From sound to text with timestamps.
//!
//! [`Transcriber`] reads long sounds in windows of 30 s, one after the other, each beginning where the last segment of the one
//! before ended ([`Transcriber::transcribe`]); or reads stretches of speech side by side ([`Transcriber::transcribe_spans`]); or
//! reads as the sound arrives ([`Transcriber::stream`]).

mod dtw;
mod hallucination;
mod mel;
mod options;
mod segments;
mod sequential;
mod spans;
mod stream;
mod types;
mod words;

use std::ops::ControlFlow;

use rlx_core::CoreError;

use crate::decode::{DecodeOptions, Decoder, LanguageProb, SpeechModel};
use crate::text::WhisperText;

pub use mel::LogMel;
pub use options::TranscribeOptions;
pub use spans::merge_spans;
pub use stream::{Stream, StreamOptions};
pub use types::{Segment, Transcript, Word};

/// What happens during a transcription. The listener may stop it.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The language was found out: all that the model knows, the most probable first.
    Language(&'a [LanguageProb]),
    /// Segments that are done.
    Segments(&'a [Segment]),
    /// What is said at the end of the sound so far, while it is still arriving. It replaces what was told before.
    Partial(&'a str),
    /// How much of the sound has been read, and how long it is, in seconds.
    Progress {
        /// Read.
        done: f64,
        /// Of this.
        total: f64,
    },
    /// The model has run once.
    Step,
}

/// What listens to a transcription.
pub type Listener<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// Transcribes sounds.
#[derive(Debug)]
pub struct Transcriber<M> {
    model: M,
    text: WhisperText,
    decoder: Decoder,
    /// Tries one temperature only: for sound that will be read again.
    quick: Decoder,
    options: TranscribeOptions,
}

/// The language of a sound, and how the model is told.
#[derive(Clone, Debug)]
struct Speech {
    language: String,
    language_and_task: Vec<u32>,
}

impl<M: SpeechModel> Transcriber<M> {
    /// # Errors
    /// If an option is out of range, or the model cannot do what is asked.
    pub fn new(model: M, text: WhisperText, options: TranscribeOptions) -> Result<Transcriber<M>, CoreError> {
        let decoder = Decoder::new(model.facts(), &text, options.decode.clone())?;
        let first = options.decode.temperatures[..1].to_vec();
        let quick = DecodeOptions { temperatures: first, ..options.decode.clone() };
        let quick = Decoder::new(model.facts(), &text, quick)?;
        // Better now than after the first window.
        let language = options.language_code()?.unwrap_or("en");
        if !text.multilingual() && language != "en" {
            return Err(CoreError::Config(format!("this model knows English alone, not `{language}`")));
        }
        text.language_and_task(language, options.task)?;
        Ok(Transcriber { model, text, decoder, quick, options })
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, to profile it.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// The model back.
    pub fn into_model(self) -> M {
        self.model
    }

    /// The options.
    pub fn options(&self) -> &TranscribeOptions {
        &self.options
    }

    /// The languages by their probability in the first 30 s of a sound, the most probable first.
    ///
    /// # Errors
    /// If the model cannot tell languages apart, or fails.
    pub fn detect_language(&mut self, mel: &LogMel) -> Result<Vec<LanguageProb>, CoreError> {
        let facts = self.model.facts();
        let window = mel.window(0, mel.frames().min(facts.window_frames), &facts)?;
        let ids = self.model.encode(&[&window])?;
        let found = match ids.first() {
            Some(&id) => self.decoder.detect_language(&mut self.model, id),
            None => Ok(Vec::new()),
        };
        for id in ids {
            self.model.release(id)?;
        }
        found
    }

    /// The language asked for, or that of the sound's beginning. `None` if the listener stops.
    fn speech(&mut self, mel: &LogMel, on: Listener<'_>) -> Result<Option<Speech>, CoreError> {
        let language = match self.options.language_code()? {
            Some(code) => code,
            None if !self.text.multilingual() => "en",
            None => {
                let found = self.detect_language(mel)?;
                if on(Event::Language(&found)).is_break() {
                    return Ok(None);
                }
                found.first().map_or("en", |best| best.code)
            }
        };
        let language_and_task = self.text.language_and_task(language, self.options.task)?;
        Ok(Some(Speech { language: language.to_owned(), language_and_task }))
    }

    /// Tokens of a text that is put before others.
    fn prompt_tokens(&self, text: Option<&str>) -> Result<Vec<u32>, CoreError> {
        match text.map(str::trim).filter(|t| !t.is_empty()) {
            Some(text) => self.text.encode(&format!(" {text}")),
            None => Ok(Vec::new()),
        }
    }
}
