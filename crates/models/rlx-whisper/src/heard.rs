//! Where anything like speech is heard at all.

use std::ops::Range;

use rlx_audio::WhisperMel;
use rlx_core::CoreError;
use rlx_vad::{Backend, SegmentOptions, VadRunner};

/// Least probability: well below where speech is taken for certain (0.5), since what is left out here is never read.
const THRESHOLD: f32 = 0.2;
/// Shortest sound of that probability, in ms: two windows of the detector.
const SHORTEST_MS: u32 = 64;

/// The stretches of a sound (mono, 16 kHz) in which Silero VAD hears what may be speech, in frames of the log-mel spectrogram, in
/// order. Of noise the model would make words up that its own probability of silence does not catch.
///
/// # Errors
/// None is known to occur.
pub fn heard(samples: &[f32]) -> Result<Vec<Range<usize>>, CoreError> {
    let options = SegmentOptions { threshold: THRESHOLD, min_speech_ms: SHORTEST_MS, ..SegmentOptions::default() };
    let vad = VadRunner::builder().backend(Backend::Silero).options(options).build();
    let mut vad = vad.map_err(|error| CoreError::Config(error.to_string()))?;
    let frame = |sample: u64| usize::try_from(sample).unwrap_or(usize::MAX) / WhisperMel::HOP;
    Ok(vad.segments(samples).iter().map(|s| frame(s.start)..frame(s.end) + 1).collect())
}
