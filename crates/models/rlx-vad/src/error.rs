//! What can go wrong.

use rlx_audio::AudioError;
use rlx_weights::WeightsError;

/// Errors of voice activity detection.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum VadError {
    #[error(transparent)]
    Audio(#[from] AudioError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("these are not the weights of Silero VAD v6: {0}")]
    NotSilero(String),
    #[error("{name} of {value}: {needed}")]
    Option { name: &'static str, value: f64, needed: &'static str },
    #[error("the picture cannot be encoded: {0}")]
    Png(#[from] png::EncodingError),
    #[error("{backend} runs at {possible}, not at {rate} Hz; resample the sound")]
    Rate { backend: &'static str, possible: &'static str, rate: u32 },
}
