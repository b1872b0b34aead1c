//! The one-call API.

use std::ops::ControlFlow;
use std::path::PathBuf;

use rlx_core::{CoreError, LoadOptions, load_tokenizer};
use rlx_weights::Checkpoint;

use crate::decode::SpeechModel;
use crate::text::{MULTILINGUAL_VOCAB, WhisperText};
use crate::transcribe::{LogMel, TranscribeOptions, Transcriber, Transcript};
use crate::{Heard, WhisperModel, register_formats};

/// Transcribes sounds with a Whisper model.
///
/// ```no_run
/// use rlx_whisper::{TranscribeOptions, WhisperRunner};
/// let options = TranscribeOptions { word_timestamps: true, ..TranscribeOptions::default() };
/// let mut whisper = WhisperRunner::builder().weights("whisper-tiny.en/").options(options).build()?;
/// let sound = rlx_audio::load("speech.mp3", 16_000)?;
/// let transcript = whisper.transcribe_samples(&sound.samples)?;
/// println!("{}", transcript.text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type WhisperRunner = Transcriber<WhisperModel>;

/// Builds a [`WhisperRunner`].
#[derive(Clone, Debug, Default)]
pub struct WhisperBuilder {
    weights: PathBuf,
    load: LoadOptions,
    options: TranscribeOptions,
}

impl WhisperBuilder {
    /// A checkpoint: a file, or a directory.
    #[must_use]
    pub fn weights(mut self, path: impl Into<PathBuf>) -> WhisperBuilder {
        self.weights = path.into();
        self
    }

    /// A tokenizer other than the checkpoint's own.
    #[must_use]
    pub fn tokenizer(mut self, path: impl Into<PathBuf>) -> WhisperBuilder {
        self.load.tokenizer = Some(path.into());
        self
    }

    /// Device, threads, precision, kernels.
    #[must_use]
    pub fn load_options(mut self, load: LoadOptions) -> WhisperBuilder {
        self.load = load;
        self
    }

    /// How to transcribe.
    #[must_use]
    pub fn options(mut self, options: TranscribeOptions) -> WhisperBuilder {
        self.options = options;
        self
    }

    /// Loads the model.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or is not Whisper's, the device is not there, or the model cannot do what is asked.
    pub fn build(self) -> Result<WhisperRunner, CoreError> {
        register_formats()?;
        let checkpoint = Checkpoint::open(&self.weights, &self.load.open)?;
        WhisperRunner::load(&checkpoint, &self.load, self.options)
    }
}

impl WhisperRunner {
    /// Begins with default options.
    pub fn builder() -> WhisperBuilder {
        WhisperBuilder::default()
    }

    /// Loads the model of `checkpoint`.
    ///
    /// # Errors
    /// As [`WhisperBuilder::build`].
    pub fn load(
        checkpoint: &Checkpoint,
        load: &LoadOptions,
        options: TranscribeOptions,
    ) -> Result<WhisperRunner, CoreError> {
        let tokenizer = load_tokenizer(checkpoint, load.tokenizer.as_deref())?.ok_or(CoreError::NoTokenizer)?;
        let model = WhisperModel::load(checkpoint, load)?;
        let text = WhisperText::new(tokenizer, model.facts().vocab >= MULTILINGUAL_VOCAB)?;
        Transcriber::new(model, text, options)
    }

    /// Transcribes a sound, mono at 16 kHz. Windows without anything like speech ([`Heard`]) are not read.
    ///
    /// # Errors
    /// If the model fails.
    pub fn transcribe_samples(&mut self, samples: &[f32]) -> Result<Transcript, CoreError> {
        let mel = LogMel::of(samples, self.model().facts().n_mels)?;
        let mut heard = Heard::new(samples)?;
        self.transcribe_where(&mel, &mut |frames| heard.reaches_into(frames), &mut |_| ControlFlow::Continue(()))
    }
}
