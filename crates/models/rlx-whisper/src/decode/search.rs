//! Which of the tokens that may follow are kept: beam search and draws.

use std::cmp::Ordering;

use rlx_core::CoreError;
use rlx_runtime::log_sum_exp;
use rlx_text::{Sampler, SamplerOptions};

use super::DecodeOptions;
use super::rules::Rules;

/// A text in the making.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Track {
    /// Tokens written so far.
    pub(super) tokens: Vec<u32>,
    /// Sum of their log probabilities.
    pub(super) sum: f32,
}

/// The way on: each track grows out of one of those before.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grown {
    /// Index of the track before.
    pub(super) parent: usize,
    /// The track, whose last token is new.
    pub(super) track: Track,
}

/// The search for the text of one window.
#[derive(Debug)]
pub(super) enum Search {
    Beam(Beam),
    Draw(Draw),
}

impl Search {
    pub(super) fn new(options: &DecodeOptions, temperature: f32, seed: u64) -> Result<Search, CoreError> {
        Ok(if temperature > 0.0 {
            Search::Draw(Draw::new(options.best_of, temperature, seed)?)
        } else {
            Search::Beam(Beam::new(options.beam_size, options.max_candidates()))
        })
    }

    /// Tracks that grow out of `tracks`. At the beginning there is one track, which is empty. `rows` are the logits after each,
    /// `[tracks, vocab]`, which are written to; `end` is the token that ends a text. None: all have come to an end.
    pub(super) fn grow(
        &mut self,
        tracks: &[Track],
        rows: &mut [f32],
        rules: &Rules,
        end: u32,
    ) -> Result<Vec<Grown>, CoreError> {
        let vocab = rows.len() / tracks.len().max(1);
        let rows = tracks.iter().zip(rows.chunks_exact_mut(vocab.max(1))).enumerate();
        match self {
            Search::Beam(beam) => beam.grow(rows, rules, end),
            Search::Draw(draw) => draw.grow(rows, rules, end),
        }
    }

    /// Whether enough texts are finished.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Search::Beam(beam) => beam.finished.len() >= beam.max_candidates,
            Search::Draw(draw) => draw.finished.len() >= draw.count,
        }
    }

    /// The best text, `tracks` being those that did not come to an end.
    pub(super) fn finish(self, mut tracks: Vec<Track>, length_penalty: Option<f32>) -> Track {
        let (mut finished, wanted) = match self {
            Search::Beam(beam) => (beam.finished, beam.size),
            Search::Draw(draw) => (draw.finished, draw.count),
        };
        tracks.sort_by(|a, b| descending(a.sum, b.sum));
        let missing = wanted.saturating_sub(finished.len());
        finished.extend(tracks.into_iter().take(missing));
        let score = |track: &Track| {
            let length = track.tokens.len() as f32;
            track.sum / length_penalty.map_or(length.max(1.0), |p| ((5.0 + length) / 6.0).powf(p))
        };
        let best = finished.iter().enumerate().min_by(|(_, a), (_, b)| descending(score(a), score(b)));
        let best = best.map_or(0, |(i, _)| i);
        if finished.is_empty() { Track::default() } else { finished.swap_remove(best) }
    }
}

fn descending(a: f32, b: f32) -> Ordering {
    b.total_cmp(&a)
}

/// Beam search (openai/whisper, `BeamSearchDecoder`); with one beam it is greedy.
#[derive(Debug)]
pub(super) struct Beam {
    size: usize,
    /// Finished texts at which the search ends.
    max_candidates: usize,
    finished: Vec<Track>,
    /// Scratch.
    best: Vec<(f32, u32)>,
}

impl Beam {
    fn new(size: usize, max_candidates: usize) -> Beam {
        Beam { size, max_candidates, finished: Vec::new(), best: Vec::new() }
    }

    fn grow<'a>(
        &mut self,
        rows: impl Iterator<Item = (usize, (&'a Track, &'a mut [f32]))>,
        rules: &Rules,
        end: u32,
    ) -> Result<Vec<Grown>, CoreError> {
        let mut candidates: Vec<(f32, usize, &Track, u32)> = Vec::with_capacity(self.size * (self.size + 1));
        for (parent, (track, row)) in rows {
            let max = rules.apply(row, &track.tokens)?;
            let norm = log_sum_exp(row, max);
            // One more than there are beams: one of them may be the end.
            largest(row, self.size + 1, &mut self.best);
            candidates.extend(self.best.iter().map(|&(logit, id)| (track.sum + (logit - norm), parent, track, id)));
        }
        candidates.sort_by(|a, b| descending(a.0, b.0));
        let mut grown = Vec::with_capacity(self.size);
        for (sum, parent, track, id) in candidates {
            let mut tokens = track.tokens.clone();
            if id == end {
                if self.finished.len() < self.max_candidates {
                    self.finished.push(Track { tokens, sum });
                }
                continue;
            }
            tokens.push(id);
            grown.push(Grown { parent, track: Track { tokens, sum } });
            // What ends, but is less probable than all beams, does not count.
            if grown.len() == self.size {
                break;
            }
        }
        Ok(grown)
    }
}

/// Independent draws at a temperature.
#[derive(Debug)]
pub(super) struct Draw {
    count: usize,
    sampler: Sampler,
    finished: Vec<Track>,
    scratch: Vec<f32>,
}

impl Draw {
    fn new(count: usize, temperature: f32, seed: u64) -> Result<Draw, CoreError> {
        let options = SamplerOptions { temperature, seed: Some(seed), ..SamplerOptions::default() };
        Ok(Draw { count, sampler: Sampler::new(options)?, finished: Vec::new(), scratch: Vec::new() })
    }

    fn grow<'a>(
        &mut self,
        rows: impl Iterator<Item = (usize, (&'a Track, &'a mut [f32]))>,
        rules: &Rules,
        end: u32,
    ) -> Result<Vec<Grown>, CoreError> {
        let mut grown = Vec::with_capacity(self.count);
        for (parent, (track, row)) in rows {
            let max = rules.apply(row, &track.tokens)?;
            let norm = log_sum_exp(row, max);
            // All draws begin at the same place.
            let draws = if track.tokens.is_empty() { self.count } else { 1 };
            for _ in 0..draws {
                self.scratch.clear();
                self.scratch.extend_from_slice(row);
                let id = self.sampler.sample(&mut self.scratch, &[])?;
                // Probabilities are those of the model, whatever the temperature.
                let sum = track.sum + (row[id as usize] - norm);
                let mut tokens = track.tokens.clone();
                if id == end {
                    self.finished.push(Track { tokens, sum });
                } else {
                    tokens.push(id);
                    grown.push(Grown { parent, track: Track { tokens, sum } });
                }
            }
        }
        Ok(grown)
    }
}

/// The `n` largest logits and their ids, largest first, of equals the lowest id first. Those of minus infinity are left out.
fn largest(row: &[f32], n: usize, out: &mut Vec<(f32, u32)>) {
    /// Logits that are looked at together, which vector code does: hardly any is among the largest.
    const GROUP: usize = 32;
    out.clear();
    let mut floor = f32::NEG_INFINITY;
    for (group, first) in row.chunks(GROUP).zip((0u32..).step_by(GROUP)) {
        if !group.iter().fold(false, |above, &logit| above | (logit > floor)) {
            continue;
        }
        for (id, &logit) in (first..).zip(group) {
            if logit > floor {
                let at = out.partition_point(|&(other, _)| other >= logit);
                out.insert(at, (logit, id));
                if out.len() > n {
                    out.pop();
                }
                if out.len() == n {
                    floor = out[n - 1].0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_in_order() {
        let mut out = Vec::new();
        let row = [1.0, 3.0, f32::NEG_INFINITY, 3.0, 2.0, -1.0];
        largest(&row, 3, &mut out);
        assert_eq!(out, [(3.0, 1), (3.0, 3), (2.0, 4)]);
        largest(&row, 9, &mut out);
        assert_eq!(out.len(), 5, "what is forbidden is left out");
        largest(&[], 3, &mut out);
        assert!(out.is_empty());
        let row: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32).collect();
        largest(&row, 2, &mut out);
        assert_eq!(
            out.iter().map(|&(logit, id)| (logit, row[id as usize])).collect::<Vec<_>>(),
            [(999.0, 999.0), (998.0, 998.0)]
        );
    }

    #[test]
    fn the_longer_of_equally_probable_tokens_wins() {
        let finished = vec![
            Track { tokens: vec![1], sum: -1.0 },
            Track { tokens: vec![1, 2, 3], sum: -1.5 },
            Track { tokens: vec![], sum: -0.9 },
        ];
        let beam = |finished: &[Track]| Search::Beam(Beam { finished: finished.to_vec(), ..Beam::new(3, 3) });
        assert_eq!(beam(&finished).finish(Vec::new(), None).tokens, [1, 2, 3]);
        // A penalty of 0 is none: the most probable text wins.
        assert_eq!(beam(&finished).finish(Vec::new(), Some(0.0)).tokens, [0u32; 0]);
        // Unfinished texts fill up what is missing, the best of them first.
        let tracks = vec![Track { tokens: vec![7], sum: -3.0 }, Track { tokens: vec![8], sum: -0.1 }];
        assert_eq!(beam(&finished[..2]).finish(tracks, None).tokens, [8]);
    }
}
