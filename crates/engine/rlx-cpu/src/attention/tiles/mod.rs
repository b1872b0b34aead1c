//! Attention of many query rows in numbers of 16 bits: queries, keys, weights and values rounded to them, products summed in 32
//! bits.
//!
//! | unit | numbers | rounds to |
//! |---|---|---|
//! | AMX | bf16 | 8 bits |
//! | `vpdpwssd` | integers, scaled by row or channel | 12 to 15 bits |
//!
//! Both products are of 16 x 16 tiles with 32 terms a step. The left side is kept as tiles `[16 rows][32]`, the right side as
//! tiles of pairs `[16 pairs][16 columns][2]`; consecutive steps are consecutive tiles of 1 KB. Scores come out key by key,
//! `[tokens, rows]`, so that maxima, sums and masks are lane by lane; the weights are turned on their way to 16 bits, so that the
//! outputs are row by row.

mod amx;
mod fixed;
mod form;
mod pack;

use std::arch::x86_64::*;
use std::f32::consts::LOG2_E;

use form::{Bf16, Fixed, Form};
use pack::{pack_keys, pack_queries, pack_values};

use super::kv::{F16Element, F32Element, KvDType, KvElement, Q8Element};
use super::plan::TILE_TOKENS;
use super::run::{LOWEST, Tile};
use crate::Isa;
use crate::linear::Tiles;
use crate::math::functions::{polynomial, soft_cap};
use crate::math::simd::{Avx512, Simd};

/// Query rows at most: products are so fast that unpacking keys and values must be shared by many.
pub(super) const TILE_ROWS: usize = 256;
/// Numbers of a tile.
const TILE: usize = 512;
/// Terms of one step.
const STEP: usize = 32;
/// Score of what a row does not see: so far below `LOWEST` that its weight is 0 even where nothing else was seen.
const HIDDEN: f32 = 2.0 * LOWEST;

/// What multiplies the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// The AMX unit, in bf16.
    Amx,
    /// `vpdpwssd`, in fixed point.
    Fixed,
}

impl Unit {
    /// The fastest unit that kernels of this level may use. Only where `coarse` may numbers be rounded to bf16's 8 bits.
    pub(super) fn of(isa: Isa, coarse: bool) -> Option<Unit> {
        match isa {
            Isa::Amx if coarse && Unit::Amx.is_available() => Some(Unit::Amx),
            // Twice the products of an f32 FMA, at the same rate on AMD's processors and on Intel's.
            Isa::Avx512 | Isa::Amx => Some(Unit::Fixed),
            _ => None,
        }
    }

    /// Whether this machine has it.
    fn is_available(self) -> bool {
        match self {
            Unit::Amx => Isa::Amx.is_available() && is_x86_feature_detected!("avx512bf16"),
            Unit::Fixed => Isa::Avx512.is_available(),
        }
    }
}

/// What the sums of a square are multiplied by, 16 each.
#[derive(Clone, Copy)]
struct Scales {
    rows: *const f32,
    columns: *const f32,
}

/// `out (+)= left right` for two tiles of 16 rows on the left and two of 16 columns on the right, each followed by those of the
/// further `steps`: four squares, of which those of the first rows come first. Rows of `out` are `stride` apart. The same tile
/// may be there twice, and so its square. The scales are those of the first and second tile of each side; only a form that has
/// them reads them.
///
/// # Safety
/// The tiles, squares and scales are there.
type Square = unsafe fn([*const u32; 2], [*const u32; 2], usize, [*mut f32; 4], usize, bool, [Scales; 2]);

/// f32 of working memory for `columns` (a multiple of 16) query rows.
pub(super) fn work_floats(columns: usize, k_pad: usize, v_pad: usize) -> usize {
    let steps = k_pad.next_multiple_of(STEP);
    // Queries, keys, values and weights in 16 bits; scores, limits, factors and scales in f32; one tile to turn.
    (columns * steps + TILE_TOKENS * (steps + v_pad) + columns * TILE_TOKENS) / 2
        + TILE_TOKENS * columns
        + 4 * columns
        + TILE_TOKENS
        + v_pad
        + TILE / 2
}

/// Takes the tile through its context. Outputs are not yet divided by their sums.
///
/// # Panics
/// If the processor lacks the unit.
pub(super) fn many(unit: Unit, tile: &mut Tile<'_>) {
    assert!(unit.is_available());
    // SAFETY: the features are there, and with AMX so is the right to use it.
    unsafe {
        match unit {
            Unit::Amx => many_bf16(tile),
            Unit::Fixed => many_fixed(tile),
        }
    }
}

/// # Safety
/// The processor has these features and AMX, which the process may use.
#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn many_bf16(tile: &mut Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let _tiles = Tiles::configure();
        many_of::<Bf16>(tile);
    }
}

#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn many_fixed(tile: &mut Tile<'_>) {
    // SAFETY: the features of this function.
    unsafe { many_of::<Fixed>(tile) }
}

/// # Safety
/// The processor has the form's instructions.
#[inline(always)]
unsafe fn many_of<F: Form>(tile: &mut Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.source.layout().dtype {
            KvDType::F32 => run::<F, F32Element>(tile),
            KvDType::F16 => run::<F, F16Element>(tile),
            KvDType::Q8 => run::<F, Q8Element>(tile),
        }
    }
}

/// The parts of a thread's working memory.
struct Memory<'m> {
    /// Queries: right-hand tiles `[columns / 16][k steps]`.
    q: &'m mut [u32],
    /// Keys: left-hand tiles `[TILE_TOKENS / 16][k steps]`.
    keys: &'m mut [u32],
    /// Values: right-hand tiles `[v_pad / 16][TILE_TOKENS / 32]`.
    values: &'m mut [u32],
    /// Weights: left-hand tiles `[columns / 16][TILE_TOKENS / 32]`.
    weights: &'m mut [u32],
    /// One tile before it is turned.
    turn: &'m mut [u32],
    /// Scores: `[TILE_TOKENS, columns]`.
    scores: &'m mut [f32],
    /// First and one past the last visible token of each row, from the tile's first token.
    first: &'m mut [f32],
    last: &'m mut [f32],
    /// What each row's earlier sums are multiplied by.
    alpha: &'m mut [f32],
    /// What products of each query, key and channel of values are multiplied by.
    q_scales: &'m mut [f32],
    key_scales: &'m mut [f32],
    value_scales: &'m mut [f32],
}

/// # Safety
/// The processor has the form's instructions.
#[inline(always)]
unsafe fn run<F: Form, E: KvElement>(tile: &mut Tile<'_>) {
    let rows = tile.item.rows;
    let columns = rows.next_multiple_of(16);
    let (k_pad, v_pad) = (tile.k_pad, tile.v_pad);
    let k_steps = k_pad.div_ceil(STEP);
    let work = std::mem::take(&mut tile.work);
    let (scores, rest) = work.split_at_mut(TILE_TOKENS * columns);
    let (first, rest) = rest.split_at_mut(columns);
    let (last, rest) = rest.split_at_mut(columns);
    let (alpha, rest) = rest.split_at_mut(columns);
    let (q_scales, rest) = rest.split_at_mut(columns);
    let (key_scales, rest) = rest.split_at_mut(TILE_TOKENS);
    let (value_scales, rest) = rest.split_at_mut(v_pad);
    let rest: &mut [u32] = bytemuck::cast_slice_mut(rest);
    let (q, rest) = rest.split_at_mut(columns * k_steps * STEP / 2);
    let (keys, rest) = rest.split_at_mut(TILE_TOKENS * k_steps * STEP / 2);
    let (values, rest) = rest.split_at_mut(TILE_TOKENS * v_pad / 2);
    let (weights, rest) = rest.split_at_mut(columns * TILE_TOKENS / 2);
    let turn = &mut rest[..TILE / 2];
    let mut memory =
        Memory { q, keys, values, weights, turn, scores, first, last, alpha, q_scales, key_scales, value_scales };

    tile.q[rows * k_pad..columns * k_pad].fill(0.0);
    tile.o[..columns * v_pad].fill(0.0);
    tile.max.fill(LOWEST);
    tile.sum.fill(0.0);
    // SAFETY: the caller's promise, here and below.
    unsafe { pack_queries::<F>(tile, &mut memory, columns, k_steps) };

    let mut start = tile.context.start;
    while start < tile.context.end {
        let n = TILE_TOKENS.min(tile.context.end - start);
        // SAFETY: tiles of n (rounded up) keys and of all queries, with k_steps each; scores of as many rows and columns.
        unsafe {
            pack_keys::<F, E>(tile, &mut memory, start, n, k_steps);
            product(
                F::SQUARE,
                (memory.keys.as_ptr(), n.div_ceil(16)),
                (memory.q.as_ptr(), columns / 16),
                k_steps,
                k_steps,
                memory.scores.as_mut_ptr(),
                columns,
                false,
                Scales { rows: memory.key_scales.as_ptr(), columns: memory.q_scales.as_ptr() },
            );
        }
        // SAFETY: tiles of all weights and values, of which the first n (rounded up) tokens count; outputs of as many rows
        // and columns.
        unsafe {
            softmax::<F>(tile, &mut memory, start, n, columns);
            pack_values::<F, E>(tile, &mut memory, start, n);
            product(
                F::SQUARE,
                (memory.weights.as_ptr(), columns / 16),
                (memory.values.as_ptr(), v_pad / 16),
                n.div_ceil(STEP),
                TILE_TOKENS / STEP,
                tile.o.as_mut_ptr(),
                v_pad,
                true,
                Scales { rows: std::ptr::null(), columns: memory.value_scales.as_ptr() },
            );
        }
        start += n;
    }
}

/// `2^x` for `x <= 0`, exact at 0, to 5e-6: far closer than the 16 bits it becomes.
#[inline(always)]
fn exp2_coarse(x: Avx512) -> Avx512 {
    let n = x.round();
    let r = x - n;
    polynomial(r, [0.693_124_1, 0.240_241_05, 0.055_907_212, 0.009_582_777]).fma(r, Avx512::splat(1.0)).scale2(n)
}

/// Scores of `n` tokens from `start` become weights, as left-hand tiles; maxima, sums and outputs follow.
///
/// # Safety
/// The processor has the form's instructions.
#[inline(always)]
unsafe fn softmax<F: Form>(tile: &mut Tile<'_>, memory: &mut Memory<'_>, start: usize, n: usize, columns: usize) {
    let all_visible = tile.limits(start, n, &mut memory.first[..columns], &mut memory.last[..columns]);
    let (max, sum) = (&mut tile.max[..columns], &mut tile.sum[..columns]);
    let (first, last, alpha) = (&memory.first[..columns], &memory.last[..columns], &mut memory.alpha[..columns]);
    let scores = &mut memory.scores[..TILE_TOKENS * columns];
    let hidden = Avx512::splat(HIDDEN);
    for j in (0..columns).step_by(16) {
        // SAFETY: rows of scores and the vectors have `columns` elements, of which j..j + 16 are taken; turn and each tile
        // of weights hold 16 rows of 16 words.
        unsafe {
            let column = scores.as_mut_ptr().add(j);
            let mut largest = [Avx512::load(max.as_ptr().add(j)), Avx512::splat(LOWEST)];
            let before = largest[0];
            if tile.softcap.is_none() && all_visible {
                for t in 0..n {
                    largest[t % 2] = largest[t % 2].max(Avx512::load(column.add(t * columns)));
                }
            } else {
                let (first, last) = (Avx512::load(first.as_ptr().add(j)), Avx512::load(last.as_ptr().add(j)));
                for t in 0..n {
                    let p = column.add(t * columns);
                    let mut x = Avx512::load(p);
                    if let Some(cap) = tile.softcap {
                        x = soft_cap(x, Avx512::splat(cap)) * Avx512::splat(LOG2_E);
                    }
                    let t = Avx512::splat(t as f32);
                    x = Avx512::select(t.lt(last), x, hidden);
                    x = Avx512::select(t.lt(first), hidden, x);
                    x.store(p);
                    largest[0] = largest[0].max(x);
                }
            }
            let largest = largest[0].max(largest[1]);
            largest.store(max.as_mut_ptr().add(j));
            let factor = exp2_coarse(before - largest);
            factor.store(alpha.as_mut_ptr().add(j));
            let mut total = F::nothing();
            for step in 0..n.div_ceil(STEP) {
                for pair in 0..16 {
                    let t = step * STEP + 2 * pair;
                    let mut weight = [Avx512::zero(); 2];
                    for i in 0..2 {
                        if t + i < n {
                            let x = Avx512::load(column.add((t + i) * columns)) - largest;
                            weight[i] = exp2_coarse(x) * Avx512::splat(F::WEIGHT);
                        }
                    }
                    let turn = memory.turn.as_mut_ptr().add(pair * 16);
                    _mm512_storeu_si512(turn.cast(), F::weights(weight[0], weight[1], &mut total));
                }
                let dst = memory.weights[(j / 16 * (TILE_TOKENS / STEP) + step) * (TILE / 2)..].as_mut_ptr();
                Avx512::transpose(memory.turn.as_ptr().cast(), 16, dst.cast(), 16);
            }
            let total = F::sum(total);
            Avx512::load(sum.as_ptr().add(j)).fma(factor, total).store(sum.as_mut_ptr().add(j));
        }
    }
    for (row, &factor) in tile.o.chunks_exact_mut(tile.v_pad).zip(alpha.iter()) {
        if factor != 1.0 {
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// `out [16 m, 16 n] (+)= left right` for `m` left-hand rows of tiles and `n` right-hand columns of tiles. Of each, `steps` tiles
/// count and `row_steps` lie from one to the next.
///
/// # Safety
/// `square` can run here. Both sides hold their tiles, `out` as many rows, `stride` elements apart, and a form that has them its
/// scales.
#[allow(clippy::too_many_arguments)]
unsafe fn product(
    square: Square,
    (left, m): (*const u32, usize),
    (right, n): (*const u32, usize),
    steps: usize,
    row_steps: usize,
    out: *mut f32,
    stride: usize,
    accumulate: bool,
    scales: Scales,
) {
    for i in (0..m).step_by(2) {
        for j in (0..n).step_by(2) {
            // An odd one out is computed twice, and written twice with the same result.
            let (i1, j1) = ((i + 1).min(m - 1), (j + 1).min(n - 1));
            // SAFETY: all tile indices are below m and n.
            unsafe {
                let left = [i, i1].map(|i| left.add(i * row_steps * (TILE / 2)));
                let right = [j, j1].map(|j| right.add(j * row_steps * (TILE / 2)));
                let at = |i: usize, j: usize| out.add(i * 16 * stride + j * 16);
                let scales = [(i, j), (i1, j1)].map(|(i, j)| Scales {
                    rows: scales.rows.wrapping_add(i * 16),
                    columns: scales.columns.wrapping_add(j * 16),
                });
                square(left, right, steps, [at(i, j), at(i, j1), at(i1, j), at(i1, j1)], stride, accumulate, scales);
            }
        }
    }
}
