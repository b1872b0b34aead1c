//! Perplexity as llama.cpp's `llama-perplexity` defines it.

use std::ops::ControlFlow;

use rlx_runtime::{Entry, Logits, Session, SessionOptions};

use crate::{CausalLm, CoreError};

/// Most tokens that are scored in one step: a row of logits is as wide as the vocabulary.
const SCORED_AT_ONCE: usize = 64;

/// Result of [`CausalLm::perplexity`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// `exp` of the mean negative log likelihood.
    pub perplexity: f64,
    /// Standard error of the perplexity.
    pub standard_error: f64,
    /// Tokens that were scored.
    pub tokens: usize,
    /// Windows that were run.
    pub windows: usize,
}

impl CausalLm {
    /// Tokens of the longest steps of [`CausalLm::perplexity`]: without logits, and with logits of all of them.
    pub fn perplexity_steps(window: usize, options: &SessionOptions) -> [usize; 2] {
        let first = window / 2;
        let chunk = options.prefill_chunk;
        [first.min(chunk), (window - first).min(chunk).min(SCORED_AT_ONCE)]
    }

    /// Perplexity of `ids`: cut into windows of `window` tokens (a rest is dropped); in each, the first half is context and
    /// the tokens of the second half are scored. With `bos`, the first token of each window is replaced by it. `progress`
    /// is told the windows done, the windows in all and the perplexity so far, and may stop.
    ///
    /// # Errors
    /// If there are fewer ids than a window, or an id is outside the vocabulary.
    pub fn perplexity(
        &self,
        session: &mut Session,
        ids: &[u32],
        window: usize,
        bos: Option<u32>,
        progress: &mut dyn FnMut(usize, usize, f64) -> ControlFlow<()>,
    ) -> Result<Perplexity, CoreError> {
        if window < 4 || ids.len() < window {
            return Err(CoreError::TextTooShort { tokens: ids.len(), window });
        }
        let vocab = session.vocab();
        let total = ids.len() / window;
        let first = window / 2;
        let [context, scored] = CausalLm::perplexity_steps(window, session.options());
        let (mut sum, mut squares, mut count, mut windows) = (0.0f64, 0.0f64, 0usize, 0);
        for chunk in ids.chunks_exact(window) {
            let mut tokens = chunk.to_vec();
            if let Some(bos) = bos {
                tokens[0] = bos;
            }
            let sequence = session.add_sequence();
            let mut at = 0;
            while at < window {
                let end = if at < first { (at + context).min(first) } else { (at + scored).min(window) };
                let logits = if at < first { Logits::None } else { Logits::All };
                session.step(&[Entry { sequence, tokens: &tokens[at..end], logits }])?;
                if at >= first {
                    for (row, position) in session.logits().chunks_exact(vocab).zip(at..end) {
                        if let Some(&next) = tokens.get(position + 1) {
                            let nll = negative_log_likelihood(row, next as usize);
                            sum += nll;
                            squares += nll * nll;
                            count += 1;
                        }
                    }
                }
                at = end;
            }
            session.remove(sequence)?;
            windows += 1;
            if progress(windows, total, (sum / count as f64).exp()).is_break() {
                break;
            }
        }
        let mean = sum / count as f64;
        let variance = (squares / count as f64 - mean * mean).max(0.0);
        let perplexity = mean.exp();
        let standard_error = perplexity * (variance / (count.max(2) - 1) as f64).sqrt();
        Ok(Perplexity { perplexity, standard_error, tokens: count, windows })
    }
}

/// `-ln softmax(logits)[target]`.
fn negative_log_likelihood(logits: &[f32], target: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    sum.ln() - f64::from(logits[target] - max)
}
