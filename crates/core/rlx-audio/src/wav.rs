//! Writing WAV files.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use crate::{AudioError, MAX_CHANNELS, MAX_RATE, MIN_RATE};

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WavFormat {
    /// 16-bit integers: what every player reads. Samples beyond full scale are clipped.
    #[default]
    Int16,
    /// 24-bit integers. Samples beyond full scale are clipped.
    Int24,
    /// 32-bit floats, exact.
    Float32,
}

/// Writes a WAV file piece by piece. Call [`WavWriter::finish`]: it writes the lengths into the header.
pub struct WavWriter<W: Write + Seek> {
    inner: hound::WavWriter<W>,
    format: WavFormat,
    name: String,
}

impl<W: Write + Seek> std::fmt::Debug for WavWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WavWriter").field("name", &self.name).field("format", &self.format).finish_non_exhaustive()
    }
}

impl WavWriter<BufWriter<File>> {
    /// Begins the file `path`; one that is there is replaced.
    ///
    /// # Errors
    /// The file cannot be written, or the rate or the number of channels is impossible.
    pub fn create(path: impl AsRef<Path>, rate: u32, channels: usize, format: WavFormat) -> Result<Self, AudioError> {
        let name = path.as_ref().display().to_string();
        let file = File::create(path).map_err(|e| AudioError::io(&name, e))?;
        WavWriter::new(BufWriter::new(file), &name, rate, channels, format)
    }
}

impl<W: Write + Seek> WavWriter<W> {
    /// Begins a file in `to`, called `name` in errors.
    ///
    /// # Errors
    /// As [`WavWriter::create`].
    pub fn new(to: W, name: &str, rate: u32, channels: usize, format: WavFormat) -> Result<Self, AudioError> {
        if !(MIN_RATE..=MAX_RATE).contains(&rate) {
            return Err(AudioError::SampleRate { name: name.to_owned(), rate });
        }
        if channels == 0 || channels > MAX_CHANNELS {
            return Err(AudioError::Channels { name: name.to_owned(), channels });
        }
        let (bits_per_sample, sample_format) = match format {
            WavFormat::Int16 => (16, hound::SampleFormat::Int),
            WavFormat::Int24 => (24, hound::SampleFormat::Int),
            WavFormat::Float32 => (32, hound::SampleFormat::Float),
        };
        let spec = hound::WavSpec { channels: channels as u16, sample_rate: rate, bits_per_sample, sample_format };
        let inner = hound::WavWriter::new(to, spec).map_err(|e| error(name, e))?;
        Ok(WavWriter { inner, format, name: name.to_owned() })
    }

    /// Appends samples, of all channels in turn. NaN becomes 0 in integer formats.
    ///
    /// # Errors
    /// The file cannot be written, or grows beyond 4 GB.
    pub fn write(&mut self, interleaved: &[f32]) -> Result<(), AudioError> {
        // Full scale is 2^(bits-1), as in reading; +1.0 itself does not fit and is clipped to one step less.
        let int = |x: f32, full: f32| (x * full).round().clamp(-full, full - 1.0) as i32;
        for &x in interleaved {
            let written = match self.format {
                WavFormat::Int16 => self.inner.write_sample(int(x, 32_768.0)),
                WavFormat::Int24 => self.inner.write_sample(int(x, 8_388_608.0)),
                WavFormat::Float32 => self.inner.write_sample(x),
            };
            written.map_err(|e| error(&self.name, e))?;
        }
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// It cannot be written, or a frame is incomplete.
    pub fn finish(self) -> Result<(), AudioError> {
        self.inner.finalize().map_err(|e| error(&self.name, e))
    }
}

fn error(name: &str, error: hound::Error) -> AudioError {
    match error {
        hound::Error::IoError(source) => AudioError::io(name, source),
        hound::Error::TooWide => AudioError::Parameter(format!("{name}: a WAV file holds at most 4 GB")),
        other => AudioError::Parameter(format!("{name}: {other}")),
    }
}

/// Writes mono samples as 16-bit integers.
///
/// # Errors
/// As [`WavWriter`].
pub fn write_wav(path: impl AsRef<Path>, samples: &[f32], rate: u32) -> Result<(), AudioError> {
    let mut writer = WavWriter::create(path, rate, 1, WavFormat::Int16)?;
    writer.write(samples)?;
    writer.finish()
}
