//! The weights of Silero VAD v6, taken out of its published ONNX file by `scripts/reference/extract_silero.py`.
//!
//! They are embedded: `weights/silero_v6_16k.safetensors` and `silero_v6_8k.safetensors`, MIT, Silero Team (`weights/LICENSE`).

use std::path::Path;

use rlx_mem::Bytes;
use rlx_weights::{Checkpoint, TensorView, safetensors_file};

use crate::VadError;
use crate::matrix::Matrix;

const EMBEDDED_16K: &[u8] = include_bytes!("../weights/silero_v6_16k.safetensors");
const EMBEDDED_8K: &[u8] = include_bytes!("../weights/silero_v6_8k.safetensors");

/// Size of the LSTM's state, and of what goes into it.
pub(crate) const STATE: usize = 128;
/// Channels between the convolutions.
pub(crate) const CHANNELS: [usize; 4] = [128, 64, 64, 128];

/// The weights of one branch of the model, for 16 or for 8 kHz, in the order in which they are used.
#[derive(Debug, Clone)]
pub struct SileroWeights {
    /// Values of a spectrum.
    pub(crate) bins: usize,
    /// Three frames of spectra to one of channels.
    pub(crate) conv1: Matrix,
    /// Three frames to one.
    pub(crate) conv2: Matrix,
    /// Of the three frames that the third convolution sees, the first is always padding.
    pub(crate) conv3: Matrix,
    /// Of the fourth only the middle one is a frame.
    pub(crate) conv4: Matrix,
    /// Input to the LSTM's four gates, both biases.
    pub(crate) input: Matrix,
    /// State to the gates.
    pub(crate) recurrent: Matrix,
    pub(crate) head: Vec<f32>,
    pub(crate) head_bias: f32,
}

impl SileroWeights {
    /// The embedded weights for 16,000 or 8,000 Hz.
    ///
    /// # Errors
    /// Another rate.
    pub fn embedded(rate: u32) -> Result<SileroWeights, VadError> {
        let bytes = match rate {
            16_000 => EMBEDDED_16K,
            8_000 => EMBEDDED_8K,
            _ => return Err(VadError::Rate { backend: "silero", possible: "16000 or 8000 Hz", rate }),
        };
        let file = safetensors_file::parse(&Bytes::copy_from(bytes), Path::new("the embedded weights"))?;
        SileroWeights::new(|name| file.tensors.iter().find(|tensor| tensor.name == name).cloned())
    }

    /// The weights of a checkpoint that `scripts/reference/extract_silero.py` wrote, or one with the same names.
    ///
    /// # Errors
    /// A tensor is missing or of another shape.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<SileroWeights, VadError> {
        SileroWeights::new(|name| checkpoint.tensor(name).cloned())
    }

    /// Samples per second of the sound that they are for.
    pub fn sample_rate(&self) -> u32 {
        if self.bins == 129 { 16_000 } else { 8_000 }
    }

    fn new(find: impl Fn(&str) -> Option<TensorView>) -> Result<SileroWeights, VadError> {
        let take = |name: &str, shape: &[usize]| {
            let tensor = find(name).ok_or_else(|| VadError::NotSilero(format!("{name} is missing")))?;
            if tensor.shape != shape {
                return Err(VadError::NotSilero(format!("{name} has shape {:?}, not {shape:?}", tensor.shape)));
            }
            Ok(tensor.to_f32()?)
        };
        let bins = match find("conv1.weight").map(|tensor| tensor.shape).as_deref() {
            Some(&[_, bins @ (129 | 65), _]) => bins,
            Some(other) => return Err(VadError::NotSilero(format!("conv1.weight has shape {other:?}"))),
            None => return Err(VadError::NotSilero("conv1.weight is missing".to_owned())),
        };
        // A convolution over three frames is a product with those of them in `taps`, which lie one after the other.
        let conv = |layer: usize, inputs: usize, taps: std::ops::Range<usize>| {
            let outputs = CHANNELS[layer];
            let name = format!("conv{}", layer + 1);
            let weight = take(&format!("{name}.weight"), &[outputs, inputs, 3])?;
            let bias = take(&format!("{name}.bias"), &[outputs])?;
            let at = |output: usize, i: usize| weight[(output * inputs + i % inputs) * 3 + taps.start + i / inputs];
            Ok::<_, VadError>(Matrix::new(taps.len() * inputs, outputs, at, |output| bias[output]))
        };
        let gates = |part: &str, bias: &dyn Fn(usize) -> f32| {
            let weight = take(&format!("lstm_cell.weight_{part}"), &[4 * STATE, STATE])?;
            Ok::<_, VadError>(Matrix::new(STATE, 4 * STATE, |gate, i| weight[gate * STATE + i], bias))
        };
        let biases = [take("lstm_cell.bias_ih", &[4 * STATE])?, take("lstm_cell.bias_hh", &[4 * STATE])?];
        Ok(SileroWeights {
            bins,
            conv1: conv(0, bins, 0..3)?,
            conv2: conv(1, CHANNELS[0], 0..3)?,
            conv3: conv(2, CHANNELS[1], 1..3)?,
            conv4: conv(3, CHANNELS[2], 1..2)?,
            input: gates("ih", &|gate| biases[0][gate] + biases[1][gate])?,
            recurrent: gates("hh", &|_| 0.0)?,
            head: take("final_conv.weight", &[1, STATE, 1])?,
            head_bias: take("final_conv.bias", &[1])?[0],
        })
    }
}
