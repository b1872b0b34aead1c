//! [`SpeechModel`]: what decoding asks of a network.

use rlx_core::CoreError;

/// An encoded window of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowId(pub u32);

/// A sequence of tokens that is being written about a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u32);

/// What decoding must know of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeechFacts {
    /// Width of a row of logits.
    pub vocab: usize,
    /// Mel bands of a frame: 80, or 128 for large-v3.
    pub n_mels: usize,
    /// Frames of a window: 3000, at 10 ms each.
    pub window_frames: usize,
    /// Positions of an encoded window (`max_source_positions`): 1500, at 20 ms each.
    pub audio_positions: usize,
    /// Longest sequence in tokens (`max_target_positions`): 448.
    pub max_tokens: usize,
}

impl SpeechFacts {
    /// Time between two timestamps, and length of a position of an encoded window, in seconds: 0.02.
    pub fn time_precision(&self) -> f64 {
        self.window_frames as f64 / self.audio_positions.max(1) as f64 / FRAMES_PER_SECOND
    }
}

/// Frames of log-mel spectrogram per second.
pub const FRAMES_PER_SECOND: f64 = 100.0;

/// New tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    /// The sequence; at most once per step.
    pub sequence: SequenceId,
    /// Tokens to append, at least one.
    pub tokens: &'a [u32],
}

/// Cross-attention of the heads that follow the sound, for word timestamps.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// Number of heads.
    pub heads: usize,
    /// Number of tokens.
    pub tokens: usize,
    /// Positions of the encoded window.
    pub positions: usize,
    /// `[heads, tokens, positions]`: what each token attends to; each row sums to 1.
    pub weights: Vec<f32>,
    /// `[tokens, vocab]`: the logits after each token.
    pub logits: Vec<f32>,
}

/// An encoder and a decoder. Windows are encoded once and can have any number of sequences written about them.
pub trait SpeechModel {
    /// Sizes.
    fn facts(&self) -> SpeechFacts;

    /// Encodes windows in one batch. Each is `[window_frames, n_mels]`, frame after frame.
    ///
    /// # Errors
    /// If one is of another size, or the device fails.
    fn encode(&mut self, windows: &[&[f32]]) -> Result<Vec<WindowId>, CoreError>;

    /// Forgets a window. Its sequences must have been removed.
    ///
    /// # Errors
    /// If there is no such window.
    fn release(&mut self, window: WindowId) -> Result<(), CoreError>;

    /// A new, empty sequence about `window`.
    ///
    /// # Errors
    /// If there is no such window.
    fn add_sequence(&mut self, window: WindowId) -> Result<SequenceId, CoreError>;

    /// A second sequence with the same tokens.
    ///
    /// # Errors
    /// If there is no such sequence.
    fn fork(&mut self, sequence: SequenceId) -> Result<SequenceId, CoreError>;

    /// Forgets a sequence.
    ///
    /// # Errors
    /// If there is no such sequence.
    fn remove(&mut self, sequence: SequenceId) -> Result<(), CoreError>;

    /// Appends tokens to sequences, in one batch, and gives the logits after the last token of each, `[feeds, vocab]`, to be changed at
    /// will.
    ///
    /// # Errors
    /// If a feed is empty, unknown, listed twice, too long, or has a token outside the vocabulary.
    fn step(&mut self, feeds: &[Feed<'_>]) -> Result<&mut [f32], CoreError>;

    /// Runs `tokens` from the beginning and gives what the alignment heads attend to.
    ///
    /// # Errors
    /// As [`SpeechModel::step`].
    fn align(&mut self, window: WindowId, tokens: &[u32]) -> Result<Alignment, CoreError>;
}
