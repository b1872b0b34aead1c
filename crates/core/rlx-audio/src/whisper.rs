//! Whisper's log-mel spectrogram (Radford et al. 2022), as OpenAI's `log_mel_spectrogram` and transformers' `WhisperFeatureExtractor`.

use crate::{AudioError, MelFilters, MelScale, Stft, Window};

/// Below this energy (-100 dB of full scale) all is silence.
const FLOOR: f32 = 1e-10;
/// Orders of magnitude below the loudest value that are kept.
const RANGE: f32 = 8.0;

/// A log-mel spectrogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Mel {
    /// Number of mel bands.
    pub mels: usize,
    /// Number of frames, 10 ms each.
    pub frames: usize,
    /// `[mels, frames]`, row by row: the layout of `input_features`.
    pub data: Vec<f32>,
}

impl Mel {
    /// The values of one band over time.
    ///
    /// # Panics
    /// If there is no such band.
    pub fn band(&self, mel: usize) -> &[f32] {
        &self.data[mel * self.frames..][..self.frames]
    }
}

/// Makes Whisper's input: Hann frames of 25 ms every 10 ms, Slaney mel bands, log10, the upper 8 orders of magnitude, `(x + 4) / 4`.
///
/// Takes samples at 16 kHz.
#[derive(Debug, Clone)]
pub struct WhisperMel {
    stft: Stft,
    filters: MelFilters,
    power: Vec<f64>,
}

impl WhisperMel {
    /// Samples per second.
    pub const SAMPLE_RATE: u32 = 16_000;
    /// Samples from one frame to the next.
    pub const HOP: usize = 160;
    /// Samples of the 30 s that the model looks at.
    pub const WINDOW: usize = 30 * 16_000;

    /// For a model of so many mel bands: 80, or 128 since large-v3.
    ///
    /// # Errors
    /// The number is 0 or beyond 1024.
    pub fn new(mels: usize) -> Result<WhisperMel, AudioError> {
        let stft = Stft::new(400, 400, WhisperMel::HOP, Window::Hann)?;
        let filters = MelFilters::new(MelScale::Slaney, mels, stft.bins(), WhisperMel::SAMPLE_RATE, 0.0, 8000.0)?;
        let power = vec![0.0; stft.bins()];
        Ok(WhisperMel { stft, filters, power })
    }

    /// Number of mel bands.
    pub fn mels(&self) -> usize {
        self.filters.count()
    }

    /// The spectrogram of `samples` as they are: `samples / 160` frames.
    pub fn log_mel(&mut self, samples: &[f32]) -> Mel {
        self.log_mel_padded(samples, samples.len())
    }

    /// The spectrogram of exactly `len` samples: `samples` cut, or followed by silence. `len` is [`WhisperMel::WINDOW`] for one
    /// pass of the model. The loudest value, which the others are held against, is that of the same `len` samples.
    pub fn log_mel_padded(&mut self, samples: &[f32], len: usize) -> Mel {
        let mels = self.mels();
        let frames = len / WhisperMel::HOP;
        let sound = &samples[..samples.len().min(len)];
        // Frames in silence that was added need no transform. The last frame of a sound without silence behind it sees it mirrored.
        let half = self.stft.frame_len() / 2;
        let padded;
        let (sound, heard) = if sound.len() == len {
            (sound, frames)
        } else {
            let heard = (sound.len() + half).div_ceil(WhisperMel::HOP).min(frames);
            let reach = (heard * WhisperMel::HOP + 2 * half).min(len);
            padded = [sound, &vec![0.0; reach.saturating_sub(sound.len())]].concat();
            (padded.as_slice(), heard)
        };
        let silence = FLOOR.log10();
        let mut loudest = if heard < frames { silence } else { f32::MIN };
        let mut logs = Vec::with_capacity(heard * mels);
        for t in 0..heard {
            let spectrum = self.stft.centered_frame(sound, t);
            for (power, value) in self.power.iter_mut().zip(spectrum) {
                *power = value.norm_sqr();
            }
            for energy in self.filters.energies(&self.power) {
                let log = (energy as f32).max(FLOOR).log10();
                loudest = loudest.max(log);
                logs.push(log);
            }
        }
        let floor = loudest - RANGE;
        let scaled = |log: f32| (log.max(floor) + 4.0) / 4.0;
        let mut data = vec![scaled(silence); mels * frames];
        if frames > 0 {
            for (mel, row) in data.chunks_exact_mut(frames).enumerate() {
                for (value, log) in row.iter_mut().zip(logs.iter().skip(mel).step_by(mels)) {
                    *value = scaled(*log);
                }
            }
        }
        Mel { mels, frames, data }
    }
}
