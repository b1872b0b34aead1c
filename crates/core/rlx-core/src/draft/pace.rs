//! How many tokens to draft.

use std::time::Duration;

use super::MAX_DRAFT_TOKENS;

/// Weight of a new observation in a running mean.
const WEIGHT: f64 = 0.15;
/// Acceptance that is assumed before anything is known.
const HOPE: f64 = 0.7;
/// Cost of a further token in a step, relative to a step of one, before anything is known.
const TOKEN_COST: f64 = 0.3;
/// Steps without a draft after drafts have not paid, first and at most.
const PAUSES: (usize, usize) = (16, 512);
/// Steps without a draft at the beginning, and one after so many with drafts.
const PLAIN_AT_FIRST: usize = 3;
const PLAIN_EVERY: usize = 64;
/// Tokens of a draft that is made to see what comes of it.
const TRIAL: usize = 2;
/// A draft must promise this much, for the estimates are rough.
const WORTH: f64 = 1.03;

/// Decides by measured times and acceptance how long the next draft is, and stops drafting where it does not pay: a pause, a
/// short draft to see whether it does now, a pause twice as long.
#[derive(Debug)]
pub(crate) struct Pace {
    limit: usize,
    acceptance: f64,
    /// Seconds of a step by its number of tokens.
    steps: [Option<f64>; MAX_DRAFT_TOKENS + 2],
    /// Seconds to draft a token.
    draft: Option<f64>,
    pause: usize,
    next_pause: usize,
    /// Steps of one token, and steps of several since the last of them.
    plain: usize,
    since_plain: usize,
}

impl Pace {
    pub(crate) fn new(limit: usize) -> Pace {
        let limit = limit.min(MAX_DRAFT_TOKENS);
        Pace {
            limit,
            acceptance: HOPE,
            steps: [None; MAX_DRAFT_TOKENS + 2],
            draft: None,
            pause: 0,
            next_pause: PAUSES.0,
            plain: 0,
            since_plain: 0,
        }
    }

    /// Tokens that the next draft should have; 0 for none.
    pub(crate) fn length(&mut self) -> usize {
        // The first steps tell what one costs, and one now and then whether it still does.
        if self.plain < PLAIN_AT_FIRST || self.since_plain >= PLAIN_EVERY {
            return 0;
        }
        if self.pause > 0 {
            self.pause -= 1;
            if self.pause == 0 {
                self.acceptance = HOPE;
                return self.limit.min(TRIAL);
            }
            return 0;
        }
        if self.draft.is_none() {
            return self.limit.min(TRIAL);
        }
        let rate = |k: usize| self.expected(k) / self.cost(k);
        let best = (0..=self.limit).fold(0, |best, k| if rate(k) > rate(best) { k } else { best });
        if rate(best) > WORTH * rate(0) {
            if self.acceptance > HOPE {
                self.next_pause = PAUSES.0;
            }
            return best;
        }
        self.pause = self.next_pause;
        self.next_pause = (2 * self.next_pause).min(PAUSES.1);
        0
    }

    /// Tokens expected from a draft of `k`.
    fn expected(&self, k: usize) -> f64 {
        (0..=k as i32).map(|i| self.acceptance.powi(i)).sum()
    }

    /// Seconds that a draft of `k` and its check take.
    fn cost(&self, k: usize) -> f64 {
        let one = self.steps[1].unwrap_or(1.0);
        let step = self.steps[k + 1].unwrap_or_else(|| {
            // Along a line through what is known nearest to it.
            let near = (2..self.steps.len()).filter(|&n| self.steps[n].is_some()).min_by_key(|&n| n.abs_diff(k + 1));
            let slope = near.map_or(TOKEN_COST * one, |n| (self.steps[n].unwrap_or(one) - one) / (n - 1) as f64);
            one + slope.max(0.0) * k as f64
        });
        step + self.draft.unwrap_or(0.0) * k as f64
    }

    /// A step of `tokens` tokens took so long.
    pub(crate) fn stepped(&mut self, tokens: usize, time: Duration) {
        let time = time.as_secs_f64();
        if tokens == 1 {
            self.plain += 1;
            self.since_plain = 0;
        } else {
            self.since_plain += 1;
        }
        if let Some(slot) = self.steps.get_mut(tokens) {
            *slot = Some(slot.map_or(time, |mean| follow(mean, time)));
        }
    }

    /// Of a draft of `drafted` tokens, made in `time`, the first `accepted` were right.
    pub(crate) fn drafted(&mut self, drafted: usize, accepted: usize, time: Duration) {
        let each = time.as_secs_f64() / drafted.max(1) as f64;
        self.draft = Some(self.draft.map_or(each, |mean| follow(mean, each)));
        for _ in 0..accepted {
            self.acceptance += WEIGHT * (1.0 - self.acceptance);
        }
        if accepted < drafted {
            self.acceptance -= WEIGHT * self.acceptance;
        }
    }
}

/// The mean after another observation. A step that was held up by other work says little, a fast one much.
fn follow(mean: f64, time: f64) -> f64 {
    let weight = if time < mean { 0.5 } else { WEIGHT };
    mean + weight * (time.min(4.0 * mean) - mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds and tokens of `steps` steps where a draft token is right with a chance of `right` in 100.
    fn run(right: u64, steps: usize, draft_cost: f64) -> (f64, f64, usize) {
        let mut pace = Pace::new(7);
        let (mut seconds, mut tokens, mut drafts) = (0.0, 0.0, 0);
        let mut state = 1u64;
        for _ in 0..steps {
            let k = pace.length();
            let took = 1.0 + 0.2 * k as f64;
            pace.stepped(k + 1, Duration::from_secs_f64(took));
            seconds += took + draft_cost * k as f64;
            let mut good = 0;
            while good < k && {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % 100 < right
            } {
                good += 1;
            }
            if k > 0 {
                drafts += 1;
                pace.drafted(k, good, Duration::from_secs_f64(draft_cost * k as f64));
            }
            tokens += 1.0 + good as f64;
        }
        (seconds, tokens, drafts)
    }

    #[test]
    fn bad_drafts_cost_little() {
        for (right, cost) in [(0, 0.0), (10, 0.0), (0, 0.3), (30, 0.5)] {
            let (seconds, tokens, _) = run(right, 500, cost);
            assert!(seconds / tokens < 1.05, "{right} % at {cost}: {:.3} of the time", seconds / tokens);
        }
    }

    #[test]
    fn good_drafts_are_used() {
        let (seconds, tokens, drafts) = run(95, 500, 0.0);
        assert!(seconds / tokens < 0.5, "{:.3} of the time", seconds / tokens);
        assert!(drafts > 450, "{drafts} drafts");
        // Right, but as slow as the model itself.
        let (seconds, tokens, _) = run(95, 500, 1.2);
        assert!(seconds / tokens < 1.06, "{:.3} of the time", seconds / tokens);
    }
}
