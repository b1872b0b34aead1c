//! Silero VAD v6: the speech probability of each window of 32 ms.
//!
//! A window, with the last samples of the one before it, becomes four spectra (Hann, half-overlapping, mirrored at the right
//! end); four convolutions over three frames each, with ReLU, make one vector of 128 of them; an LSTM cell follows, and a sigmoid of
//! a weighted sum of its rectified state.

use std::sync::Arc;

use rlx_audio::{Stft, Window};

use crate::weights::{CHANNELS, STATE};
use crate::{SileroWeights, VadError};

/// Spectra of a window.
const FRAMES: usize = 4;
/// Windows whose convolutions run together, so that weights are read once for all of them.
const BATCH: usize = 8;

/// One stream: the model's state and the last samples. Clones share the weights; a clone goes on from the same state.
#[derive(Debug, Clone)]
pub struct Silero {
    weights: Arc<SileroWeights>,
    stft: Stft,
    /// Samples of the window before.
    context: Vec<f32>,
    hidden: [f32; STATE],
    cell: [f32; STATE],
    /// A window after its context.
    chunk: Vec<f32>,
    work: Work,
}

/// Intermediate values of a batch. A frame of zeros stands before and, where a convolution reaches it, after those of each window.
#[derive(Debug, Clone)]
struct Work {
    spectra: Vec<f32>,
    conv1: Vec<f32>,
    conv2: Vec<f32>,
    conv3: Vec<f32>,
    conv4: Vec<f32>,
    input: Vec<f32>,
    gates: Vec<f32>,
}

impl Silero {
    /// The model with its embedded weights, for a sound of 16,000 or 8,000 Hz.
    ///
    /// # Errors
    /// Another rate.
    pub fn new(rate: u32) -> Result<Silero, VadError> {
        Silero::with_weights(SileroWeights::embedded(rate)?)
    }

    /// The model with other weights.
    ///
    /// # Errors
    /// None is known to occur.
    pub fn with_weights(weights: SileroWeights) -> Result<Silero, VadError> {
        let frame = 2 * (weights.bins - 1);
        let stft = Stft::new(frame, frame, frame / 2, Window::Hann)?;
        let zeros = |len: usize| vec![0.0; BATCH * len];
        let work = Work {
            spectra: zeros((FRAMES + 2) * weights.bins),
            conv1: zeros((FRAMES + 1) * CHANNELS[0]),
            conv2: zeros(2 * CHANNELS[1]),
            conv3: zeros(CHANNELS[2]),
            conv4: zeros(CHANNELS[3]),
            input: zeros(4 * STATE),
            gates: vec![0.0; 4 * STATE],
        };
        Ok(Silero {
            context: vec![0.0; frame / 4],
            chunk: Vec::with_capacity(frame / 4 + 2 * frame),
            hidden: [0.0; STATE],
            cell: [0.0; STATE],
            weights: Arc::new(weights),
            stft,
            work,
        })
    }

    /// Samples per second.
    pub fn sample_rate(&self) -> u32 {
        self.weights.sample_rate()
    }

    /// Samples of a window: 512 at 16 kHz, 256 at 8 kHz.
    pub fn window(&self) -> usize {
        2 * self.stft.frame_len()
    }

    /// Forgets the stream.
    pub fn reset(&mut self) {
        self.context.fill(0.0);
        self.hidden.fill(0.0);
        self.cell.fill(0.0);
    }

    /// The LSTM's state, hidden and cell, as the ONNX file's `stateN`.
    pub fn state(&self) -> (&[f32], &[f32]) {
        (&self.hidden, &self.cell)
    }

    /// Appends the probability of each whole window of `samples`; what is left over at the end is not looked at.
    pub fn run(&mut self, samples: &[f32], probabilities: &mut Vec<f32>) {
        let window = self.window();
        for batch in samples.chunks(BATCH * window) {
            let count = batch.len() / window;
            for (slot, samples) in batch.chunks_exact(window).enumerate() {
                self.spectra(slot, samples);
            }
            let weights = Arc::clone(&self.weights);
            self.work.convolve(&weights, count);
            for slot in 0..count {
                probabilities.push(self.step(&weights, slot));
            }
        }
    }

    /// Magnitudes of the spectra of one window.
    fn spectra(&mut self, slot: usize, samples: &[f32]) {
        self.chunk.clear();
        self.chunk.extend_from_slice(&self.context);
        self.chunk.extend_from_slice(samples);
        let keep = self.chunk.len() - self.context.len();
        self.context.copy_from_slice(&self.chunk[keep..]);
        let (bins, chunk) = (self.weights.bins, &self.chunk);
        let last = chunk.len() - 1;
        let target = &mut self.work.spectra[(slot * (FRAMES + 2) + 1) * bins..][..FRAMES * bins];
        for (frame, magnitudes) in target.chunks_exact_mut(bins).enumerate() {
            let start = frame * self.stft.hop();
            let spectrum = self.stft.frame(|values| {
                for (i, value) in (start..).zip(values) {
                    // Beyond the end the sound is mirrored, as by reflect padding.
                    *value = f64::from(chunk[if i <= last { i } else { 2 * last - i }]);
                }
            });
            for (magnitude, value) in magnitudes.iter_mut().zip(spectrum) {
                *magnitude = value.norm_sqr().sqrt() as f32;
            }
        }
    }

    /// One step of the LSTM, on the input gates of a window of the batch, and the probability that follows.
    fn step(&mut self, weights: &SileroWeights, slot: usize) -> f32 {
        let input = &self.work.input[slot * 4 * STATE..][..4 * STATE];
        let gates = &mut self.work.gates;
        weights.recurrent.run(&self.hidden, 0, 1, |_, at, values| {
            for ((gate, value), input) in gates[at..].iter_mut().zip(values).zip(&input[at..]) {
                *gate = value + input;
            }
        });
        let mut sum = weights.head_bias;
        for i in 0..STATE {
            let [input, forget, cell, output] =
                [gates[i], gates[STATE + i], gates[2 * STATE + i], gates[3 * STATE + i]];
            self.cell[i] = sigmoid(forget) * self.cell[i] + sigmoid(input) * cell.tanh();
            self.hidden[i] = sigmoid(output) * self.cell[i].tanh();
            sum += weights.head[i] * self.hidden[i].max(0.0);
        }
        sigmoid(sum)
    }
}

impl Work {
    /// From the spectra of `count` windows to the LSTM's input gates.
    fn convolve(&mut self, weights: &SileroWeights, count: usize) {
        let bins = weights.bins;
        for slot in 0..count {
            // Frames 0..4, each with its neighbours; one frame of zeros stands before the results.
            let (from, to) = (slot * (FRAMES + 2) * bins, (slot * (FRAMES + 1) + 1) * CHANNELS[0]);
            let target = &mut self.conv1[to..];
            weights.conv1.run(&self.spectra[from..], bins, FRAMES, |row, at, values| {
                relu(&mut target[row * CHANNELS[0] + at..], values);
            });
            // Stride 2: frames (-, 0, 1) and (1, 2, 3).
            let (from, to) = (slot * (FRAMES + 1) * CHANNELS[0], slot * 2 * CHANNELS[1]);
            let target = &mut self.conv2[to..];
            weights.conv2.run(&self.conv1[from..], 2 * CHANNELS[0], 2, |row, at, values| {
                relu(&mut target[row * CHANNELS[1] + at..], values);
            });
        }
        let target = &mut self.conv3;
        weights.conv3.run(&self.conv2, 2 * CHANNELS[1], count, |row, at, values| {
            relu(&mut target[row * CHANNELS[2] + at..], values);
        });
        let target = &mut self.conv4;
        weights.conv4.run(&self.conv3, CHANNELS[2], count, |row, at, values| {
            relu(&mut target[row * CHANNELS[3] + at..], values);
        });
        let target = &mut self.input;
        weights.input.run(&self.conv4, CHANNELS[3], count, |row, at, values| {
            target[row * 4 * STATE + at..][..values.len()].copy_from_slice(values);
        });
    }
}

fn relu(target: &mut [f32], values: &[f32]) {
    for (target, value) in target.iter_mut().zip(values) {
        *target = value.max(0.0);
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
