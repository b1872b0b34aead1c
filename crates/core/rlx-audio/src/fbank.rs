//! Kaldi's log-mel filter bank (Povey et al. 2011) as transformers' `SeamlessM4TFeatureExtractor` has it: the input of wav2vec2-bert,
//! w2v-BERT 2.0 and SeamlessM4T.

use crate::{AudioError, MelFilters, MelScale, Stft, Window};

const MELS: usize = 80;
const FRAME: usize = 400;
const FFT: usize = 512;
const HOP: usize = 160;
const PREEMPHASIS: f64 = 0.97;
/// Kaldi computes on 16-bit values.
const FULL_SCALE: f64 = 32_768.0;
/// The single-precision epsilon, Kaldi's smallest energy.
const FLOOR: f64 = 1.192_092_955_078_125e-7;
/// Added to the variance of a band.
const EPSILON: f64 = 1e-7;

/// Filter-bank features.
#[derive(Debug, Clone, PartialEq)]
pub struct Fbank {
    /// Number of rows.
    pub rows: usize,
    /// Values per row.
    pub dim: usize,
    /// `[rows, dim]`.
    pub data: Vec<f32>,
}

/// Makes Kaldi filter-bank features: frames of 25 ms every 10 ms, mean removed, pre-emphasis 0.97, Povey window, 80 mel bands from 20 Hz
/// to 8 kHz, natural logarithm.
///
/// Takes samples at 16 kHz, full scale 1.
#[derive(Debug, Clone)]
pub struct KaldiFbank {
    stft: Stft,
    filters: MelFilters,
    power: Vec<f64>,
}

impl KaldiFbank {
    /// Samples per second.
    pub const SAMPLE_RATE: u32 = 16_000;

    /// Ready to run.
    ///
    /// # Errors
    /// None is known to occur.
    pub fn new() -> Result<KaldiFbank, AudioError> {
        let stft = Stft::new(FRAME, FFT, HOP, Window::Povey)?;
        let filters = MelFilters::new(MelScale::Kaldi, MELS, stft.bins(), KaldiFbank::SAMPLE_RATE, 20.0, 8000.0)?;
        let power = vec![0.0; stft.bins()];
        Ok(KaldiFbank { stft, filters, power })
    }

    /// Number of frames of so many samples: only whole frames count.
    pub fn frames(samples: usize) -> usize {
        samples.checked_sub(FRAME).map_or(0, |rest| 1 + rest / HOP)
    }

    /// The logarithms, `[frames, 80]`.
    pub fn log_mel(&mut self, samples: &[f32]) -> Fbank {
        let rows = KaldiFbank::frames(samples.len());
        let mut data = Vec::with_capacity(rows * MELS);
        for t in 0..rows {
            let sound = &samples[t * HOP..][..FRAME];
            let spectrum = self.stft.frame(|frame| prepare(sound, frame));
            for (power, value) in self.power.iter_mut().zip(spectrum) {
                *power = value.norm_sqr();
            }
            data.extend(self.filters.energies(&self.power).map(|energy| energy.max(FLOOR).ln() as f32));
        }
        Fbank { rows, dim: MELS, data }
    }

    /// The logarithms with mean 0 and variance 1 in every band (of this sound), `[frames, 80]`.
    pub fn normalised(&mut self, samples: &[f32]) -> Fbank {
        let mut fbank = self.log_mel(samples);
        fbank.normalise();
        fbank
    }

    /// What the models take, `[ceil(frames / 2), 160]`: normalised, two frames to a row. The second half of the last row of an odd number
    /// of frames is `padding` (the extractor's `padding_value`), and its attention mask is 0: `whole_rows` is the number of rows
    /// whose mask is 1.
    pub fn stacked(&mut self, samples: &[f32], padding: f32) -> (Fbank, usize) {
        let mut fbank = self.normalised(samples);
        let whole_rows = fbank.rows / 2;
        if fbank.rows % 2 == 1 {
            fbank.data.resize((fbank.rows + 1) * MELS, padding);
        }
        (Fbank { rows: fbank.rows.div_ceil(2), dim: 2 * MELS, data: fbank.data }, whole_rows)
    }
}

impl Fbank {
    /// Each column to mean 0 and variance 1 (of a sample: divided by rows - 1). A single row becomes 0.
    fn normalise(&mut self) {
        let rows = self.rows as f64;
        for column in 0..self.dim {
            let values = self.data.iter().skip(column).step_by(self.dim).map(|&x| f64::from(x));
            let mean = values.clone().sum::<f64>() / rows;
            let variance = values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / (rows - 1.0).max(1.0);
            let scale = 1.0 / (variance + EPSILON).sqrt();
            for x in self.data.iter_mut().skip(column).step_by(self.dim) {
                *x = ((f64::from(*x) - mean) * scale) as f32;
            }
        }
    }
}

/// A frame at 16-bit scale, without its mean, pre-emphasised.
fn prepare(sound: &[f32], frame: &mut [f64]) {
    let mean = sound.iter().map(|&x| f64::from(x)).sum::<f64>() / sound.len() as f64;
    let mut previous = None;
    for (x, &sample) in frame.iter_mut().zip(sound) {
        let now = (f64::from(sample) - mean) * FULL_SCALE;
        *x = now - PREEMPHASIS * previous.unwrap_or(now);
        previous = Some(now);
    }
}
