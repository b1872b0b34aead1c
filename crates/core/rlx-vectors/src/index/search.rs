//! Exact search: every vector is compared.

use std::sync::atomic::{AtomicUsize, Ordering};

use rlx_cpu::Isa;
use rlx_cpu::rows::{row_products, row_squares};

use super::VectorIndex;
use super::top::Top;
use crate::VectorsError;

/// How vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metric {
    /// The cosine of the angle; 0 where one of the vectors is zero.
    #[default]
    Cosine,
    /// The dot product.
    Dot,
}

/// A vector that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Its row.
    pub row: usize,
    /// How near it is; the nearest is the greatest.
    pub score: f32,
}

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchOptions {
    /// How many vectors to find for each query.
    pub k: usize,
    /// How vectors are compared.
    pub metric: Metric,
    /// Threads; the result does not depend on them.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: Isa,
}

impl Default for SearchOptions {
    /// The ten nearest by cosine, on one thread.
    fn default() -> Self {
        SearchOptions { k: 10, metric: Metric::Cosine, threads: 1, isa: Isa::detect() }
    }
}

/// Bytes of vectors that all queries are compared with before the next ones are read: half of a small L2 cache.
const BLOCK_BYTES: usize = 256 << 10;

/// Vectors to compare with, and the squares of their lengths.
struct Queries<'a> {
    vectors: &'a [f32],
    dims: usize,
    squares: Vec<f32>,
    metric: Metric,
    isa: Isa,
}

/// Working memory of a comparison.
#[derive(Default)]
struct Scratch {
    squares: Vec<f32>,
    scores: Vec<f32>,
}

impl<'a> Queries<'a> {
    fn new(vectors: &'a [f32], dims: usize, metric: Metric, isa: Isa) -> Result<Queries<'a>, VectorsError> {
        let isa = isa.require().map_err(|error| VectorsError::Usage(error.to_string()))?;
        if dims == 0 || !vectors.len().is_multiple_of(dims) {
            let what = format!("a query of {} numbers, but vectors of {dims} dimensions", vectors.len());
            return Err(VectorsError::Usage(what));
        }
        if !vectors.iter().all(|x| x.is_finite()) {
            return Err(VectorsError::Usage("the query is not finite".into()));
        }
        let mut squares = vec![0.0; vectors.len() / dims];
        row_squares(isa, vectors, dims, &mut squares);
        Ok(Queries { vectors, dims, squares, metric, isa })
    }

    /// The scores of each of `rows` `[R, dims]` against each query: `[R, queries]`.
    fn scores<'s>(&self, rows: &[f32], scratch: &'s mut Scratch) -> &'s [f32] {
        let count = rows.len() / self.dims;
        scratch.scores.resize(count * self.squares.len(), 0.0);
        row_products(self.isa, rows, self.vectors, self.dims, &mut scratch.scores);
        if self.metric == Metric::Cosine && !self.squares.is_empty() {
            scratch.squares.resize(count, 0.0);
            row_squares(self.isa, rows, self.dims, &mut scratch.squares);
            for (scores, square) in scratch.scores.chunks_exact_mut(self.squares.len()).zip(&scratch.squares) {
                for (score, query) in scores.iter_mut().zip(&self.squares) {
                    let lengths = square.sqrt() * query.sqrt();
                    *score = if lengths == 0.0 { 0.0 } else { *score / lengths };
                }
            }
        }
        &scratch.scores
    }
}

/// Compares all of `a` `[n, dims]` with all of `b` `[m, dims]`: `[n, m]`.
///
/// # Errors
/// If one of them is no whole number of vectors, `b` is not finite, or the instruction set is not there.
pub fn scores(a: &[f32], b: &[f32], dims: usize, metric: Metric, isa: Isa) -> Result<Vec<f32>, VectorsError> {
    let queries = Queries::new(b, dims, metric, isa)?;
    if !a.len().is_multiple_of(dims) {
        return Err(VectorsError::Usage(format!("{} numbers are no whole vectors of {dims} dimensions", a.len())));
    }
    let mut scratch = Scratch::default();
    queries.scores(a, &mut scratch);
    Ok(scratch.scores)
}

impl VectorIndex {
    /// The nearest vectors of each query (`queries` is `[n, dims]`), best first, equally near ones by row. Rows whose score is not a
    /// number are left out.
    ///
    /// # Errors
    /// If `queries` is no whole number of vectors of this index's length, or not finite; if the instruction set is not there.
    pub fn search(&self, queries: &[f32], options: &SearchOptions) -> Result<Vec<Vec<Hit>>, VectorsError> {
        let SearchOptions { k, metric, threads, isa } = *options;
        let queries = Queries::new(queries, self.dims(), metric, isa)?;
        let none = || -> Vec<Top> { queries.squares.iter().map(|_| Top::new(k)).collect() };
        let block = (BLOCK_BYTES / (self.dims() * size_of::<f32>())).max(1);
        let blocks = self.rows().div_ceil(block);
        let next = AtomicUsize::new(0);
        let worker = || {
            let (mut best, mut converted, mut scratch) = (none(), Vec::new(), Scratch::default());
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= blocks {
                    return best;
                }
                let first = at * block;
                let rows = self.block(first, block.min(self.rows() - first), &mut converted);
                let scores = queries.scores(rows, &mut scratch);
                for (i, scores) in scores.chunks_exact(best.len().max(1)).enumerate() {
                    for (best, &score) in best.iter_mut().zip(scores) {
                        best.offer(Hit { row: first + i, score });
                    }
                }
            }
        };
        let mut best = none();
        let mut merge = |found: Vec<Top>| best.iter_mut().zip(found).for_each(|(best, found)| best.merge(found));
        std::thread::scope(|scope| {
            // Where no more threads are to be had, those there are do the work.
            let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, worker).ok();
            let others: Vec<_> = (1..threads.min(blocks)).map_while(spawn).collect();
            merge(worker());
            for other in others {
                // A worker cannot panic: the blocks lie inside the data, and nothing else is indexed.
                if let Ok(found) = other.join() {
                    merge(found);
                }
            }
        });
        Ok(best.into_iter().map(Top::into_hits).collect())
    }
}
