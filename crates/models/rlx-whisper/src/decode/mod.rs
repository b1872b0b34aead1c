//! From windows of sound to tokens: greedy decoding, beam search and draws, the rules that tokens keep, and what to do when a
//! text is not good.
//!
//! The method is that of openai/whisper (`decoding.py`, `transcribe.py`); of texts that are all bad the choice is faster-whisper's.
//! [`Decoder`] knows nothing of the network behind [`SpeechModel`].

mod decoder;
mod model;
mod options;
mod rules;
mod search;

pub use decoder::{Decoded, Decoder, LanguageProb, Request};
pub use model::{Alignment, FRAMES_PER_SECOND, Feed, SequenceId, SpeechFacts, SpeechModel, WindowId};
pub use options::{DecodeOptions, Suppress};
pub(crate) use rules::max;
