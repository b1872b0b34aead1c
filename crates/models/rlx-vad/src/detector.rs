//! One stream of sound in, one probability of speech per window out.

use rlx_audio::silence_bad_samples;

use crate::{Silero, VadError};

/// Which model listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Earshot: 16 ms windows at 16 kHz; the faster.
    #[default]
    Earshot,
    /// Silero VAD v6: 32 ms windows at 16 or 8 kHz.
    Silero,
}

impl Backend {
    /// Its name: `earshot` or `silero`.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Earshot => "earshot",
            Backend::Silero => "silero",
        }
    }
}

/// Samples of Earshot's window.
const EARSHOT_WINDOW: usize = 256;
const EARSHOT_RATE: u32 = 16_000;

enum Model {
    Earshot(Box<earshot::Detector>),
    Silero(Box<Silero>),
}

/// The probability of speech in each window of a stream, which comes in pieces of any length. One detector per stream.
pub struct Detector {
    model: Model,
    /// Samples of a window that is not whole yet.
    pending: Vec<f32>,
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").field("backend", &self.backend().name()).finish_non_exhaustive()
    }
}

impl Detector {
    /// For sound at `rate` Hz: 16,000, or 8,000 with Silero.
    ///
    /// # Errors
    /// Another rate.
    pub fn new(backend: Backend, rate: u32) -> Result<Detector, VadError> {
        match backend {
            Backend::Silero => Ok(Detector::silero(Silero::new(rate)?)),
            Backend::Earshot if rate == EARSHOT_RATE => Ok(Detector {
                model: Model::Earshot(earshot::Detector::new_boxed(earshot::DefaultPredictor::new())),
                pending: Vec::new(),
            }),
            Backend::Earshot => Err(VadError::Rate { backend: "earshot", possible: "16000 Hz", rate }),
        }
    }

    /// With a model of Silero's, as it stands.
    pub fn silero(model: Silero) -> Detector {
        Detector { model: Model::Silero(Box::new(model)), pending: Vec::new() }
    }

    /// Which model listens.
    pub fn backend(&self) -> Backend {
        match self.model {
            Model::Earshot(_) => Backend::Earshot,
            Model::Silero(_) => Backend::Silero,
        }
    }

    /// Samples per second.
    pub fn sample_rate(&self) -> u32 {
        match &self.model {
            Model::Earshot(_) => EARSHOT_RATE,
            Model::Silero(model) => model.sample_rate(),
        }
    }

    /// Samples of a window.
    pub fn window(&self) -> usize {
        match &self.model {
            Model::Earshot(_) => EARSHOT_WINDOW,
            Model::Silero(model) => model.window(),
        }
    }

    /// Takes the next samples of the stream and appends the probabilities of the windows that are now whole. NaN, infinities and
    /// absurd values ([`rlx_audio::MAX_SAMPLE`]) count as silence.
    pub fn push(&mut self, samples: &[f32], probabilities: &mut Vec<f32>) {
        self.pending.extend_from_slice(samples);
        let fresh = self.pending.len() - samples.len();
        silence_bad_samples(&mut self.pending[fresh..]);
        let whole = self.pending.len() - self.pending.len() % self.window();
        self.model.run(&self.pending[..whole], probabilities);
        self.pending.drain(..whole);
    }

    /// Ends the stream: what is left over is filled up with silence to a last window. The detector is then as new.
    pub fn finish(&mut self, probabilities: &mut Vec<f32>) {
        if !self.pending.is_empty() {
            self.pending.resize(self.window(), 0.0);
            self.model.run(&self.pending, probabilities);
        }
        self.reset();
    }

    /// Forgets the stream.
    pub fn reset(&mut self) {
        self.pending.clear();
        match &mut self.model {
            Model::Earshot(model) => model.reset(),
            Model::Silero(model) => model.reset(),
        }
    }
}

impl Model {
    /// Runs whole windows.
    fn run(&mut self, samples: &[f32], probabilities: &mut Vec<f32>) {
        match self {
            Model::Silero(model) => model.run(samples, probabilities),
            Model::Earshot(model) => {
                for window in samples.as_chunks::<EARSHOT_WINDOW>().0 {
                    // It takes samples within full scale only.
                    probabilities.push(model.predict_f32(&window.map(|x| x.clamp(-1.0, 1.0))));
                }
            }
        }
    }
}
