//! Other sample rates.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _};

use crate::{AudioError, MAX_RATE, MIN_RATE};

/// Frames that are transformed at once, at least. Longer blocks have a steeper filter: with 2048 the pass band ends at about 97 % of
/// the lower rate's half.
const BLOCK: usize = 2048;

/// Changes the sample rate of a mono stream, by spectra of overlapping blocks (linear phase; the filter's delay is taken out). `n` input
/// frames give `ceil(n * to / from)` output frames.
pub struct Resampler {
    /// `None` if the rates are equal.
    inner: Option<Inner>,
}

struct Inner {
    fft: Fft<f32>,
    from: u32,
    to: u32,
    /// Input that does not fill a block yet.
    input: Vec<f32>,
    output: Vec<f32>,
    /// Output frames still to be dropped: the filter's delay.
    skip: usize,
    consumed: u64,
    produced: u64,
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rates = self.inner.as_ref().map(|inner| (inner.from, inner.to));
        f.debug_struct("Resampler").field("rates", &rates).finish_non_exhaustive()
    }
}

impl Resampler {
    /// From one rate to another, in Hz.
    ///
    /// # Errors
    /// A rate is outside [`MIN_RATE`] to [`MAX_RATE`].
    pub fn new(from: u32, to: u32) -> Result<Resampler, AudioError> {
        let failed = |what: String| AudioError::Resample { from, to, what };
        if !(MIN_RATE..=MAX_RATE).contains(&from) || !(MIN_RATE..=MAX_RATE).contains(&to) {
            return Err(failed(format!("rates from {MIN_RATE} to {MAX_RATE} Hz are possible")));
        }
        if from == to {
            return Ok(Resampler { inner: None });
        }
        // An even number of the shortest possible blocks, so that the filter's delay, half a block, is a whole number of frames at both
        // rates.
        let shortest = (from / gcd(from, to)) as usize;
        let block = BLOCK.div_ceil(shortest).next_multiple_of(2) * shortest;
        let fft = Fft::new_custom(
            from as usize,
            to as usize,
            block,
            1,
            1,
            rubato::WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(|e| failed(e.to_string()))?;
        let output = vec![0.0; fft.output_frames_max()];
        let skip = fft.output_delay();
        let inner = Inner { fft, from, to, input: Vec::new(), output, skip, consumed: 0, produced: 0 };
        Ok(Resampler { inner: Some(inner) })
    }

    /// Takes input and appends the output that is ready to `out`.
    ///
    /// # Errors
    /// None is known to occur; they are those of the library below.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), AudioError> {
        let Some(inner) = &mut self.inner else {
            out.extend_from_slice(samples);
            return Ok(());
        };
        inner.consumed += samples.len() as u64;
        let mut rest = samples;
        loop {
            let block = inner.fft.input_frames_next();
            let (head, tail) = rest.split_at(rest.len().min(block.saturating_sub(inner.input.len())));
            inner.input.extend_from_slice(head);
            rest = tail;
            if inner.input.len() < block {
                return Ok(());
            }
            inner.run_block(out)?;
        }
    }

    /// Appends what is left after the last input. The resampler is then as new.
    ///
    /// # Errors
    /// As [`Resampler::push`].
    pub fn finish(&mut self, out: &mut Vec<f32>) -> Result<(), AudioError> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let total = u128::from(inner.consumed) * u128::from(inner.to);
        let total = total.div_ceil(u128::from(inner.from)) as u64;
        while inner.produced < total {
            inner.run_block(out)?;
        }
        // The last block may reach beyond the end.
        let extra = (inner.produced - total) as usize;
        out.truncate(out.len().saturating_sub(extra));
        inner.fft.reset();
        (inner.consumed, inner.produced, inner.skip) = (0, 0, inner.fft.output_delay());
        Ok(())
    }
}

impl Inner {
    /// Runs `input`, filled up with silence to a whole block.
    fn run_block(&mut self, out: &mut Vec<f32>) -> Result<(), AudioError> {
        let failed = |what: String| AudioError::Resample { from: self.from, to: self.to, what };
        let frames = self.input.len();
        let room = self.output.len();
        let input = InterleavedSlice::new(&self.input[..], 1, frames).map_err(|e| failed(e.to_string()))?;
        let mut output = InterleavedSlice::new_mut(&mut self.output[..], 1, room).map_err(|e| failed(e.to_string()))?;
        let indexing = Indexing::new().partial_len(frames);
        let (_, written) =
            self.fft.process_into_buffer(&input, &mut output, Some(&indexing)).map_err(|e| failed(e.to_string()))?;
        self.input.clear();
        let skipped = self.skip.min(written);
        self.skip -= skipped;
        self.produced += (written - skipped) as u64;
        out.extend_from_slice(&self.output[skipped..written]);
        Ok(())
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `samples` of rate `from` at the rate `to`, in Hz. `n` samples give `ceil(n * to / from)`.
///
/// # Errors
/// As [`Resampler::new`].
pub fn resample(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>, AudioError> {
    let mut resampler = Resampler::new(from, to)?;
    let mut out = Vec::new();
    resampler.push(samples, &mut out)?;
    resampler.finish(&mut out)?;
    Ok(out)
}
