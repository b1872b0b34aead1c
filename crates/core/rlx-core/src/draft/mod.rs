//! Speculative decoding: several tokens are guessed cheaply, the model checks them in one step.
//!
//! A guess is checked by picking the next token as always, by the same sampler from the logits of the same position, and
//! comparing. That is the rule of Leviathan et al. 2023 (Fast Inference from Transformers via Speculative Decoding) for a draft
//! that is certain of itself: a token of probability `p` is accepted with probability `p`, else drawn from the others. So the
//! distribution stays what it was at every temperature, and with a seed the very tokens do.

mod model;
mod ngram;
mod pace;

use std::time::Duration;

use crate::CoreError;

pub use model::ModelDrafter;
pub use ngram::NgramDrafter;
pub(crate) use pace::Pace;

/// Most tokens of a draft. With the token before them they are 16, up to which the CPU's kernels compute each token as if it were
/// alone.
pub const MAX_DRAFT_TOKENS: usize = 15;

/// Guesses tokens.
pub trait Drafter {
    /// Makes ready for drafts that follow `history`, so that the first is no slower than the others.
    ///
    /// # Errors
    /// If a draft model fails.
    fn prepare(&mut self, _history: &[u32]) -> Result<(), CoreError> {
        Ok(())
    }

    /// Appends to `out` up to `max` tokens that may follow `history` (the prompt and what was generated so far).
    ///
    /// # Errors
    /// If a draft model fails.
    fn draft(&mut self, history: &[u32], max: usize, out: &mut Vec<u32>) -> Result<(), CoreError>;
}

/// What became of the drafts of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DraftStats {
    /// Steps that checked a draft.
    pub verify_steps: usize,
    /// Steps without one.
    pub plain_steps: usize,
    /// Tokens drafted.
    pub drafted: usize,
    /// Those that the model would have picked too.
    pub accepted: usize,
    /// Time to make the drafts.
    pub draft_time: Duration,
}

impl DraftStats {
    /// Steps of the model after the prompt's.
    pub fn steps(&self) -> usize {
        self.verify_steps + self.plain_steps
    }

    /// Share of drafted tokens that were accepted; none if nothing was drafted.
    pub fn acceptance(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// Tokens that a step which checks a draft gives on average: the accepted ones and one of the model's own.
    pub fn tokens_per_verify_step(&self) -> Option<f64> {
        (self.verify_steps > 0).then(|| (self.accepted + self.verify_steps) as f64 / self.verify_steps as f64)
    }
}
