//! Timing of prompts and of generation, without tokenizer and sampler.

use std::time::Instant;

use rlx_core::CoreError;
use rlx_runtime::{Entry, Logits, MemoryProbe, SequenceId, Session, StepProfile};

/// What to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A prompt of so many tokens (`pp`).
    Prompt(usize),
    /// So many tokens one by one in each of several sequences at once, after a prompt of one token (`tg`).
    Generate {
        /// Tokens of each sequence.
        tokens: usize,
        /// Sequences, each a row of every step.
        sequences: usize,
    },
}

/// What to time, and after how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// What is timed.
    pub work: Work,
    /// Tokens that each sequence holds before.
    pub depth: usize,
}

impl Test {
    /// `pp512`, `tg64`, `tg64 x4`, `tg64 @ d8192`.
    pub fn name(&self) -> String {
        let work = match self.work {
            Work::Prompt(tokens) => format!("pp{tokens}"),
            Work::Generate { tokens, sequences: 1 } => format!("tg{tokens}"),
            Work::Generate { tokens, sequences } => format!("tg{tokens} x{sequences}"),
        };
        if self.depth == 0 { work } else { format!("{work} @ d{}", self.depth) }
    }

    /// Tokens that count.
    pub fn tokens(&self) -> usize {
        match self.work {
            Work::Prompt(tokens) => tokens,
            Work::Generate { tokens, sequences } => tokens.saturating_mul(sequences),
        }
    }

    /// Tokens of a sequence at its end.
    pub fn length(&self) -> usize {
        match self.work {
            Work::Prompt(tokens) => self.depth.saturating_add(tokens),
            Work::Generate { tokens, .. } => self.depth.saturating_add(1).saturating_add(tokens),
        }
    }

    /// Rows of every step.
    pub fn sequences(&self) -> usize {
        match self.work {
            Work::Prompt(_) => 1,
            Work::Generate { sequences, .. } => sequences,
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

    /// The share of the memory rate that reading `bytes_per_step` took, once for all sequences: the median over the repetitions,
    /// each held against the rates before and after it. None if those were not measured.
    pub fn share_of_memory(&self, bytes_per_step: usize) -> Option<f64> {
        let rates = self.memory_gb_s.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0 * 1e9);
        let steps = self.samples.iter().map(|sample| sample / self.test.sequences() as f64);
        let shares = steps.zip(rates).map(|(steps, rate)| bytes_per_step as f64 * steps / rate);
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

/// Runs `test` once to warm up and then `repeat` times, each time on fresh sequences that hold the same tokens before, with the
/// memory measured by `probe` between them. Stops early once `stopped`.
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
    let ids = fixed_ids(test.length(), session.vocab());
    let mut measurement =
        Measurement { test, samples: Vec::with_capacity(repeat), memory_gb_s: vec![], profile: vec![] };
    let (before, ids) = ids.split_at(test.depth);
    let context = session.add_sequence();
    if !before.is_empty() && !session.prefill(context, before, |_| !stopped())? {
        session.remove(context)?;
        return Ok(measurement);
    }
    run(session, test, context, ids)?;
    session.set_profiling(profile);
    let mut memory = || probe.as_mut().map(|probe| probe.read_gb_s());
    measurement.memory_gb_s.extend(memory());
    for _ in 0..repeat {
        if stopped() {
            break;
        }
        let seconds = run(session, test, context, ids)?;
        measurement.samples.push(test.tokens() as f64 / seconds.max(f64::MIN_POSITIVE));
        measurement.memory_gb_s.extend(memory());
    }
    measurement.profile = session.profile();
    session.set_profiling(false);
    session.remove(context)?;
    Ok(measurement)
}

/// Seconds that one run took, on sequences that go on from `context`.
fn run(session: &mut Session, test: Test, context: SequenceId, ids: &[u32]) -> Result<f64, CoreError> {
    let sequences = (0..test.sequences()).map(|_| session.fork(context)).collect::<Result<Vec<_>, _>>()?;
    let start = match test.work {
        Work::Prompt(_) => {
            let start = Instant::now();
            session.prefill(sequences[0], ids, |_| true)?;
            start
        }
        Work::Generate { .. } => {
            let step = |session: &mut Session, token: &[u32]| {
                let entry = |&sequence| Entry { sequence, tokens: token, logits: Logits::Last };
                session.step(&sequences.iter().map(entry).collect::<Vec<_>>())
            };
            step(session, &ids[..1])?;
            let start = Instant::now();
            for token in ids[1..].chunks(1) {
                step(session, token)?;
            }
            start
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    for sequence in sequences {
        session.remove(sequence)?;
    }
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
            test: Test { work: Work::Prompt(1), depth: 0 },
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
        let work = Work::Generate { tokens: 1, sequences: 3 };
        let of_three = Measurement { test: Test { work, depth: 0 }, ..measured };
        assert_eq!(of_three.share_of_memory(6_000_000), Some(0.75));
    }

    #[test]
    fn names_and_lengths() {
        let test = |work, depth| Test { work, depth };
        let generate = |sequences| Work::Generate { tokens: 64, sequences };
        let cases = [
            (test(Work::Prompt(512), 0), "pp512", 512, 512),
            (test(Work::Prompt(512), 2048), "pp512 @ d2048", 512, 2560),
            (test(generate(1), 0), "tg64", 64, 65),
            (test(generate(4), 100), "tg64 x4 @ d100", 256, 165),
        ];
        for (test, name, tokens, length) in cases {
            assert_eq!((test.name().as_str(), test.tokens(), test.length()), (name, tokens, length));
        }
    }

    #[test]
    fn ids_are_in_the_vocabulary() {
        for vocab in [1, 7, 262_144] {
            assert!(fixed_ids(1000, vocab).iter().all(|&id| (id as usize) < vocab));
        }
        assert_ne!(fixed_ids(2, 1000)[0], fixed_ids(2, 1000)[1]);
    }
}
