//! Texts become segments, segments ragged batches, and their outputs vectors, in order.

use rlx_core::CoreError;
use rlx_core::encoder::{Encoder, Pooling, TokenBatch, l2_normalise, names, pool};

use crate::EmbedError;

/// Memory of the encoder and of the batch being filled; kept between calls.
pub(crate) struct Worker {
    pub(crate) encoder: Encoder,
    tokens: Vec<i32>,
    lens: Vec<usize>,
    segments: Vec<Segment>,
    hidden: Vec<f32>,
    pooled: Vec<f32>,
    /// Weighted sum of the pieces of the present text so far, and the sum of weights.
    sum: Vec<f32>,
    weight: f32,
}

/// A text, or a piece of one.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    /// Tokens `skip.0..skip.1` are not pooled.
    pub(crate) skip: (usize, usize),
    /// Whether it is a text's first piece.
    pub(crate) first: bool,
    /// Whether it is a text's last piece.
    pub(crate) last: bool,
}

/// What becomes of a pooled vector.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    pub(crate) pooling: Pooling,
    pub(crate) normalize: bool,
    /// Dims that are kept.
    pub(crate) dims: usize,
    /// Layer norm before dims are cut off, as Nomic's model card has it.
    pub(crate) layer_norm: bool,
}

/// Fewest tokens of a batch.
const FEWEST_ROWS: usize = 3;

/// Epsilon of `torch.nn.functional.layer_norm`.
const LAYER_NORM_EPS: f32 = 1e-5;

impl Worker {
    pub(crate) fn new(encoder: Encoder) -> Worker {
        Worker {
            encoder,
            tokens: vec![],
            lens: vec![],
            segments: vec![],
            hidden: vec![],
            pooled: vec![],
            sum: vec![],
            weight: 0.0,
        }
    }

    /// Forgets what an earlier call left when it failed.
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.lens.clear();
        self.segments.clear();
        self.weight = 0.0;
    }

    /// Tokens that wait to be run.
    pub(crate) fn waiting(&self) -> usize {
        self.tokens.len()
    }

    /// Adds a segment; `fill` appends its tokens.
    pub(crate) fn push(&mut self, segment: Segment, fill: impl FnOnce(&mut Vec<i32>)) {
        let before = self.tokens.len();
        fill(&mut self.tokens);
        self.lens.push(self.tokens.len() - before);
        self.segments.push(segment);
    }

    /// Runs what waits and gives `sink` the vector of every text that is complete, in order.
    pub(crate) fn flush<E: From<EmbedError>>(
        &mut self,
        finish: Finish,
        sink: &mut impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        // Kernels sum one or two rows in another order than more; repeated, a lone text gets the vector that it has among others.
        while self.tokens.len() < FEWEST_ROWS {
            self.tokens.extend_from_within(..self.lens[0]);
            self.lens.push(self.lens[0]);
        }
        let batch = TokenBatch { tokens: &self.tokens, token_types: None, positions: None, lens: &self.lens };
        let failed = |error: CoreError| E::from(EmbedError::from(error));
        self.encoder.run(&batch).map_err(failed)?;
        self.encoder.read(names::LAST_HIDDEN_STATE, &mut self.hidden).map_err(failed)?;
        let width = self.encoder.hidden_size();
        self.pooled.resize(width, 0.0);
        let mut rows = &self.hidden[..];
        for (segment, &len) in self.segments.iter().zip(&self.lens) {
            let (own, rest) = rows.split_at(len * width);
            rows = rest;
            pool_segment(finish.pooling, own, width, segment.skip, &mut self.pooled);
            if !(segment.first && segment.last) {
                if segment.first {
                    self.sum.clear();
                    self.sum.resize(width, 0.0);
                    self.weight = 0.0;
                }
                let weight = len as f32;
                self.weight += weight;
                self.sum.iter_mut().zip(&self.pooled).for_each(|(sum, x)| *sum += weight * x);
                if !segment.last {
                    continue;
                }
                let total = self.weight;
                self.pooled.iter_mut().zip(&self.sum).for_each(|(x, sum)| *x = sum / total);
            }
            sink(finish.apply(&mut self.pooled))?;
        }
        self.clear();
        Ok(())
    }
}

/// Pools the rows of a segment but those of `skip`. If nothing else is there, all of them.
fn pool_segment(pooling: Pooling, rows: &[f32], width: usize, skip: (usize, usize), out: &mut [f32]) {
    let (from, to) = (skip.0 * width, skip.1 * width);
    if from == to || to - from >= rows.len() || to > rows.len() {
        pool(pooling, rows, out);
    } else {
        let kept = [&rows[..from], &rows[to..]].concat();
        pool(pooling, &kept, out);
    }
}

impl Finish {
    fn apply<'v>(&self, vector: &'v mut [f32]) -> &'v [f32] {
        if self.layer_norm && self.dims < vector.len() {
            layer_norm(vector);
        }
        let vector = &mut vector[..self.dims];
        if self.normalize {
            l2_normalise(vector);
        }
        vector
    }
}

/// Layer norm without parameters.
fn layer_norm(vector: &mut [f32]) {
    let count = vector.len() as f32;
    let mean = vector.iter().sum::<f32>() / count;
    let variance = vector.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
    let scale = 1.0 / (variance + LAYER_NORM_EPS).sqrt();
    vector.iter_mut().for_each(|x| *x = (*x - mean) * scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dims_are_cut_after_the_layer_norm() {
        let finish = Finish { pooling: Pooling::Mean, normalize: false, dims: 2, layer_norm: true };
        let mut vector = [1.0, 3.0, 1.0, 3.0];
        assert!(finish.apply(&mut vector).iter().zip([-1.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-4));
        // A whole vector is left as it is.
        let whole = Finish { dims: 4, ..finish };
        assert_eq!(whole.apply(&mut [1.0, 3.0, 1.0, 3.0]), [1.0, 3.0, 1.0, 3.0]);
        let cut = Finish { layer_norm: false, normalize: true, ..finish };
        assert_eq!(cut.apply(&mut [3.0, 4.0, 9.0, 9.0]), [0.6, 0.8]);
    }

    #[test]
    fn a_prompt_that_is_not_pooled_leaves_the_rest() {
        let rows = [1.0, 10.0, 20.0, 5.0];
        let pooled = |skip| {
            let mut out = [0.0];
            pool_segment(Pooling::Mean, &rows, 1, skip, &mut out);
            out[0]
        };
        assert_eq!(pooled((0, 0)), 9.0);
        assert_eq!(pooled((1, 3)), 3.0);
        assert_eq!(pooled((0, 4)), 9.0);
    }
}
