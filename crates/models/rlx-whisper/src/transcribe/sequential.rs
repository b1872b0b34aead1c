//! One window after the other.

use std::ops::{ControlFlow, Range};

use rlx_core::CoreError;

use super::hallucination::{self, Span, Verdict};
use super::options::PROMPT_RESET_TEMPERATURE;
use super::segments::{Piece, Pieces};
use super::types::{Segment, Transcript};
use super::words::{WordContext, add_words};
use super::{Event, Listener, LogMel, Speech, Transcriber};
use crate::decode::{Decoded, FRAMES_PER_SECOND, Request, SpeechModel, WindowId};

/// What a window is read on from.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Tokens told to every window.
    pub(super) hotwords: Vec<u32>,
    /// Tokens of the initial prompt, then of all segments.
    pub(super) tokens: Vec<u32>,
    /// How many of them are the initial prompt's.
    pub(super) initial: usize,
    /// Tokens before this one are not told any more.
    pub(super) reset_since: usize,
    /// When the last word ended, in seconds.
    pub(super) last_speech: f64,
    /// Segments so far.
    pub(super) count: usize,
}

impl History {
    /// What the next window is told.
    pub(super) fn prompt(&self) -> Vec<u32> {
        [&self.hotwords, &self.tokens[self.reset_since..]].concat()
    }

    /// What a window is told that knows nothing of others.
    pub(super) fn initial_prompt(&self) -> Vec<u32> {
        [&self.hotwords, &self.tokens[..self.initial]].concat()
    }

    /// Takes the segments of a window up. Those without text or duration are dropped; the others are numbered.
    pub(super) fn take(&mut self, segments: Vec<Segment>, temperature: f32, keep: bool) -> Vec<Segment> {
        let mut kept = Vec::with_capacity(segments.len());
        for mut segment in segments {
            if segment.start == segment.end || segment.text.trim().is_empty() {
                continue;
            }
            segment.id = self.count;
            self.count += 1;
            self.tokens.extend_from_slice(&segment.tokens);
            kept.push(segment);
        }
        if !keep || temperature > PROMPT_RESET_TEMPERATURE {
            self.reset_since = self.tokens.len();
        }
        kept
    }
}

/// Where a window lies, in frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) seek: usize,
    /// Frames of sound in it.
    pub(super) size: usize,
    /// End of the whole sound.
    pub(super) content: usize,
}

/// What was read from a window.
pub(super) struct Reading {
    pub(super) segments: Vec<Segment>,
    /// Text after the last closed segment.
    pub(super) tail: Option<Segment>,
    /// Frame that the next window begins at.
    pub(super) next: usize,
    pub(super) temperature: f32,
}

impl Reading {
    /// There is no speech in the window.
    fn nothing(place: Place) -> Reading {
        Reading { segments: Vec::new(), tail: None, next: place.seek + place.size, temperature: 0.0 }
    }
}

/// Whether a spectrogram is the same everywhere, which nothing but digital silence is. The model would make words up.
fn is_flat(mel: &[f32]) -> bool {
    mel.first().is_none_or(|first| mel.iter().all(|value| value == first))
}

impl<M: SpeechModel> Transcriber<M> {
    /// Transcribes a sound window by window, as openai/whisper does. The listener may stop it; what was done until then is given.
    ///
    /// # Errors
    /// If the model fails, or the spectrogram is not of its kind.
    pub fn transcribe(&mut self, mel: &LogMel, on: Listener<'_>) -> Result<Transcript, CoreError> {
        self.transcribe_where(mel, &mut |_| true, on)
    }

    /// As [`Transcriber::transcribe`], but windows (frames of `mel`) in which nothing is `heard` are not read: see
    /// [`Heard`](crate::Heard). The language is found out in the first that is.
    ///
    /// # Errors
    /// As [`Transcriber::transcribe`].
    pub fn transcribe_where(
        &mut self,
        mel: &LogMel,
        heard: &mut dyn FnMut(Range<usize>) -> bool,
        on: Listener<'_>,
    ) -> Result<Transcript, CoreError> {
        let content = mel.frames();
        let mut all = Vec::new();
        let mut speech: Option<Speech> = None;
        let facts = self.model.facts();
        let mut history = self.history()?;
        let mut seek = 0;
        while seek < content {
            let place = Place { seek, size: facts.window_frames.min(content - seek), content };
            let reading = if heard(seek..seek + place.size) {
                if speech.is_none() {
                    speech = self.speech(mel, on)?;
                }
                let Some(speech) = &speech else { break };
                let window = mel.window(seek, place.size, &facts)?;
                self.read_window(&window, place, speech, &history, false, on)?
            } else {
                Some(Reading::nothing(place))
            };
            let Some(reading) = reading else { break };
            seek = reading.next;
            if !self.accept(reading, &mut history, &mut all, on).is_continue() {
                break;
            }
            let progress = Event::Progress { done: seconds(seek.min(content)), total: seconds(content) };
            if on(progress).is_break() {
                break;
            }
        }
        let language = match speech {
            Some(speech) => speech.language,
            None => self.options.language_code()?.unwrap_or_default().to_owned(),
        };
        Ok(Transcript::new(all, language))
    }

    /// Takes up what was read, and tells of it.
    pub(super) fn accept(
        &self,
        reading: Reading,
        history: &mut History,
        all: &mut Vec<Segment>,
        on: Listener<'_>,
    ) -> ControlFlow<()> {
        let keep = self.options.condition_on_previous_text;
        let kept = history.take(reading.segments, reading.temperature, keep);
        if let Some(end) = last_word_end(&kept).filter(|_| self.options.word_timestamps) {
            history.last_speech = end;
        }
        let go_on = if kept.is_empty() { ControlFlow::Continue(()) } else { on(Event::Segments(&kept)) };
        all.extend(kept);
        go_on
    }

    /// What the first window is read on from.
    pub(super) fn history(&self) -> Result<History, CoreError> {
        let tokens = self.prompt_tokens(self.options.initial_prompt.as_deref())?;
        let hotwords = self.prompt_tokens(self.options.hotwords.as_deref())?;
        Ok(History { initial: tokens.len(), hotwords, tokens, ..History::default() })
    }

    /// Encodes and decodes one window, `quick` at one temperature. `None` if the listener stops.
    pub(super) fn read_window(
        &mut self,
        window: &[f32],
        place: Place,
        speech: &Speech,
        history: &History,
        quick: bool,
        on: Listener<'_>,
    ) -> Result<Option<Reading>, CoreError> {
        let sound = &window[..(place.size * self.model.facts().n_mels).min(window.len())];
        if is_flat(sound) {
            return Ok(Some(Reading::nothing(place)));
        }
        let ids = self.model.encode(&[window])?;
        let reading = match ids.first() {
            Some(&id) => self.read_encoded(id, place, speech, history, quick, on),
            None => Err(CoreError::Config("the model encoded nothing".into())),
        };
        for id in ids {
            self.model.release(id)?;
        }
        reading
    }

    fn read_encoded(
        &mut self,
        window: WindowId,
        place: Place,
        speech: &Speech,
        history: &History,
        quick: bool,
        on: Listener<'_>,
    ) -> Result<Option<Reading>, CoreError> {
        let prompt = history.prompt();
        let request = Request { window, prompt: &prompt, language_and_task: &speech.language_and_task };
        let decoder = if quick { &self.quick } else { &self.decoder };
        let decoded = decoder.decode(&mut self.model, &[request], &mut || on(Event::Step))?;
        let Some(decoded) = decoded.and_then(|mut texts| texts.pop()) else { return Ok(None) };
        self.segments_of(window, &decoded, place, speech, history.last_speech, false).map(Some)
    }

    /// Whether there is no speech in a window.
    pub(super) fn is_silent(&self, decoded: &Decoded) -> bool {
        let options = self.decoder.options();
        let improbable = options.logprob_threshold.is_none_or(|t| decoded.avg_logprob <= f64::from(t));
        options.no_speech_threshold.is_some_and(|t| decoded.no_speech_prob > t) && improbable
    }

    /// Segments of a decoded window. With `last`, what follows the last closed segment becomes one too, since no other window
    /// will read it.
    pub(super) fn segments_of(
        &mut self,
        window: WindowId,
        decoded: &Decoded,
        place: Place,
        speech: &Speech,
        last_speech: f64,
        last: bool,
    ) -> Result<Reading, CoreError> {
        let end = place.seek + place.size;
        let temperature = decoded.temperature;
        if self.is_silent(decoded) {
            return Ok(Reading { temperature, ..Reading::nothing(place) });
        }
        let facts = self.model.facts();
        let start = seconds(place.seek);
        let split = Pieces::split(&self.text, &decoded.tokens, seconds(place.size), facts.time_precision());
        let make = |piece: Piece| -> Result<Segment, CoreError> {
            Ok(Segment {
                id: 0,
                seek: place.seek,
                start: start + piece.start,
                end: start + piece.end,
                text: self.text.decode(&piece.tokens)?,
                tokens: piece.tokens,
                temperature,
                avg_logprob: decoded.avg_logprob,
                compression_ratio: decoded.compression_ratio,
                no_speech_prob: decoded.no_speech_prob,
                words: None,
            })
        };
        let mut segments = split.pieces.into_iter().map(make).collect::<Result<Vec<_>, _>>()?;
        let mut tail = split.tail.map(make).transpose()?;
        if last {
            segments.extend(tail.take());
        }
        let mut next = place.seek + frames(split.next);
        if self.options.word_timestamps {
            let context = WordContext {
                text: &self.text,
                window,
                language: &speech.language,
                language_and_task: &speech.language_and_task,
                frames: place.size,
                last_speech,
            };
            add_words(&mut segments, &mut self.model, &context)?;
            let last_word = last_word_end(&segments).filter(|&end| end > start);
            if let Some(last) = last_word.filter(|_| !split.complete) {
                next = frames(last);
            }
            if let Some(threshold) = self.options.hallucination_silence_threshold {
                let padded_end = seconds(place.seek + facts.window_frames);
                if let Some(last) = last_word.filter(|_| !split.complete) {
                    next = if padded_end - last > threshold { frames(last) } else { end };
                }
                let content_end = seconds(place.content);
                let span = Span { start, end: seconds(end), padded_end, content_end, last_speech };
                match hallucination::judge(&segments, span, threshold) {
                    Verdict::Keep => {}
                    Verdict::Skip(from) => {
                        segments.clear();
                        next = frames(from);
                    }
                    Verdict::Cut(first, from) => {
                        segments.truncate(first);
                        next = frames(from);
                    }
                }
            }
        }
        // A window that gets nowhere is not read again.
        let next = if next > place.seek { next } else { end };
        Ok(Reading { segments, tail, next, temperature })
    }
}

/// When the last word ended; for segments without words, when the last of them did.
pub(super) fn last_word_end(segments: &[Segment]) -> Option<f64> {
    let words = segments.iter().rev().find_map(|s| s.words.as_deref().unwrap_or_default().last());
    words.map(|word| word.end).or_else(|| segments.last().map(|s| s.end))
}

/// Frames to seconds.
pub(super) fn seconds(frames: usize) -> f64 {
    frames as f64 / FRAMES_PER_SECOND
}

/// Seconds to the nearest frame.
pub(super) fn frames(seconds: f64) -> usize {
    (seconds * FRAMES_PER_SECOND).round().max(0.0) as usize
}
