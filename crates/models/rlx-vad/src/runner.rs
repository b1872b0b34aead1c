//! One call from samples to segments.

use crate::{Backend, Detector, Segment, SegmentOptions, Segmenter, Silero, SileroWeights, VadError};

/// Finds the speech in sounds: `VadRunner::builder().build()?.segments(&samples)`.
#[derive(Debug)]
pub struct VadRunner {
    detector: Detector,
    segmenter: Segmenter,
}

/// What a [`VadRunner`] is to be.
#[derive(Debug, Clone)]
pub struct VadBuilder {
    backend: Backend,
    rate: u32,
    weights: Option<SileroWeights>,
    options: SegmentOptions,
}

impl VadRunner {
    /// Begins with Earshot at 16 kHz and Silero's default options.
    pub fn builder() -> VadBuilder {
        VadBuilder { backend: Backend::default(), rate: 16_000, weights: None, options: SegmentOptions::default() }
    }

    /// Samples per second that it takes.
    pub fn sample_rate(&self) -> u32 {
        self.detector.sample_rate()
    }

    /// Samples from one probability to the next.
    pub fn window(&self) -> usize {
        self.detector.window()
    }

    /// The probability of speech in each window of a sound; the last one is filled up with silence.
    pub fn probabilities(&mut self, samples: &[f32]) -> Vec<f32> {
        let mut probabilities = Vec::with_capacity(samples.len() / self.window() + 1);
        self.detector.reset();
        self.detector.push(samples, &mut probabilities);
        self.detector.finish(&mut probabilities);
        probabilities
    }

    /// The speech in a sound.
    pub fn segments(&mut self, samples: &[f32]) -> Vec<Segment> {
        let mut segments = Vec::new();
        for probability in self.probabilities(samples) {
            self.segmenter.push(probability, &mut segments);
        }
        self.segmenter.finish(samples.len() as u64, &mut segments);
        segments
    }

    /// The parts, to run a stream with.
    pub fn into_parts(self) -> (Detector, Segmenter) {
        (self.detector, self.segmenter)
    }
}

impl VadBuilder {
    /// Which model.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> VadBuilder {
        self.backend = backend;
        self
    }

    /// Samples per second of the sounds: 16,000, or 8,000 with Silero.
    #[must_use]
    pub fn sample_rate(mut self, rate: u32) -> VadBuilder {
        self.rate = rate;
        self
    }

    /// Silero with these weights, at their rate.
    #[must_use]
    pub fn weights(mut self, weights: SileroWeights) -> VadBuilder {
        (self.backend, self.rate) = (Backend::Silero, weights.sample_rate());
        self.weights = Some(weights);
        self
    }

    /// When speech begins and ends.
    #[must_use]
    pub fn options(mut self, options: SegmentOptions) -> VadBuilder {
        self.options = options;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// An impossible rate or option.
    pub fn build(self) -> Result<VadRunner, VadError> {
        let detector = match self.weights {
            Some(weights) => Detector::silero(Silero::with_weights(weights)?),
            None => Detector::new(self.backend, self.rate)?,
        };
        let segmenter = Segmenter::new(&self.options, detector.sample_rate(), detector.window())?;
        Ok(VadRunner { detector, segmenter })
    }
}
