//! What is added to scores before the softmax: by the distance of key and query (Shaw et al. 2018; Dai et al. 2019), and by key.
//!
//! The scores of a tile of queries with the rows of the distance table are a product like those with keys. A tile of keys is at
//! most as many distances from a tile of queries as both have rows, and where distances are clamped often at a single one.

use std::f32::consts::LOG2_E;

use super::many::{Left, product};
use super::plan::{TILE_ROWS, TILE_TOKENS};
use super::run::Tile;
use crate::RowsIn;
use crate::math::simd::Simd;

/// Added to the scores of a query and a key.
#[derive(Clone, Copy, Default)]
pub struct ScoreBias<'a> {
    /// By their distance.
    pub distance: Option<DistanceBias<'a>>,
    /// `[T]`, added to all scores of a key; minus infinity hides it.
    pub key: Option<&'a [f32]>,
}

impl ScoreBias<'_> {
    /// Whether anything is added.
    pub(super) fn is_some(&self) -> bool {
        self.distance.is_some() || self.key.is_some()
    }
}

/// Queries score as `scale * ((q + content) · k + (q + position) · table[clamp(distance, first, last)])`, where the distance of
/// key `j` from query `i` is `j - i`.
#[derive(Clone, Copy)]
pub struct DistanceBias<'a> {
    /// A row per distance, in ascending order: `[rows, head_dim]` for all heads, or `[rows, heads * head_dim]`.
    pub table: RowsIn<'a>,
    /// Distances in the table, at least one.
    pub rows: usize,
    /// The row of distance 0.
    pub zero: usize,
    /// Whether each head has its own columns of the table.
    pub by_head: bool,
    /// `[heads * head_dim]`; none is zero.
    pub content: Option<&'a [f32]>,
    /// `[heads * head_dim]`; none is zero.
    pub position: Option<&'a [f32]>,
}

impl DistanceBias<'_> {
    /// The row of the table for a key at `key` and a query at `query`.
    #[inline]
    fn row(&self, key: usize, query: usize) -> usize {
        (key + self.zero).saturating_sub(query).min(self.rows - 1)
    }
}

/// f32 that a thread needs for tiles of `rows` queries, a multiple of 16.
pub(super) fn work_floats(rows: usize, k_pad: usize) -> usize {
    rows * (k_pad + TILE_TOKENS + TILE_ROWS)
}

/// The parts of a thread's working memory.
pub(super) struct Memory<'m> {
    /// Queries for the table, transposed: `[k_pad, columns]`.
    q: &'m mut [f32],
    /// Scores with rows of the table: `[TILE_TOKENS + TILE_ROWS, columns]`.
    scores: &'m mut [f32],
}

/// Prepares a tile whose queries are `q`, transposed: `[k_pad, columns]`, as they are for keys.
#[inline(always)]
pub(super) fn prepare<'m>(tile: &Tile<'_>, q: &mut [f32], columns: usize, work: &'m mut [f32]) -> Option<Memory<'m>> {
    let distance = tile.args.bias.distance?;
    let (for_table, scores) = work[..work_floats(columns, tile.k_pad)].split_at_mut(tile.k_pad * columns);
    for_table.copy_from_slice(q);
    let head_dim = tile.args.head_dim;
    for (bias, q) in [(distance.position, &mut *for_table), (distance.content, q)] {
        let Some(bias) = bias else { continue };
        let bias = &bias[tile.item.kv_head * head_dim..][..head_dim];
        for (row, b) in q.chunks_exact_mut(columns).zip(bias) {
            row.iter_mut().for_each(|x| *x += b * tile.factor);
        }
    }
    Some(Memory { q: for_table, scores })
}

/// Adds to the scores `[n, columns]` of the tile's queries with tokens `start..start + n`.
#[inline(always)]
pub(super) fn add<V: Simd>(
    tile: &Tile<'_>,
    memory: Option<&mut Memory<'_>>,
    scores: &mut [f32],
    start: usize,
    n: usize,
    columns: usize,
) {
    let bias = &tile.args.bias;
    if let (Some(distance), Some(memory)) = (&bias.distance, memory) {
        add_distances::<V>(tile, distance, memory, scores, start, n, columns);
    }
    if let Some(key) = bias.key {
        let keys = &key[tile.item.span.start + start..][..n];
        for (row, &b) in scores.chunks_exact_mut(columns).zip(keys) {
            row.iter_mut().for_each(|x| *x += b * LOG2_E);
        }
    }
}

#[inline(always)]
fn add_distances<V: Simd>(
    tile: &Tile<'_>,
    distance: &DistanceBias<'_>,
    memory: &mut Memory<'_>,
    scores: &mut [f32],
    start: usize,
    n: usize,
    columns: usize,
) {
    let (queries, rows, head_dim) = (tile.item.first_row, tile.item.rows, tile.args.head_dim);
    let first = distance.row(start, queries + rows - 1);
    let count = distance.row(start + n - 1, queries) - first + 1;
    let column = if distance.by_head { tile.item.kv_head * head_dim } else { 0 };
    let stride = distance.table.stride;
    let table = &distance.table.data[first * stride + column..][..(count - 1) * stride + head_dim];
    assert!(memory.q.len() >= head_dim * columns && memory.scores.len() >= count * columns);
    // SAFETY: `count` rows of head_dim table elements, head_dim rows of `columns` queries, `count` rows of `columns` scores.
    unsafe {
        let left = Left { start: table.as_ptr(), row: stride, column: 1, rows: count };
        product::<V>(left, head_dim, memory.q.as_ptr(), memory.scores.as_mut_ptr(), columns, false);
    }
    for (t, scores) in scores.chunks_exact_mut(columns).take(n).enumerate() {
        // Later queries are further left of the key. Between the ends of the table each is one row further.
        let row_of = |r: usize| distance.row(start + t, queries + r) - first;
        let ahead = (start + t + distance.zero).saturating_sub(queries);
        // Queries 0..near are beyond the last distance, those from far on at or before the first.
        let near = (ahead + 1).saturating_sub(distance.rows).min(rows);
        let far = ahead.min(rows);
        if near > 0 {
            let row = &memory.scores[row_of(0) * columns..];
            scores[..near].iter_mut().zip(row).for_each(|(x, y)| *x += y);
        }
        for (r, x) in scores[..far].iter_mut().enumerate().skip(near) {
            *x += memory.scores[row_of(r) * columns + r];
        }
        if far < rows {
            let row = &memory.scores[row_of(far) * columns..][..rows];
            scores[far..rows].iter_mut().zip(&row[far..]).for_each(|(x, y)| *x += y);
        }
    }
}
