//! How to decode.

use rlx_core::CoreError;

/// Which tokens are never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppress {
    /// The symbols of [`WhisperText::non_speech_tokens`](crate::text::WhisperText::non_speech_tokens).
    pub non_speech: bool,
    /// Others, by id.
    pub tokens: Vec<u32>,
}

impl Default for Suppress {
    fn default() -> Self {
        Suppress { non_speech: true, tokens: Vec::new() }
    }
}

/// How to decode a window. The defaults are those of openai/whisper and faster-whisper, with a beam of one.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeOptions {
    /// Beams at temperature 0; 1 is greedy.
    pub beam_size: usize,
    /// A beam search ends when `beam_size * patience` texts are finished (Kasai et al. 2022).
    pub patience: f32,
    /// Texts that are drawn at temperatures above 0; the most probable one is taken.
    pub best_of: usize,
    /// Texts are ranked by log probability, divided by their length, or by `((5 + length) / 6) ^ penalty` (Wu et al. 2016) if
    /// given, from 0 to 1.
    pub length_penalty: Option<f32>,
    /// Most tokens per window; half of what the model can read if not given.
    pub max_tokens: Option<usize>,
    /// Tokens never to write.
    pub suppress: Suppress,
    /// Whether a text may not begin with a space alone, or be empty.
    pub suppress_blank: bool,
    /// Whether to write timestamps. Without, a window is one segment.
    pub timestamps: bool,
    /// Latest time of the first timestamp, in seconds.
    pub max_initial_timestamp: Option<f32>,
    /// Tried one after the other until a text is good enough.
    pub temperatures: Vec<f32>,
    /// A text that zlib makes smaller than by this factor is good enough; others repeat themselves.
    pub compression_ratio_threshold: Option<f32>,
    /// A text whose mean log probability per token is at least this is good enough.
    pub logprob_threshold: Option<f32>,
    /// A window is silent if the no-speech token is more probable than this, and the text is not good enough by
    /// `logprob_threshold`.
    pub no_speech_threshold: Option<f32>,
    /// Seed of the draws at temperatures above 0.
    pub seed: u64,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions {
            beam_size: 1,
            patience: 1.0,
            best_of: 5,
            length_penalty: None,
            max_tokens: None,
            suppress: Suppress::default(),
            suppress_blank: true,
            timestamps: true,
            max_initial_timestamp: Some(1.0),
            temperatures: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            compression_ratio_threshold: Some(2.4),
            logprob_threshold: Some(-1.0),
            no_speech_threshold: Some(0.6),
            seed: 0,
        }
    }
}

/// More beams or draws than anyone needs; each costs a row of logits.
const MAX_TRACKS: usize = 64;

impl DecodeOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the option that is out of range.
    pub fn validate(&self) -> Result<(), CoreError> {
        let fail = |what: String| Err(CoreError::Config(what));
        for (name, n) in [("beam size", self.beam_size), ("best of", self.best_of)] {
            if n == 0 || n > MAX_TRACKS {
                return fail(format!("{name} {n}: from 1 to {MAX_TRACKS} are possible"));
            }
        }
        if !self.patience.is_finite() || self.patience <= 0.0 || self.patience > 100.0 {
            return fail(format!("patience {}: must be above 0 and at most 100", self.patience));
        }
        if let Some(p) = self.length_penalty.filter(|p| !(0.0..=1.0).contains(p)) {
            return fail(format!("length penalty {p}: must be from 0 to 1"));
        }
        if self.max_tokens == Some(0) {
            return fail("at least one token per window must be allowed".into());
        }
        if self.temperatures.is_empty() {
            return fail("no temperature is given".into());
        }
        if let Some(t) = self.temperatures.iter().find(|t| !t.is_finite() || **t < 0.0) {
            return fail(format!("temperature {t}: must be a number >= 0"));
        }
        if let Some(t) = self.max_initial_timestamp.filter(|t| !t.is_finite() || *t < 0.0) {
            return fail(format!("latest first timestamp {t}: must be a number >= 0"));
        }
        Ok(())
    }

    /// Finished texts at which a beam search ends.
    pub(super) fn max_candidates(&self) -> usize {
        ((self.beam_size as f32 * self.patience).round() as usize).max(1)
    }
}
