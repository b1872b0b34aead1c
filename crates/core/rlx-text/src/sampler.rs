//! [`Sampler`]: from logits to the next id.

use ahash::AHashMap;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{RngCore, SeedableRng};

use crate::{TextError, logits};

/// How to pick the next token. The default is greedy: the largest logit wins.
///
/// The steps run in this order, the one of llama.cpp's usual chain:
/// 1. penalties for tokens among the last `repeat_last_n` of the history: `repeat_penalty` divides a positive logit
///    and multiplies a negative one, then `frequency_penalty` is subtracted once per occurrence and
///    `presence_penalty` once;
/// 2. `top_k`: only the k largest logits stay;
/// 3. `top_p`: only the smallest set of largest probabilities that sums to at least p stays;
/// 4. `min_p`: only tokens at least `min_p` times as probable as the best stay;
/// 5. the rest is divided by `temperature` and drawn from.
///
/// Probabilities in 3 and 4 are taken before the temperature. At `temperature` 0 steps 2 to 5 are: the largest logit,
/// of equals the lowest id.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits before drawing; 0 is greedy. Finite, >= 0.
    pub temperature: f32,
    /// Number of tokens to keep; 0 keeps all.
    pub top_k: usize,
    /// Probability mass to keep, in (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// Least probability relative to the best token, in [0, 1]; 0 keeps all.
    pub min_p: f32,
    /// > 0; 1 is off.
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalties look at; 0 turns them off, `usize::MAX` takes all.
    pub repeat_last_n: usize,
    /// Subtracted per occurrence; 0 is off. Finite.
    pub frequency_penalty: f32,
    /// Subtracted once if the token occurs; 0 is off. Finite.
    pub presence_penalty: f32,
    /// Seed of the random draws; `None` takes a new one each time.
    pub seed: Option<u64>,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
        }
    }
}

impl SamplerOptions {
    fn validate(&self) -> Result<(), TextError> {
        let check = |ok: bool, name, value: f32, expected| {
            if ok { Ok(()) } else { Err(TextError::SamplerOption { name, value: value.to_string(), expected }) }
        };
        let finite = |v: f32| v.is_finite();
        check(finite(self.temperature) && self.temperature >= 0.0, "temperature", self.temperature, "finite and >= 0")?;
        check(self.top_p > 0.0 && self.top_p <= 1.0, "top_p", self.top_p, "in (0, 1]")?;
        check((0.0..=1.0).contains(&self.min_p), "min_p", self.min_p, "in [0, 1]")?;
        check(
            finite(self.repeat_penalty) && self.repeat_penalty > 0.0,
            "repeat_penalty",
            self.repeat_penalty,
            "finite and > 0 (1 is off)",
        )?;
        check(finite(self.frequency_penalty), "frequency_penalty", self.frequency_penalty, "finite")?;
        check(finite(self.presence_penalty), "presence_penalty", self.presence_penalty, "finite")
    }

    fn has_penalties(&self) -> bool {
        let any = self.repeat_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0;
        any && self.repeat_last_n > 0
    }
}

/// Changes logits before sampling: constraints, biases. Forbid a token with `f32::NEG_INFINITY`.
pub trait LogitsProcessor {
    /// `logits`: one per row of the model's output; `history`: prompt and generated ids so far. From call to call the history
    /// only grows.
    ///
    /// # Errors
    /// If the history cannot be followed.
    fn process(&mut self, logits: &mut [f32], history: &[u32]) -> Result<(), TextError>;

    /// Appends to `out` tokens that are sure, or nearly so, to follow `history`: they are run in one step.
    ///
    /// # Errors
    /// If the history cannot be followed.
    fn forced(&mut self, _history: &[u32], _out: &mut Vec<u32>) -> Result<(), TextError> {
        Ok(())
    }

    /// Whether the answer is complete and nothing may follow.
    ///
    /// # Errors
    /// If the history cannot be followed.
    fn is_complete(&mut self, _history: &[u32]) -> Result<bool, TextError> {
        Ok(false)
    }
}

/// Picks ids from logits by [`SamplerOptions`].
///
/// The same options (with a seed), logits and history give the same ids on every platform: the generator is PCG-64
/// MCG, and the exponential is computed here with basic operations only.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    rng: Pcg64Mcg,
    counts: AHashMap<u32, u32>,
    candidates: Vec<Candidate>,
    /// Largest logit of each [`CHUNK`].
    chunk_max: Vec<f32>,
}

/// Logits looked at together.
const CHUNK: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
    weight: f32,
}

impl Candidate {
    /// Larger logits first, of equals the lower id.
    fn order(a: &Self, b: &Self) -> std::cmp::Ordering {
        b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
    }
}

impl Sampler {
    /// # Errors
    /// An option out of range.
    pub fn new(options: SamplerOptions) -> Result<Self, TextError> {
        options.validate()?;
        let seed = options.seed.unwrap_or_else(random_seed);
        Ok(Self {
            rng: Pcg64Mcg::seed_from_u64(seed),
            options,
            counts: AHashMap::new(),
            candidates: Vec::new(),
            chunk_max: Vec::new(),
        })
    }

    /// The options in force.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// The next id. `logits` (one per vocabulary row) is changed by the penalties; `history` holds the prompt's and the
    /// generated ids, the latest last.
    ///
    /// # Errors
    /// No logits, a NaN, or every token forbidden.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<u32, TextError> {
        self.penalize(logits, history);
        let best = self.argmax(logits)?;
        if self.options.temperature == 0.0 || self.options.top_k == 1 {
            return Ok(best as u32);
        }
        let max = logits[best];
        if max == f32::INFINITY {
            return Ok(best as u32);
        }
        self.collect(logits, max);
        self.keep_top_k();
        for c in &mut self.candidates {
            c.weight = logits::exp_neg(c.logit - max);
        }
        self.keep_top_p();
        self.keep_min_p();
        Ok(self.draw(max))
    }

    fn penalize(&mut self, logits: &mut [f32], history: &[u32]) {
        if !self.options.has_penalties() {
            return;
        }
        let o = &self.options;
        self.counts.clear();
        for &id in &history[history.len().saturating_sub(o.repeat_last_n)..] {
            *self.counts.entry(id).or_insert(0) += 1;
        }
        for (&id, &count) in &self.counts {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = if *logit > 0.0 { *logit / o.repeat_penalty } else { *logit * o.repeat_penalty };
                *logit -= count as f32 * o.frequency_penalty + o.presence_penalty;
            }
        }
    }

    /// Index of the largest logit, the first of equals. Leaves the maximum of each chunk in `chunk_max`.
    fn argmax(&mut self, logits: &[f32]) -> Result<usize, TextError> {
        self.chunk_max.clear();
        for (i, chunk) in logits.chunks(CHUNK).enumerate() {
            let max = logits::max(chunk).ok_or_else(|| {
                let at = i * CHUNK + chunk.iter().position(|l| l.is_nan()).unwrap_or(0);
                TextError::Logits(format!("logit {at} is NaN; the model's computation went wrong (broken weights?)"))
            })?;
            self.chunk_max.push(max);
        }
        let max = self.chunk_max.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            let why = if logits.is_empty() { "there are no logits" } else { "every token is forbidden" };
            return Err(TextError::Logits(why.into()));
        }
        let chunk = self.chunk_max.iter().position(|&m| m == max).unwrap_or(0);
        let within = logits[chunk * CHUNK..].iter().position(|&l| l == max).unwrap_or(0);
        Ok(chunk * CHUNK + within)
    }

    /// Candidates worth looking at: what is less probable than the best by a factor of 2^-64 is never drawn, and the
    /// k best logits are at least the k-th best maximum of a chunk.
    fn collect(&mut self, logits: &[f32], max: f32) {
        let hot = self.options.temperature > 1.0;
        let mut floor = max - if hot { f32::INFINITY } else { 45.0 };
        let k = self.options.top_k;
        if k > 0 && k <= self.chunk_max.len() {
            let (_, kth, _) = self.chunk_max.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            floor = floor.max(*kth);
        }
        self.candidates.clear();
        let all = (0u32..).zip(logits).filter(|&(_, &l)| l > f32::NEG_INFINITY && l >= floor);
        self.candidates.extend(all.map(|(id, &logit)| Candidate { id, logit, weight: 0.0 }));
    }

    fn keep_top_k(&mut self) {
        let k = self.options.top_k;
        if k > 0 && k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, Candidate::order);
            self.candidates.truncate(k);
            // Selection leaves an order that depends on the library; draws go by id.
            self.candidates.sort_unstable_by_key(|c| c.id);
        }
    }

    fn keep_top_p(&mut self) {
        let p = f64::from(self.options.top_p);
        if p >= 1.0 {
            return;
        }
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.weight)).sum();
        let wanted = p * total;
        // All weights below this sum to less than what may be left out, so none of them is needed.
        let needed = (1.0 - p) * total / self.candidates.len() as f64;
        self.candidates.retain(|c| f64::from(c.weight) >= needed);
        let n = self.candidates.len();
        // Sort only as many as turn out to be needed.
        let mut sorted = 0;
        let mut mass = 0.0;
        let mut chunk = 64;
        while sorted < n {
            let end = (sorted + chunk).min(n);
            if end < n {
                self.candidates[sorted..].select_nth_unstable_by(end - sorted - 1, Candidate::order);
            }
            self.candidates[sorted..end].sort_unstable_by(Candidate::order);
            for i in sorted..end {
                mass += f64::from(self.candidates[i].weight);
                if mass >= wanted {
                    self.candidates.truncate(i + 1);
                    return;
                }
            }
            sorted = end;
            chunk *= 4;
        }
    }

    fn keep_min_p(&mut self) {
        let min_p = self.options.min_p;
        if min_p > 0.0 {
            // The best token's weight is exp(0) = 1.
            self.candidates.retain(|c| c.weight >= min_p);
        }
    }

    fn draw(&mut self, max: f32) -> u32 {
        let t = self.options.temperature;
        let mut total = 0.0f64;
        for c in &mut self.candidates {
            c.weight = logits::exp_neg((c.logit - max) / t);
            total += f64::from(c.weight);
        }
        // 53 random bits: uniform in [0, 1).
        let u = (self.rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64) * total;
        let mut sum = 0.0f64;
        let mut last = 0;
        for c in &self.candidates {
            if c.weight > 0.0 {
                sum += f64::from(c.weight);
                last = c.id;
                if u < sum {
                    return c.id;
                }
            }
        }
        last
    }
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds its hash maps from the system's randomness.
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> SamplerOptions {
        SamplerOptions { temperature: 1.0, seed: Some(1), ..SamplerOptions::default() }
    }

    fn draw_many(o: SamplerOptions, logits: &[f32], n: usize) -> Vec<u32> {
        let mut s = Sampler::new(o).unwrap();
        (0..n).map(|_| s.sample(&mut logits.to_vec(), &[]).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equals() {
        let mut s = Sampler::new(SamplerOptions::default()).unwrap();
        assert_eq!(s.sample(&mut [1.0, 3.0, 3.0, 2.0], &[]).unwrap(), 1);
        assert_eq!(s.sample(&mut [f32::NEG_INFINITY, -5.0], &[]).unwrap(), 1);
    }

    #[test]
    fn bad_logits_are_errors() {
        let mut s = Sampler::new(SamplerOptions::default()).unwrap();
        assert!(s.sample(&mut [1.0, f32::NAN], &[]).is_err());
        assert!(s.sample(&mut [], &[]).is_err());
        assert!(s.sample(&mut [f32::NEG_INFINITY; 3], &[]).is_err());
    }

    #[test]
    fn bad_options_are_errors() {
        let d = SamplerOptions::default;
        for o in [
            SamplerOptions { temperature: -1.0, ..d() },
            SamplerOptions { temperature: f32::NAN, ..d() },
            SamplerOptions { top_p: 0.0, ..d() },
            SamplerOptions { top_p: f32::NAN, ..d() },
            SamplerOptions { min_p: 1.5, ..d() },
            SamplerOptions { repeat_penalty: 0.0, ..d() },
            SamplerOptions { presence_penalty: f32::INFINITY, ..d() },
        ] {
            assert!(matches!(Sampler::new(o.clone()), Err(TextError::SamplerOption { .. })), "{o:?}");
        }
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        let n = 40_000;
        let ids = draw_many(options(), &logits, n);
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        for (id, &l) in logits.iter().enumerate() {
            let got = ids.iter().filter(|&&x| x as usize == id).count() as f64 / n as f64;
            let want = f64::from(l).exp() / total;
            assert!((got - want).abs() < 0.012, "id {id}: {got} {want}");
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        // Probabilities 0.5, 0.25, 0.125, 0.0625 (and the same again below).
        let logits: Vec<f32> = (0..8).map(|i| -(i as f32) * std::f32::consts::LN_2).collect();
        let kept = |o: SamplerOptions| {
            let mut ids = draw_many(o, &logits, 4000);
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        assert_eq!(kept(SamplerOptions { top_k: 2, ..options() }), [0, 1]);
        assert_eq!(kept(SamplerOptions { top_k: 1, ..options() }), [0]);
        assert_eq!(kept(SamplerOptions { top_p: 0.7, ..options() }), [0, 1]);
        assert_eq!(kept(SamplerOptions { top_p: 0.01, ..options() }), [0]);
        assert_eq!(kept(SamplerOptions { min_p: 0.2, ..options() }), [0, 1, 2]);
        // The filters come before the temperature.
        assert_eq!(kept(SamplerOptions { top_p: 0.7, temperature: 50.0, ..options() }), [0, 1]);
        assert_eq!(kept(SamplerOptions { temperature: 50.0, ..options() }).len(), 8);
    }

    #[test]
    fn top_k_ties_keep_the_lowest_ids() {
        let ids = draw_many(SamplerOptions { top_k: 2, ..options() }, &[1.0; 6], 500);
        assert!(ids.iter().all(|&id| id < 2));
    }

    #[test]
    fn penalties() {
        let o = SamplerOptions { repeat_penalty: 2.0, repeat_last_n: 2, ..SamplerOptions::default() };
        let mut s = Sampler::new(o).unwrap();
        let mut logits = [4.0, 3.0, -1.0];
        assert_eq!(s.sample(&mut logits, &[1, 0, 2]).unwrap(), 1);
        assert_eq!(logits, [2.0, 3.0, -2.0]);
        let o = SamplerOptions { frequency_penalty: 0.5, presence_penalty: 0.25, ..SamplerOptions::default() };
        let mut logits = [4.0, 3.0, -1.0];
        Sampler::new(o).unwrap().sample(&mut logits, &[0, 0, 9]).unwrap();
        assert_eq!(logits, [2.75, 3.0, -1.0]);
    }

    #[test]
    fn a_seed_fixes_the_draws() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32 * 0.004).collect();
        let o = SamplerOptions { temperature: 0.8, top_p: 0.95, seed: Some(42), ..SamplerOptions::default() };
        let a = draw_many(o.clone(), &logits, 12);
        assert_eq!(a, draw_many(o, &logits, 12));
        // Recorded once; a change means that users' seeds give other texts.
        assert_eq!(a, RECORDED_SEED_42);
    }

    const RECORDED_SEED_42: [u32; 12] = [2, 988, 285, 50, 25, 285, 840, 276, 680, 644, 173, 174];

    /// The chain as defined, with full sorts, for the set of tokens that can be drawn.
    fn naive_kept(o: &SamplerOptions, logits: &[f32]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        if o.top_k > 0 {
            order.truncate(o.top_k);
        }
        let max = logits[order[0] as usize];
        let weight = |id: u32| f64::from(logits::exp_neg(logits[id as usize] - max));
        let total: f64 = order.iter().map(|&id| weight(id)).sum();
        let mut mass = 0.0;
        let cut = order.iter().position(|&id| {
            mass += weight(id);
            o.top_p < 1.0 && mass >= f64::from(o.top_p) * total
        });
        order.truncate(cut.map_or(order.len(), |c| c + 1));
        order.retain(|&id| weight(id) >= f64::from(o.min_p));
        order
    }

    #[test]
    fn shortcuts_keep_what_full_sorts_keep() {
        let logits: Vec<f32> =
            (0..9000u32).map(|i| ((i.wrapping_mul(2_654_435_761) >> 12) % 4000) as f32 * 0.002).collect();
        for (top_k, top_p, min_p) in [
            (3, 1.0, 0.0),
            (9, 1.0, 0.0),
            (500, 0.9, 0.0),
            (0, 0.5, 0.0),
            (0, 0.05, 0.0),
            (0, 1.0, 0.5),
            (40, 0.9, 0.2),
        ] {
            let o = SamplerOptions { top_k, top_p, min_p, ..options() };
            let mut s = Sampler::new(o.clone()).unwrap();
            let best = s.argmax(&logits).unwrap();
            let max = logits[best];
            s.collect(&logits, max);
            s.keep_top_k();
            s.candidates.iter_mut().for_each(|c| c.weight = logits::exp_neg(c.logit - max));
            s.keep_top_p();
            s.keep_min_p();
            let mut got: Vec<u32> = s.candidates.iter().map(|c| c.id).collect();
            let mut want = naive_kept(&o, &logits);
            got.sort_unstable();
            want.sort_unstable();
            assert_eq!(got, want, "{top_k} {top_p} {min_p}");
        }
    }

    #[test]
    fn a_large_vocabulary_is_partially_sorted() {
        let logits: Vec<f32> = (0..262_144u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 * 1e-6).collect();
        let ids = draw_many(SamplerOptions { top_p: 0.9, top_k: 40, ..options() }, &logits, 3);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        assert!(ids.iter().all(|&id| order[..40].contains(&(id as usize))));
    }
}
