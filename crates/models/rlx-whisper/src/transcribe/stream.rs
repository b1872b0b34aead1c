//! Text while the sound arrives.

use std::ops::ControlFlow;

use rlx_audio::WhisperMel;
use rlx_core::CoreError;

use super::sequential::{History, Place, Reading, frames};
use super::types::{Segment, Transcript};
use super::{Event, Listener, LogMel, Speech, Transcriber};
use crate::decode::SpeechModel;

/// Sound that a language is found out from; until then it is asked anew at each reading. In samples: 10 s.
const LANGUAGE_SAMPLES: usize = 10 * WhisperMel::SAMPLE_RATE as usize;
/// Two readings agree on a segment if its end moves by no more than this, in seconds.
const SAME_TIME: f64 = 0.5;

/// How to read a sound as it arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamOptions {
    /// Seconds of new sound after which what is there is read again. Each reading costs a pass of the encoder.
    pub interval: f64,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions { interval: 2.0 }
    }
}

/// A transcription of sound that is still arriving.
///
/// What has arrived is read again and again. A segment is done when two readings agree on it and something follows it, or when
/// 30 s are full; until then it is told as [`Event::Partial`]. Memory does not grow with the sound, but for its text.
#[derive(Debug)]
pub struct Stream<'t, M> {
    transcriber: &'t mut Transcriber<M>,
    mel: WhisperMel,
    interval: usize,
    /// Sound that is not done; it begins at the frame `seek`.
    samples: Vec<f32>,
    seek: usize,
    speech: Option<Speech>,
    history: History,
    segments: Vec<Segment>,
    /// How many samples there were at the last reading, and what segments it closed.
    read: usize,
    closed: Vec<Segment>,
}

impl<M: SpeechModel> Transcriber<M> {
    /// Begins a transcription of sound that arrives piece by piece, mono at 16 kHz.
    ///
    /// # Errors
    /// If the model's number of mel bands is impossible, or an option is out of range.
    pub fn stream(&mut self, options: StreamOptions) -> Result<Stream<'_, M>, CoreError> {
        if !options.interval.is_finite() || options.interval <= 0.0 {
            let what = format!("interval {} s: must be a number above 0", options.interval);
            return Err(CoreError::Config(what));
        }
        let bands = self.model.facts().n_mels;
        let mel = WhisperMel::new(bands).map_err(|e| CoreError::Config(e.to_string()))?;
        let interval = (options.interval * f64::from(WhisperMel::SAMPLE_RATE)) as usize;
        Ok(Stream {
            history: self.history()?,
            transcriber: self,
            mel,
            interval: interval.clamp(WhisperMel::HOP, WhisperMel::WINDOW),
            samples: Vec::new(),
            seek: 0,
            speech: None,
            segments: Vec::new(),
            read: 0,
            closed: Vec::new(),
        })
    }
}

impl<M: SpeechModel> Stream<'_, M> {
    /// Takes samples, and reads what is there if enough are new. `Break` if the listener stopped.
    ///
    /// # Errors
    /// If the model fails.
    pub fn push(&mut self, mut samples: &[f32], on: Listener<'_>) -> Result<ControlFlow<()>, CoreError> {
        while !samples.is_empty() {
            let room = (self.read + self.interval).min(WhisperMel::WINDOW).saturating_sub(self.samples.len()).max(1);
            let (now, later) = samples.split_at(room.min(samples.len()));
            samples = later;
            self.samples.extend_from_slice(now);
            let full = self.samples.len() >= WhisperMel::WINDOW;
            if !full && self.samples.len() < self.read + self.interval {
                continue;
            }
            let go_on = if full { self.read_window(on)? } else { self.read_partly(on)? };
            if go_on.is_break() {
                return Ok(go_on);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Seconds of sound that are done.
    pub fn done(&self) -> f64 {
        super::sequential::seconds(self.seek)
    }

    /// Reads what is left. If the listener stops, what was done until then is given.
    ///
    /// # Errors
    /// If the model fails.
    pub fn finish(mut self, on: Listener<'_>) -> Result<Transcript, CoreError> {
        while !self.samples.is_empty() && self.read_window(on)?.is_continue() {}
        let language = match self.speech {
            Some(speech) => speech.language,
            None => self.transcriber.options.language_code()?.unwrap_or_default().to_owned(),
        };
        Ok(Transcript::new(self.segments, language))
    }

    /// Reads the sound that is there; `None` if the listener stops.
    fn read(&mut self, quick: bool, on: Listener<'_>) -> Result<Option<(Reading, Place)>, CoreError> {
        let facts = self.transcriber.model.facts();
        let sound = &self.samples[..self.samples.len().min(WhisperMel::WINDOW)];
        let size = sound.len().div_ceil(WhisperMel::HOP);
        let mel = LogMel::from(&self.mel.log_mel_padded(sound, WhisperMel::WINDOW));
        let speech = match &self.speech {
            Some(speech) => speech.clone(),
            None => {
                let settled = !quick || sound.len() >= LANGUAGE_SAMPLES;
                let mut silent = |_: Event<'_>| ControlFlow::Continue(());
                let found = self.transcriber.speech(&mel, if settled { &mut *on } else { &mut silent })?;
                let Some(speech) = found else { return Ok(None) };
                self.speech = settled.then(|| speech.clone());
                speech
            }
        };
        let place = Place { seek: self.seek, size, content: self.seek + size };
        let window = mel.window(0, size, &facts)?;
        let reading = self.transcriber.read_window(&window, place, &speech, &self.history, quick, on)?;
        Ok(reading.map(|reading| (reading, place)))
    }

    /// Reads a window that will not grow any more, and goes on to the next.
    fn read_window(&mut self, on: Listener<'_>) -> Result<ControlFlow<()>, CoreError> {
        let Some((reading, _)) = self.read(false, on)? else { return Ok(ControlFlow::Break(())) };
        self.advance(reading.next);
        Ok(self.transcriber.accept(reading, &mut self.history, &mut self.segments, on))
    }

    /// Reads a window that will grow.
    fn read_partly(&mut self, on: Listener<'_>) -> Result<ControlFlow<()>, CoreError> {
        self.read = self.samples.len();
        let Some((mut reading, _)) = self.read(true, on)? else { return Ok(ControlFlow::Break(())) };
        if reading.tail.is_none() {
            // The last segment may still change.
            reading.tail = reading.segments.pop();
        }
        let same = |(a, b): &(&Segment, &Segment)| a.text == b.text && (a.end - b.end).abs() <= SAME_TIME;
        let agreed = self.closed.iter().zip(&reading.segments).take_while(same).count();
        let open = reading.segments.split_off(agreed);
        let text: String = open.iter().chain(&reading.tail).map(|s| s.text.as_str()).collect();
        if let Some(end) = reading.segments.last().map(|s| s.end) {
            self.advance(frames(end));
            self.closed = open;
            if self.transcriber.accept(reading, &mut self.history, &mut self.segments, on).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        } else {
            self.closed = open;
        }
        Ok(on(Event::Partial(&text)))
    }

    /// Drops the sound before the frame `next`.
    fn advance(&mut self, next: usize) {
        let done = next.saturating_sub(self.seek).saturating_mul(WhisperMel::HOP).min(self.samples.len());
        self.samples.drain(..done);
        self.seek = next.max(self.seek);
        self.read = self.samples.len();
        self.closed.clear();
    }
}
