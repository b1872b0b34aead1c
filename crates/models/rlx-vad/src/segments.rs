//! From probabilities to segments of speech, by the rules of Silero's `get_speech_timestamps`.

use crate::VadError;

/// When speech begins and ends. The defaults are Silero's.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentOptions {
    /// A window of at least this probability is speech.
    pub threshold: f32,
    /// Within speech, a window below this probability is silence; `None` is `threshold - 0.15`, at least 0.01.
    pub neg_threshold: Option<f32>,
    /// Shorter speech is left out, in ms.
    pub min_speech_ms: u32,
    /// Shorter silence does not end speech, in ms.
    pub min_silence_ms: u32,
    /// Longer speech is cut at its longest silence of at least `min_silence_at_max_ms`, or else where it is, in s.
    pub max_speech_s: f64,
    /// See `max_speech_s`, in ms.
    pub min_silence_at_max_ms: u32,
    /// Segments grow by this on both sides, or until they meet, in ms.
    pub speech_pad_ms: u32,
}

impl Default for SegmentOptions {
    fn default() -> SegmentOptions {
        SegmentOptions {
            threshold: 0.5,
            neg_threshold: None,
            min_speech_ms: 250,
            min_silence_ms: 100,
            max_speech_s: f64::INFINITY,
            min_silence_at_max_ms: 98,
            speech_pad_ms: 30,
        }
    }
}

impl SegmentOptions {
    /// The probability below which speech ends.
    pub fn end_threshold(&self) -> f32 {
        self.neg_threshold.unwrap_or((self.threshold - 0.15).max(0.01))
    }

    /// # Errors
    /// A threshold is no probability, or the longest speech no positive number.
    pub(crate) fn validate(&self) -> Result<(), VadError> {
        let probability = |name, value: f32| {
            let fits = (0.0..=1.0).contains(&value);
            let error = VadError::Option { name, value: value.into(), needed: "a number from 0 to 1 is needed" };
            if fits { Ok(()) } else { Err(error) }
        };
        probability("threshold", self.threshold)?;
        probability("neg_threshold", self.end_threshold())?;
        // NaN compares as false.
        if self.max_speech_s > 0.0 {
            return Ok(());
        }
        let needed = "a number of seconds above 0 is needed";
        Err(VadError::Option { name: "max_speech_s", value: self.max_speech_s, needed })
    }
}

/// A piece of speech: its first sample, and the one after its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First sample.
    pub start: u64,
    /// The sample after the last.
    pub end: u64,
}

impl Segment {
    /// Start and end in seconds.
    pub fn seconds(&self, rate: u32) -> (f64, f64) {
        (self.start as f64 / f64::from(rate), self.end as f64 / f64::from(rate))
    }
}

/// Makes segments of a stream of probabilities, one per window. A segment is final, and handed out, when the next one is complete or the
/// stream ends, since its padding depends on the next one; [`SpeechEvents`](crate::SpeechEvents) tell sooner.
#[derive(Debug, Clone)]
pub struct Segmenter {
    threshold: f32,
    end_threshold: f32,
    window: u64,
    // Lengths in samples.
    min_speech: f64,
    min_silence: f64,
    min_silence_at_max: f64,
    max_speech: f64,
    pad: u64,
    /// First sample of the present window.
    now: u64,
    /// Where the present speech began.
    speech: Option<u64>,
    /// Where the silence began that may end it.
    silence: Option<u64>,
    /// The longest silence in it so far that is long enough to cut at: start and length.
    longest: Option<(u64, u64)>,
    /// The last segment, its end not padded yet.
    last: Option<Segment>,
}

impl Segmenter {
    /// For windows of `window` samples at `rate` Hz.
    ///
    /// # Errors
    /// An option is out of range, or the rate or window is 0.
    pub fn new(options: &SegmentOptions, rate: u32, window: usize) -> Result<Segmenter, VadError> {
        options.validate()?;
        if rate == 0 || window == 0 {
            let (name, value) = if rate == 0 { ("rate", 0.0) } else { ("window", 0.0) };
            return Err(VadError::Option { name, value, needed: "a number above 0 is needed" });
        }
        let samples = |ms: u32| f64::from(rate) * f64::from(ms) / 1000.0;
        let pad = samples(options.speech_pad_ms);
        Ok(Segmenter {
            threshold: options.threshold,
            end_threshold: options.end_threshold(),
            window: window as u64,
            min_speech: samples(options.min_speech_ms),
            min_silence: samples(options.min_silence_ms),
            min_silence_at_max: samples(options.min_silence_at_max_ms),
            max_speech: f64::from(rate) * options.max_speech_s - window as f64 - 2.0 * pad,
            pad: pad as u64,
            now: 0,
            speech: None,
            silence: None,
            longest: None,
            last: None,
        })
    }

    /// Takes the next window's probability and appends a segment to `out` if one became final.
    pub fn push(&mut self, probability: f32, out: &mut Vec<Segment>) {
        let now = self.now;
        self.now += self.window;
        let heard = probability >= self.threshold;
        let Some(mut start) = self.speech else {
            self.speech = heard.then_some(now);
            return;
        };
        if heard && let Some(began) = self.silence.take() {
            let length = now - began;
            let longer = self.longest.is_none_or(|(_, known)| length > known);
            if length as f64 > self.min_silence_at_max && longer {
                self.longest = Some((began, length));
            }
        }
        if (now - start) as f64 > self.max_speech {
            self.silence = None;
            match self.longest.take() {
                Some((began, length)) => {
                    self.accept(start, began, out);
                    start = began + length;
                    self.speech = Some(start);
                }
                None => {
                    self.accept(start, now, out);
                    self.speech = None;
                    return;
                }
            }
        }
        if probability < self.end_threshold {
            let began = *self.silence.get_or_insert(now);
            if (now - began) as f64 >= self.min_silence {
                if (began.saturating_sub(start)) as f64 > self.min_speech {
                    self.accept(start, began, out);
                }
                (self.speech, self.silence, self.longest) = (None, None, None);
            }
        }
    }

    /// Whether the present window is in speech, which may yet turn out too short.
    pub fn is_speech(&self) -> bool {
        self.speech.is_some()
    }

    /// The speech that has not ended, up to here, if it is long enough already; not padded.
    pub fn so_far(&self) -> Option<Segment> {
        let segment = Segment { start: self.speech?, end: self.silence.unwrap_or(self.now) };
        (segment.end.saturating_sub(segment.start) as f64 > self.min_speech).then_some(segment)
    }

    /// Ends the stream, which had `samples` samples: speech that goes on ends there. The segmenter is then as new.
    pub fn finish(&mut self, samples: u64, out: &mut Vec<Segment>) {
        if let Some(start) = self.speech.take()
            && samples.saturating_sub(start) as f64 > self.min_speech
        {
            self.accept(start, samples, out);
        }
        if let Some(last) = self.last.take() {
            out.push(Segment { end: (last.end + self.pad).min(samples), ..last });
        }
        (self.now, self.silence, self.longest) = (0, None, None);
    }

    /// A segment is complete: pads its start, and the end of the one before it, which is final now.
    fn accept(&mut self, start: u64, end: u64, out: &mut Vec<Segment>) {
        let mut pad = self.pad;
        if let Some(last) = self.last {
            let gap = start.saturating_sub(last.end);
            if gap < 2 * self.pad {
                pad = gap / 2;
            }
            out.push(Segment { end: last.end + pad, ..last });
        }
        self.last = Some(Segment { start: start.saturating_sub(pad), end });
    }
}
