//! To be told at once when speech begins and ends, by the rules of Silero's `VADIterator`.

use crate::{SegmentOptions, VadError};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechEvent {
    /// Speech began at this sample.
    Start(u64),
    /// Speech ended before this sample.
    End(u64),
}

/// Watches a stream of probabilities, one per window. Of [`SegmentOptions`] the thresholds, `min_silence_ms` and `speech_pad_ms` count.
#[derive(Debug, Clone)]
pub struct SpeechEvents {
    threshold: f32,
    end_threshold: f32,
    window: u64,
    min_silence: f64,
    pad: u64,
    /// The sample after the present window.
    now: u64,
    speaking: bool,
    silence: Option<u64>,
}

impl SpeechEvents {
    /// For windows of `window` samples at `rate` Hz.
    ///
    /// # Errors
    /// An option is out of range.
    pub fn new(options: &SegmentOptions, rate: u32, window: usize) -> Result<SpeechEvents, VadError> {
        options.validate()?;
        let samples = |ms: u32| f64::from(rate) * f64::from(ms) / 1000.0;
        Ok(SpeechEvents {
            threshold: options.threshold,
            end_threshold: options.end_threshold(),
            window: window as u64,
            min_silence: samples(options.min_silence_ms),
            pad: samples(options.speech_pad_ms) as u64,
            now: 0,
            speaking: false,
            silence: None,
        })
    }

    /// Whether somebody speaks now.
    pub fn speaking(&self) -> bool {
        self.speaking
    }

    /// Takes the next window's probability.
    pub fn push(&mut self, probability: f32) -> Option<SpeechEvent> {
        self.now += self.window;
        if probability >= self.threshold {
            self.silence = None;
            if !std::mem::replace(&mut self.speaking, true) {
                return Some(SpeechEvent::Start(self.now.saturating_sub(self.pad + self.window)));
            }
        }
        if probability < self.end_threshold && self.speaking {
            let began = *self.silence.get_or_insert(self.now);
            if (self.now - began) as f64 >= self.min_silence {
                (self.speaking, self.silence) = (false, None);
                return Some(SpeechEvent::End((began + self.pad).saturating_sub(self.window)));
            }
        }
        None
    }

    /// Forgets the stream.
    pub fn reset(&mut self) {
        (self.now, self.speaking, self.silence) = (0, false, None);
    }
}
