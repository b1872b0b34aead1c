//! Sound in and out of models: decoding files, mixing to mono, resampling, writing WAV files, STFT, and the log-mel features that
//! speech models are trained on.
//!
//! | want | use |
//! |---|---|
//! | a whole file, mono, at a model's rate | [`load`] |
//! | a long file in pieces, in bounded memory | [`MonoReader`] |
//! | all channels as they are in the file | [`AudioReader`] |
//! | another sample rate | [`resample`], or [`Resampler`] for a stream |
//! | Whisper's input | [`WhisperMel`] |
//! | wav2vec2-bert's and SeamlessM4T's input | [`KaldiFbank`] |
//! | spectra of frames | [`Stft`] |
//! | a WAV file | [`WavWriter`], [`write_wav`] |
//!
//! ```no_run
//! let sound = rlx_audio::load("speech.mp3", 16_000)?;
//! let mel = rlx_audio::WhisperMel::new(80)?.log_mel_padded(&sound.samples, rlx_audio::WhisperMel::WINDOW);
//! assert_eq!((mel.mels, mel.frames), (80, 3000));
//! # Ok::<(), rlx_audio::AudioError>(())
//! ```
//!
//! Samples are f32, full scale is 1. Samples that are no numbers (NaN, infinite, beyond ±[`MAX_SAMPLE`]) are read as silence and
//! counted, a file that ends early gives what it has; [`ReadReport`] tells both.

mod decode;
mod error;
mod fbank;
mod filters;
mod mono;
mod resample;
mod riff;
mod stft;
mod wav;
mod whisper;

pub use decode::{AudioReader, AudioSpec, ReadReport, silence_bad_samples};
pub use error::AudioError;
pub use fbank::{Fbank, KaldiFbank};
pub use filters::{MelFilters, MelScale};
pub use mono::{Audio, MonoReader, load};
pub use resample::{Resampler, resample};
pub use stft::{Stft, Window};
pub use wav::{WavFormat, WavWriter, write_wav};
pub use whisper::{Mel, WhisperMel};

/// Lowest sample rate that is read, in Hz.
pub const MIN_RATE: u32 = 1_000;
/// Highest sample rate that is read, in Hz.
pub const MAX_RATE: u32 = 768_000;
/// Most channels that are read.
pub const MAX_CHANNELS: usize = 64;
/// Largest magnitude that counts as a sample. Float files may exceed full scale, but no recording does so a billionfold.
pub const MAX_SAMPLE: f32 = 1e9;
