//! The short-time Fourier transform, in double precision: log-mel features look 80 dB and more below the peak of a frame, where
//! the rounding of a single-precision transform shows.

use std::f64::consts::TAU;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use crate::AudioError;

/// Longest transform.
const MAX_FFT: usize = 1 << 20;

/// The weights of a frame's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Hann, periodic: `0.5 - 0.5 cos(2 pi i / n)`.
    Hann,
    /// Kaldi's Povey window: the symmetric Hann window to the power of 0.85.
    Povey,
}

impl Window {
    /// The weights of `len` samples.
    pub fn weights(self, len: usize) -> Vec<f64> {
        let hann = |i: usize, period: usize| 0.5 - 0.5 * (TAU * i as f64 / period.max(1) as f64).cos();
        (0..len)
            .map(|i| match self {
                Window::Hann => hann(i, len),
                Window::Povey => hann(i, len - 1).powf(0.85),
            })
            .collect()
    }
}

/// Transforms frames of real samples. Clones share the tables.
#[derive(Clone)]
pub struct Stft {
    fft: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    hop: usize,
    /// The windowed frame, zeros behind it.
    frame: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
}

impl std::fmt::Debug for Stft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (frame, fft) = (self.window.len(), self.frame.len());
        f.debug_struct("Stft").field("frame", &frame).field("fft", &fft).field("hop", &self.hop).finish_non_exhaustive()
    }
}

impl Stft {
    /// Frames of `frame_len` samples, `hop` samples apart, each followed by zeros up to `fft_len`.
    ///
    /// # Errors
    /// A length is 0 or beyond 2^20, or the frame is longer than the transform.
    pub fn new(frame_len: usize, fft_len: usize, hop: usize, window: Window) -> Result<Stft, AudioError> {
        if frame_len == 0 || hop == 0 || frame_len > fft_len || fft_len > MAX_FFT {
            return Err(AudioError::Parameter(format!(
                "STFT with frames of {frame_len}, transforms of {fft_len} and a hop of {hop} samples: needed are 0 < frame <= transform <= \
                 {MAX_FFT} and hop > 0"
            )));
        }
        let fft = RealFftPlanner::new().plan_fft_forward(fft_len);
        Ok(Stft {
            window: window.weights(frame_len),
            hop,
            frame: vec![0.0; fft_len],
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            fft,
        })
    }

    /// Number of values of a spectrum: from 0 Hz to half the sample rate.
    pub fn bins(&self) -> usize {
        self.spectrum.len()
    }

    /// Samples of a frame.
    pub fn frame_len(&self) -> usize {
        self.window.len()
    }

    /// Samples from one frame to the next.
    pub fn hop(&self) -> usize {
        self.hop
    }

    /// The spectrum of one frame, which `fill` writes (`frame_len` samples); [`Stft::bins`] values, unscaled.
    pub fn frame(&mut self, fill: impl FnOnce(&mut [f64])) -> &[Complex<f64>] {
        let (head, zeros) = self.frame.split_at_mut(self.window.len());
        fill(head);
        for (x, w) in head.iter_mut().zip(&self.window) {
            *x *= w;
        }
        // The transform leaves rubbish in its input.
        zeros.fill(0.0);
        let done = self.fft.process_with_scratch(&mut self.frame, &mut self.spectrum, &mut self.scratch);
        debug_assert!(done.is_ok(), "the buffers were made by the transform");
        &self.spectrum
    }

    /// The spectrum of frame `t` of `samples`, whose middle is sample `t * hop`: before the first and after the last sample the sound is
    /// mirrored, as by `torch.stft(center=True, pad_mode="reflect")`. There are `1 + samples / hop` such frames.
    pub fn centered_frame(&mut self, samples: &[f32], t: usize) -> &[Complex<f64>] {
        let half = self.frame.len() / 2;
        // A frame shorter than the transform stands in its middle.
        let lead = (self.frame.len() - self.window.len()) / 2;
        let start = (t * self.hop) as isize - half as isize + lead as isize;
        self.frame(|frame| {
            let inside = usize::try_from(start).ok().and_then(|start| samples.get(start..start + frame.len()));
            match inside {
                Some(inside) => {
                    for (x, &sample) in frame.iter_mut().zip(inside) {
                        *x = f64::from(sample);
                    }
                }
                None => {
                    for (i, x) in frame.iter_mut().enumerate() {
                        *x = mirrored(samples, start + i as isize);
                    }
                }
            }
        })
    }
}

/// Sample `i` of `samples` mirrored at its ends, without repeating them, as often as needed.
fn mirrored(samples: &[f32], i: isize) -> f64 {
    match samples {
        [] => 0.0,
        [only] => f64::from(*only),
        _ => {
            let last = samples.len() as isize - 1;
            let i = i.rem_euclid(2 * last);
            f64::from(samples[i.min(2 * last - i) as usize])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_repeat() {
        let samples = [0.0, 1.0, 2.0];
        let seen: Vec<f64> = (-5..8).map(|i| mirrored(&samples, i)).collect();
        assert_eq!(seen, [1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0]);
        assert_eq!((mirrored(&[7.0], -3), mirrored(&[], 1)), (7.0, 0.0));
    }

    #[test]
    fn a_tone_is_one_peak() {
        // 1000 Hz at 16 kHz falls on bin 25 of 400; a Hann window has half the samples' weight.
        let samples: Vec<f32> = (0..4000).map(|i| (TAU * 1000.0 * f64::from(i) / 16_000.0).cos() as f32).collect();
        let mut stft = Stft::new(400, 400, 160, Window::Hann).unwrap();
        assert_eq!(stft.bins(), 201);
        let spectrum = stft.centered_frame(&samples, 10);
        assert!((spectrum[25].norm() - 100.0).abs() < 1e-4);
        assert!((spectrum[24].norm() - 50.0).abs() < 1e-4 && spectrum[60].norm() < 1e-4);
    }

    #[test]
    fn impossible_lengths_are_errors() {
        for (frame, fft, hop) in [(0, 8, 1), (9, 8, 1), (8, 8, 0), (8, usize::MAX, 1)] {
            assert!(Stft::new(frame, fft, hop, Window::Hann).is_err());
        }
        assert_eq!(Stft::new(1, 1, 1, Window::Povey).unwrap().bins(), 1);
    }
}
