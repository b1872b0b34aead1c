//! Timing of prompts and of generation, without tokenizer and sampler.

use std::time::Instant;

use rlx_core::CoreError;
use rlx_runtime::{Entry, Logits, MemoryProbe, Session, StepProfile};

/// What to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// A prompt of so many tokens (`pp`).
    Prompt(usize),
    /// So many tokens one by one, after a prompt of one token (`tg`).
    Generate(usize),
}

impl Test {
    /// `pp512`, `tg64`.
    pub fn name(&self) -> String {
        match self {
            Test::Prompt(tokens) => format!("pp{tokens}"),
            Test::Generate(tokens) => format!("tg{tokens}"),
        }
    }

    /// Tokens that count.
    pub fn tokens(&self) -> usize {
        match *self {
            Test::Prompt(tokens) | Test::Generate(tokens) => tokens,
        }
    }
}

/// Tokens per second of each repetition.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// What was timed.
    pub test: Test,
    /// One figure per repetition, in order.
    pub samples: Vec<f64>,
    /// The rate at which memory could be read before the first repetition and after each, in 10^9 bytes per second; empty if that
    /// was not measured.
    pub memory_gb_s: Vec<f64>,
    /// Times per step over all repetitions, if asked for.
    pub profile: Vec<StepProfile>,
}

impl Measurement {
    /// The median of the samples; 0 if there are none.
    pub fn median(&self) -> f64 {
        median(&self.samples).unwrap_or(0.0)
    }

    /// The share of the memory rate that reading `bytes_per_token` took: the median over the repetitions, each held against the
    /// rates before and after it. None if those were not measured.
    pub fn share_of_memory(&self, bytes_per_token: usize) -> Option<f64> {
        let rates = self.memory_gb_s.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0 * 1e9);
        let shares = self.samples.iter().zip(rates).map(|(sample, rate)| bytes_per_token as f64 * sample / rate);
        median(&shares.collect::<Vec<_>>())
    }

    /// The slowest.
    pub fn min(&self) -> f64 {
        self.samples.iter().copied().min_by(f64::total_cmp).unwrap_or(0.0)
    }

    /// The fastest.
    pub fn max(&self) -> f64 {
        self.samples.iter().copied().max_by(f64::total_cmp).unwrap_or(0.0)
    }
}

/// The middle of `values`; none of none.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[n / 2]),
        n => Some((sorted[n / 2 - 1] + sorted[n / 2]) / 2.0),
    }
}

/// Runs `test` once to warm up and then `repeat` times, each time on a fresh sequence, with the memory measured by `probe` between
/// them. Stops early once `stopped`.
///
/// # Errors
/// If the session does not allow sequences this long.
pub fn measure(
    session: &mut Session,
    test: Test,
    repeat: usize,
    profile: bool,
    mut probe: Option<&mut MemoryProbe>,
    stopped: &dyn Fn() -> bool,
) -> Result<Measurement, CoreError> {
    let ids = fixed_ids(test.tokens() + 1, session.vocab());
    let mut measurement =
        Measurement { test, samples: Vec::with_capacity(repeat), memory_gb_s: vec![], profile: vec![] };
    run(session, test, &ids)?;
    session.set_profiling(profile);
    let mut memory = || probe.as_mut().map(|probe| probe.read_gb_s());
    measurement.memory_gb_s.extend(memory());
    for _ in 0..repeat {
        if stopped() {
            break;
        }
        let seconds = run(session, test, &ids)?;
        measurement.samples.push(test.tokens() as f64 / seconds.max(f64::MIN_POSITIVE));
        measurement.memory_gb_s.extend(memory());
    }
    measurement.profile = session.profile();
    session.set_profiling(false);
    Ok(measurement)
}

/// Seconds that one run took.
fn run(session: &mut Session, test: Test, ids: &[u32]) -> Result<f64, CoreError> {
    let sequence = session.add_sequence();
    let start = match test {
        Test::Prompt(tokens) => {
            let start = Instant::now();
            session.prefill(sequence, &ids[..tokens], |_| true)?;
            start
        }
        Test::Generate(_) => {
            session.step(&[Entry { sequence, tokens: &ids[..1], logits: Logits::Last }])?;
            let start = Instant::now();
            for token in &ids[1..] {
                session.step(&[Entry { sequence, tokens: std::slice::from_ref(token), logits: Logits::Last }])?;
            }
            start
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    session.remove(sequence)?;
    Ok(seconds)
}

/// Ids that look random and are the same every time.
fn fixed_ids(count: usize, vocab: usize) -> Vec<u32> {
    let mut state = 0x2545_f491u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(state) * vocab as u64) >> 32) as u32
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_samples() {
        let of = |samples: &[f64]| Measurement {
            test: Test::Prompt(1),
            samples: samples.to_vec(),
            memory_gb_s: vec![],
            profile: vec![],
        };
        assert_eq!(of(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!((of(&[3.0, 1.0]).min(), of(&[3.0, 1.0]).max()), (1.0, 3.0));
        assert_eq!(of(&[]).median(), 0.0);
        assert_eq!(of(&[1.0]).share_of_memory(1), None);
        // Two million bytes for a token: 2, 3 and 8 GB/s, of 4, 4 and 8.
        let measured = Measurement { memory_gb_s: vec![5.0, 3.0, 5.0, 11.0], ..of(&[1000.0, 1500.0, 4000.0]) };
        assert_eq!(measured.share_of_memory(2_000_000), Some(0.75));
    }

    #[test]
    fn ids_are_in_the_vocabulary() {
        for vocab in [1, 7, 262_144] {
            assert!(fixed_ids(1000, vocab).iter().all(|&id| (id as usize) < vocab));
        }
        assert_ne!(fixed_ids(2, 1000)[0], fixed_ids(2, 1000)[1]);
    }
}
