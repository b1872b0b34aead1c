//! Mono at the rate of a model: what nearly every speech model takes.

use std::path::Path;

use crate::{AudioError, AudioReader, ReadReport, Resampler};

/// Longest sound that [`MonoReader::read_all`] holds in memory.
const MAX_SECONDS: u64 = 12 * 3600;

/// A mono sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    /// The samples; full scale is 1.
    pub samples: Vec<f32>,
    /// Samples per second.
    pub sample_rate: u32,
    /// What was wrong with the file.
    pub report: ReadReport,
}

impl Audio {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate)
    }
}

/// Reads a sound file in pieces, mixed to mono (the mean of all channels), at a rate of choice. Memory does not grow with the file.
#[derive(Debug)]
pub struct MonoReader {
    reader: AudioReader,
    resampler: Resampler,
    rate: u32,
    mono: Vec<f32>,
    chunk: Vec<f32>,
    finished: bool,
}

impl MonoReader {
    /// Opens a file, to be read at `rate` Hz.
    ///
    /// # Errors
    /// As [`AudioReader::open`], and if the rate is outside [`MIN_RATE`](crate::MIN_RATE) to [`MAX_RATE`](crate::MAX_RATE).
    pub fn open(path: impl AsRef<Path>, rate: u32) -> Result<MonoReader, AudioError> {
        MonoReader::new(AudioReader::open(path)?, rate)
    }

    /// Reads what `reader` has not handed out yet, at `rate` Hz.
    ///
    /// # Errors
    /// The rate is impossible.
    pub fn new(reader: AudioReader, rate: u32) -> Result<MonoReader, AudioError> {
        let resampler = Resampler::new(reader.spec().sample_rate, rate)?;
        Ok(MonoReader { reader, resampler, rate, mono: Vec::new(), chunk: Vec::new(), finished: false })
    }

    /// The file below.
    pub fn source(&self) -> &AudioReader {
        &self.reader
    }

    /// Length in samples at the rate of choice, if the file says it. It may be wrong.
    pub fn expected_samples(&self) -> Option<u64> {
        let spec = self.reader.spec();
        let samples = u128::from(spec.frames?) * u128::from(self.rate);
        u64::try_from(samples.div_ceil(u128::from(spec.sample_rate))).ok()
    }

    /// What has been wrong so far.
    pub fn report(&self) -> ReadReport {
        self.reader.report()
    }

    /// The next samples, never none; `None` at the end.
    ///
    /// # Errors
    /// As [`AudioReader::next_chunk`].
    pub fn next_chunk(&mut self) -> Result<Option<&[f32]>, AudioError> {
        self.chunk.clear();
        while self.chunk.is_empty() && !self.finished {
            let channels = self.reader.spec().channels;
            match self.reader.next_chunk()? {
                Some(frames) if channels == 1 => self.resampler.push(frames, &mut self.chunk)?,
                Some(frames) => {
                    mix(frames, channels, &mut self.mono);
                    self.resampler.push(&self.mono, &mut self.chunk)?;
                }
                None => {
                    self.finished = true;
                    self.resampler.finish(&mut self.chunk)?;
                }
            }
        }
        Ok((!self.chunk.is_empty()).then_some(self.chunk.as_slice()))
    }

    /// All that is left, in memory.
    ///
    /// # Errors
    /// As [`MonoReader::next_chunk`], and if it is longer than 12 hours.
    pub fn read_all(mut self) -> Result<Audio, AudioError> {
        let most = MAX_SECONDS * u64::from(self.rate);
        // What the file announces is not believed beyond a minute.
        let expected = self.expected_samples().unwrap_or(0).min(60 * u64::from(self.rate));
        let mut samples = Vec::with_capacity(expected as usize);
        while let Some(chunk) = self.next_chunk()? {
            samples.extend_from_slice(chunk);
            if samples.len() as u64 > most {
                return Err(AudioError::TooLong { name: self.reader.name().to_owned(), seconds: MAX_SECONDS });
            }
        }
        Ok(Audio { samples, sample_rate: self.rate, report: self.report() })
    }
}

/// The mean of all channels.
fn mix(interleaved: &[f32], channels: usize, mono: &mut Vec<f32>) {
    let scale = 1.0 / channels as f32;
    mono.clear();
    mono.extend(interleaved.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() * scale));
}

/// Reads a whole sound file as mono at `rate` Hz.
///
/// # Errors
/// As [`MonoReader::open`] and [`MonoReader::read_all`].
pub fn load(path: impl AsRef<Path>, rate: u32) -> Result<Audio, AudioError> {
    MonoReader::open(path, rate)?.read_all()
}
