//! What can go wrong between a sound file and its features.

use std::io;

/// Errors of reading, converting and writing sound. `name` is the path, or what the caller called the bytes.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum AudioError {
    #[error("{name}: {source}")]
    Io { name: String, source: io::Error },
    #[error("{name} is empty (0 bytes)")]
    Empty { name: String },
    #[error("{name} is no sound file that can be read ({what}); WAV, FLAC, MP3, OGG Vorbis and M4A (AAC, ALAC) can")]
    Format { name: String, what: String },
    #[error("{name}: damaged: {what}")]
    Damaged { name: String, what: String },
    #[error("{name}: sample rate {rate} Hz: from {min} to {max} Hz are possible", min = crate::MIN_RATE, max = crate::MAX_RATE)]
    SampleRate { name: String, rate: u32 },
    #[error("{name}: {channels} channels: from 1 to {max} are possible", max = crate::MAX_CHANNELS)]
    Channels { name: String, channels: usize },
    #[error("{name} changes from {was} to {now} in the middle; cut it there into two files")]
    Changed { name: String, was: String, now: String },
    #[error("{name} has no samples")]
    NoSamples { name: String },
    #[error("{name} is longer than {seconds} s, too long to be held in memory whole: read it in pieces")]
    TooLong { name: String, seconds: u64 },
    #[error("resampling from {from} to {to} Hz: {what}")]
    Resample { from: u32, to: u32, what: String },
    #[error("{0}")]
    Parameter(String),
}

impl AudioError {
    pub(crate) fn io(name: &str, source: io::Error) -> AudioError {
        AudioError::Io { name: name.to_owned(), source }
    }
}
