//! Attention of many query rows on the AMX unit: keys, queries, weights and values rounded to bf16, products summed in f32.
//!
//! Both products are of 16 x 16 tiles with 32 terms a step. The left side is kept as tiles `[16 rows][32]`, the right side as
//! tiles of pairs `[16 pairs][16 columns][2]`; consecutive steps are consecutive tiles of 1 KB. Scores come out key by key,
//! `[tokens, rows]`, so that maxima, sums and masks are lane by lane; the weights are turned on their way to bf16, so that the
//! outputs are row by row.

use std::arch::asm;
use std::arch::x86_64::*;
use std::f32::consts::LOG2_E;

use super::kv::{F16Element, F32Element, KvDType, KvElement, Q8Element, Which};
use super::plan::TILE_TOKENS;
use super::run::{LOWEST, Tile};
use crate::math::functions::{polynomial, soft_cap};
use crate::math::simd::{Avx512, Simd};

/// Query rows at most: products are so fast that unpacking keys and values must be shared by many.
pub(super) const TILE_ROWS: usize = 128;
/// bf16 values of a tile.
const TILE: usize = 512;
/// Terms of one step.
const STEP: usize = 32;
/// Score of what a row does not see: so far below `LOWEST` that its weight is 0 even where nothing else was seen.
const HIDDEN: f32 = 2.0 * LOWEST;

/// Whether this processor can: AMX and the conversions to bf16.
pub(super) fn available() -> bool {
    crate::Isa::Amx.is_available() && is_x86_feature_detected!("avx512bf16")
}

/// f32 of working memory for `columns` (a multiple of 16) query rows.
pub(super) fn work_floats(columns: usize, k_pad: usize, v_pad: usize) -> usize {
    let steps = k_pad.next_multiple_of(STEP);
    // Queries, keys, values and weights in bf16; scores, limits and factors in f32; one tile to turn.
    (columns * steps + TILE_TOKENS * (steps + v_pad) + columns * TILE_TOKENS) / 2
        + TILE_TOKENS * columns
        + 3 * columns
        + TILE / 2
}

/// Takes the tile through its context. Outputs are not yet divided by their sums.
///
/// # Panics
/// If the processor cannot; see [`available`].
pub(super) fn many(tile: &mut Tile<'_>) {
    assert!(available());
    // SAFETY: the features are there, and so the process may use the tiles.
    unsafe { many_of_type(tile) }
}

#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn many_of_type(tile: &mut Tile<'_>) {
    let _tiles = Tiles::configure();
    match tile.source.layout().dtype {
        KvDType::F32 => run::<F32Element>(tile),
        KvDType::F16 => run::<F16Element>(tile),
        KvDType::Q8 => run::<Q8Element>(tile),
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
}

#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn run<E: KvElement>(tile: &mut Tile<'_>) {
    let rows = tile.item.rows;
    let columns = rows.next_multiple_of(16);
    let (k_pad, v_pad) = (tile.k_pad, tile.v_pad);
    let k_steps = k_pad.div_ceil(STEP);
    let work = std::mem::take(&mut tile.work);
    let (scores, rest) = work.split_at_mut(TILE_TOKENS * columns);
    let (first, rest) = rest.split_at_mut(columns);
    let (last, rest) = rest.split_at_mut(columns);
    let (alpha, rest) = rest.split_at_mut(columns);
    let rest: &mut [u32] = bytemuck::cast_slice_mut(rest);
    let (q, rest) = rest.split_at_mut(columns * k_steps * STEP / 2);
    let (keys, rest) = rest.split_at_mut(TILE_TOKENS * k_steps * STEP / 2);
    let (values, rest) = rest.split_at_mut(TILE_TOKENS * v_pad / 2);
    let (weights, rest) = rest.split_at_mut(columns * TILE_TOKENS / 2);
    let turn = &mut rest[..TILE / 2];
    let mut memory = Memory { q, keys, values, weights, turn, scores, first, last, alpha };

    tile.q[rows * k_pad..columns * k_pad].fill(0.0);
    tile.o[..columns * v_pad].fill(0.0);
    tile.max.fill(LOWEST);
    tile.sum.fill(0.0);
    pack_queries(tile, &mut memory, columns, k_steps);

    let mut start = tile.context.start;
    while start < tile.context.end {
        let n = TILE_TOKENS.min(tile.context.end - start);
        pack_keys::<E>(tile, &mut memory, start, n, k_steps);
        // SAFETY: tiles of n (rounded up) keys and of all queries, with k_steps each; scores of as many rows and columns.
        unsafe {
            product(
                (memory.keys.as_ptr(), n.div_ceil(16)),
                (memory.q.as_ptr(), columns / 16),
                k_steps,
                k_steps,
                memory.scores.as_mut_ptr(),
                columns,
                false,
            );
        }
        softmax(tile, &mut memory, start, n, columns);
        pack_values::<E>(tile, &mut memory, start, n);
        // SAFETY: tiles of all weights and values, of which the first n (rounded up) tokens count; outputs of as many rows
        // and columns.
        unsafe {
            product(
                (memory.weights.as_ptr(), columns / 16),
                (memory.values.as_ptr(), v_pad / 16),
                n.div_ceil(STEP),
                TILE_TOKENS / STEP,
                tile.o.as_mut_ptr(),
                v_pad,
                true,
            );
        }
        start += n;
    }
}

/// Addresses of rows, found once for several passes.
struct RowPointers {
    rows: [*const u8; TILE_TOKENS],
    scales: [*const f32; TILE_TOKENS],
}

impl RowPointers {
    /// Keys or values of the tile's head, `n <= TILE_TOKENS` tokens from `start` on.
    fn new(tile: &Tile<'_>, which: Which, start: usize, n: usize) -> RowPointers {
        let mut found = RowPointers { rows: [std::ptr::null(); TILE_TOKENS], scales: [std::ptr::null(); TILE_TOKENS] };
        let mut done = 0;
        while done < n {
            let (rows, run) = tile.source.rows(tile.item.span, which, tile.item.kv_head, start + done);
            for i in 0..run.min(n - done) {
                found.rows[done + i] = rows.row(i);
                found.scales[done + i] = rows.row_scales(i);
            }
            done += run.min(n - done);
        }
        found
    }
}

/// `low` and `high` rounded to bf16, low before high.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn join(low: Avx512, high: Avx512) -> __m512i {
    // SAFETY: both are 64 bytes of plain data.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high.0, low.0)) }
}

/// `low` and `high` rounded to bf16, in pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pairs(low: Avx512, high: Avx512) -> __m512i {
    let mut order = [0u16; 32];
    for i in 0..32 {
        order[i] = (i / 2 + i % 2 * 16) as u16;
    }
    // SAFETY: both are 64 bytes of plain data.
    let order: __m512i = unsafe { std::mem::transmute(order) };
    _mm512_permutexvar_epi16(order, join(low, high))
}

#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pack_queries(tile: &Tile<'_>, memory: &mut Memory<'_>, columns: usize, k_steps: usize) {
    for (index, dst) in memory.q.chunks_exact_mut(TILE / 2).enumerate() {
        let (block, step) = (index / k_steps, index % k_steps);
        for (row, turn) in memory.turn.chunks_exact_mut(16).enumerate() {
            let x = &tile.q[(block * 16 + row) * tile.k_pad..][..tile.k_pad][step * STEP..];
            // SAFETY: a row's rest has 16 or at least 32 elements; turn has 16.
            unsafe {
                let low = Avx512::load(x.as_ptr());
                let high = if x.len() >= STEP { Avx512::load(x.as_ptr().add(16)) } else { Avx512::zero() };
                _mm512_storeu_si512(turn.as_mut_ptr().cast(), join(low, high));
            }
        }
        // SAFETY: both hold 16 rows of 16 words.
        unsafe { Avx512::transpose(memory.turn.as_ptr().cast(), 16, dst.as_mut_ptr().cast(), 16) }
    }
    debug_assert_eq!(memory.q.len(), columns * k_steps * STEP / 2);
}

#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pack_keys<E: KvElement>(tile: &Tile<'_>, memory: &mut Memory<'_>, start: usize, n: usize, k_steps: usize) {
    let k_pad = tile.k_pad;
    let keys = RowPointers::new(tile, Which::Key, start, n);
    let values = RowPointers::new(tile, Which::Value, start, n);
    for token in 0..n {
        let (row, scales) = (keys.rows[token], keys.scales[token]);
        let dst = &mut memory.keys[token / 16 * k_steps * (TILE / 2) + token % 16 * 16..];
        for step in 0..k_steps {
            let dst = &mut dst[step * (TILE / 2)..][..16];
            // SAFETY: the row has k_pad elements, a multiple of 16; dst has 16 words.
            unsafe {
                let at = step * STEP;
                let low = E::load::<Avx512>(row, scales, at);
                let high = if at + 16 < k_pad { E::load(row, scales, at + 16) } else { Avx512::zero() };
                _mm512_storeu_si512(dst.as_mut_ptr().cast(), join(low, high));
            }
            // The values are wanted next; a step of them is a line of f16.
            Avx512::prefetch(values.rows[token].wrapping_add(step * 64));
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pack_values<E: KvElement>(tile: &Tile<'_>, memory: &mut Memory<'_>, start: usize, n: usize) {
    let blocks = tile.v_pad / 16;
    let values = RowPointers::new(tile, Which::Value, start, n);
    let next = start + n;
    let ahead = RowPointers::new(tile, Which::Key, next, TILE_TOKENS.min(tile.context.end - next));
    let k_lines = (tile.k_pad * tile.source.layout().dtype.element_bytes()).div_ceil(64);
    for pair in 0..n.next_multiple_of(STEP) / 2 {
        let row = |t: usize| (t < n).then(|| (values.rows[t], values.scales[t]));
        let (low, high) = (row(2 * pair), row(2 * pair + 1));
        // The next tile's keys are wanted next.
        for row in [2 * pair, 2 * pair + 1] {
            let next = &ahead.rows[row];
            (0..if next.is_null() { 0 } else { k_lines })
                .for_each(|line| Avx512::prefetch(next.wrapping_add(line * 64)));
        }
        let at = (pair / 16) * (TILE / 2) + pair % 16 * 16;
        for block in 0..blocks {
            let dst = &mut memory.values[block * TILE_TOKENS / STEP * (TILE / 2) + at..][..16];
            // SAFETY: the rows have v_pad elements, a multiple of 16; dst has 16 words.
            unsafe {
                let low = low.map_or(Avx512::zero(), |(row, scales)| E::load(row, scales, block * 16));
                let high = high.map_or(Avx512::zero(), |(row, scales)| E::load(row, scales, block * 16));
                _mm512_storeu_si512(dst.as_mut_ptr().cast(), pairs(low, high));
            }
        }
    }
}

/// `2^x` for `x <= 0`, exact at 0, to 5e-6: far closer than the bf16 it becomes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn exp2_coarse(x: Avx512) -> Avx512 {
    let n = x.round();
    let r = x - n;
    polynomial(r, [0.693_124_1, 0.240_241_05, 0.055_907_212, 0.009_582_777]).fma(r, Avx512::splat(1.0)).scale2(n)
}

/// Scores of `n` tokens from `start` become weights, as left-hand tiles; maxima, sums and outputs follow.
#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn softmax(tile: &mut Tile<'_>, memory: &mut Memory<'_>, start: usize, n: usize, columns: usize) {
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
            let mut totals = [Avx512::zero(); 2];
            for step in 0..n.div_ceil(STEP) {
                for pair in 0..16 {
                    let t = step * STEP + 2 * pair;
                    let mut weight = [Avx512::zero(); 2];
                    for i in 0..2 {
                        if t + i < n {
                            weight[i] = exp2_coarse(Avx512::load(column.add((t + i) * columns)) - largest);
                            totals[i] = totals[i] + weight[i];
                        }
                    }
                    let turn = memory.turn.as_mut_ptr().add(pair * 16);
                    _mm512_storeu_si512(turn.cast(), pairs(weight[0], weight[1]));
                }
                let dst = memory.weights[(j / 16 * (TILE_TOKENS / STEP) + step) * (TILE / 2)..].as_mut_ptr();
                Avx512::transpose(memory.turn.as_ptr().cast(), 16, dst.cast(), 16);
            }
            let total = totals[0] + totals[1];
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
/// Tiles are configured. Both sides hold their tiles, and `out` as many rows, `stride` elements apart.
unsafe fn product(
    (left, m): (*const u32, usize),
    (right, n): (*const u32, usize),
    steps: usize,
    row_steps: usize,
    out: *mut f32,
    stride: usize,
    accumulate: bool,
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
                square(left, right, steps, [at(i, j), at(i, j1), at(i1, j), at(i1, j1)], stride, accumulate);
            }
        }
    }
}

/// Four tiles of a product.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn square(
    left: [*const u32; 2],
    right: [*const u32; 2],
    steps: usize,
    out: [*mut f32; 4],
    stride: usize,
    accumulate: bool,
) {
    macro_rules! square {
        ($($first:literal),*) => {
            asm!(
                $($first,)*
                "2:",
                "tileloadd tmm4, [{a0} + {stride}*1]",
                "tileloadd tmm6, [{b0} + {stride}*1]",
                "tileloadd tmm7, [{b1} + {stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a1} + {stride}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 1024",
                "add {a1}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{o0} + {out_stride}*1], tmm0",
                "tilestored [{o1} + {out_stride}*1], tmm1",
                "tilestored [{o2} + {out_stride}*1], tmm2",
                "tilestored [{o3} + {out_stride}*1], tmm3",
                a0 = inout(reg) left[0] => _,
                a1 = inout(reg) left[1] => _,
                b0 = inout(reg) right[0] => _,
                b1 = inout(reg) right[1] => _,
                steps = inout(reg) steps => _,
                stride = in(reg) 64usize,
                o0 = in(reg) out[0],
                o1 = in(reg) out[1],
                o2 = in(reg) out[2],
                o3 = in(reg) out[3],
                out_stride = in(reg) stride * size_of::<f32>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }
    // SAFETY: the caller's promises; the tile registers are named as clobbered.
    unsafe {
        if accumulate {
            square!(
                "tileloadd tmm0, [{o0} + {out_stride}*1]",
                "tileloadd tmm1, [{o1} + {out_stride}*1]",
                "tileloadd tmm2, [{o2} + {out_stride}*1]",
                "tileloadd tmm3, [{o3} + {out_stride}*1]"
            );
        } else {
            square!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3");
        }
    }
}

/// The tile configuration of this thread; released when dropped.
struct Tiles(());

#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// Sets all eight tiles up as 16 rows of 64 bytes. Only where [`available`] says so.
    fn configure() -> Tiles {
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.row_bytes[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: the configuration is valid for palette 1, and the caller checked that there are tiles. The assembly may read
        // memory, so the stores above happen first.
        unsafe { asm!("ldtilecfg [{config}]", config = in(reg) &config, options(nostack, readonly)) };
        Tiles(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the value exists only where tiles were configured.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
