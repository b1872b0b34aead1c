//! Where anything like speech is heard at all.

use std::ops::Range;

use rlx_audio::WhisperMel;
use rlx_core::CoreError;
use rlx_vad::{Backend, Detector, Segment, SegmentOptions, Segmenter};

/// Samples per second.
const RATE: u32 = 16_000;
/// Least probability: well below where speech is taken for certain (0.5), since what is left out here is never read.
const THRESHOLD: f32 = 0.2;
/// Shortest sound of that probability, in ms: two windows of the detector.
const SHORTEST_MS: u32 = 64;
/// Samples before what is asked for that the detector gets used to the sound on.
const LEAD: usize = RATE as usize;
/// Samples that the detector takes at a time: eight of its windows.
const STEP: usize = 8 * 512;

/// Listens to a sound (mono, 16 kHz) for what may be speech, by Silero VAD: no further than it takes to answer. Of noise the model
/// would make words up that its own probability of silence does not catch.
#[derive(Debug)]
pub struct Heard<'a> {
    samples: &'a [f32],
    detector: Detector,
    segmenter: Segmenter,
    /// The stretch of samples that the detector has had, without a break.
    taken: Range<usize>,
    /// Speech found in it.
    found: Vec<Segment>,
}

impl<'a> Heard<'a> {
    /// For a sound, mono at 16 kHz.
    ///
    /// # Errors
    /// None is known to occur.
    pub fn new(samples: &'a [f32]) -> Result<Heard<'a>, CoreError> {
        let failed = |error: rlx_vad::VadError| CoreError::Config(error.to_string());
        let options = SegmentOptions { threshold: THRESHOLD, min_speech_ms: SHORTEST_MS, ..SegmentOptions::default() };
        let detector = Detector::new(Backend::Silero, RATE).map_err(failed)?;
        let segmenter = Segmenter::new(&options, RATE, detector.window()).map_err(failed)?;
        Ok(Heard { samples, detector, segmenter, taken: 0..0, found: Vec::new() })
    }

    /// Whether what may be speech reaches into `frames` of the log-mel spectrogram. Quick if later questions are about later frames.
    pub fn reaches_into(&mut self, frames: Range<usize>) -> bool {
        let asked = frames.start.saturating_mul(WhisperMel::HOP)..frames.end.saturating_mul(WhisperMel::HOP);
        let asked = asked.start.min(self.samples.len())..asked.end.min(self.samples.len());
        let start = asked.start.saturating_sub(LEAD);
        if !(self.taken.start..=self.taken.end).contains(&start) {
            self.begin(start);
        }
        loop {
            let taken = self.taken.clone();
            let inside = |s: &Segment| {
                let at = |sample: u64| taken.start + usize::try_from(sample).unwrap_or(usize::MAX);
                at(s.start) < asked.end && at(s.end) > asked.start
            };
            let going_on = self.segmenter.so_far();
            if self.found.iter().chain(&going_on).any(inside) {
                return true;
            }
            // Speech that began before the end may turn out to be long enough after it.
            let settled = taken.end >= asked.end && !self.segmenter.is_speech();
            if settled || taken.end == self.samples.len() {
                return false;
            }
            self.take(taken.end..self.samples.len().min(taken.end + STEP));
        }
    }

    /// The next samples; the last ones end the stream.
    fn take(&mut self, samples: Range<usize>) {
        let mut probabilities = Vec::with_capacity(STEP / self.detector.window() + 1);
        self.detector.push(&self.samples[samples.clone()], &mut probabilities);
        self.taken.end = samples.end;
        let ends = samples.end == self.samples.len();
        if ends {
            self.detector.finish(&mut probabilities);
        }
        for probability in probabilities {
            self.segmenter.push(probability, &mut self.found);
        }
        if ends {
            self.segmenter.finish((samples.end - self.taken.start) as u64, &mut self.found);
        }
    }

    /// Begins anew at a sample.
    fn begin(&mut self, start: usize) {
        self.detector.reset();
        // A segmenter whose stream has ended is as new.
        self.segmenter.finish(0, &mut self.found);
        self.found.clear();
        self.taken = start..start;
    }
}
