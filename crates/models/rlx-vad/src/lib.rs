//! Voice activity detection: where somebody speaks in a sound.
//!
//! Two models, both inside this crate: [`Backend::Silero`] (Silero VAD v6, Silero Team 2025: STFT, four convolutions, an LSTM; 32 ms
//! windows at 16 or 8 kHz) and [`Backend::Earshot`] (the crate `earshot`, 16 ms windows at 16 kHz, several times faster).
//!
//! | want | use |
//! |---|---|
//! | the speech of a sound in memory | [`VadRunner`] |
//! | probabilities of a stream, in pieces of any length | [`Detector`] |
//! | segments from probabilities, by Silero's rules | [`Segmenter`] |
//! | to be told as soon as somebody begins or ends | [`SpeechEvents`] |
//!
//! ```
//! use rlx_vad::{Backend, VadRunner};
//!
//! let mut vad = VadRunner::builder().backend(Backend::Silero).build()?;
//! let silence = vec![0.0; 16_000];
//! assert!(vad.segments(&silence).is_empty());
//! # Ok::<(), rlx_vad::VadError>(())
//! ```

pub mod cli;
mod detector;
mod error;
mod events;
mod matrix;
mod plot;
mod runner;
mod segments;
mod silero;
mod weights;

pub use detector::{Backend, Detector};
pub use error::VadError;
pub use events::{SpeechEvent, SpeechEvents};
pub use plot::Plot;
pub use runner::{VadBuilder, VadRunner};
pub use segments::{Segment, SegmentOptions, Segmenter};
pub use silero::Silero;
pub use weights::SileroWeights;
