//! Attention of many query rows, as in prefill: tiles of keys and values as f32, and products in which the lanes are query
//! rows. Scores are kept key by key, `[tokens, rows]`, so that maxima, sums and masks are lane by lane, with no shuffles; the
//! outputs are kept transposed until the end.

use std::f32::consts::LOG2_E;

use super::bias;
use super::kv::{F16Element, F32Element, KvDType, KvElement, Q8Element, Which};
use super::plan::TILE_TOKENS;
use super::run::{LOWEST, Tile};
use crate::math::functions::{exp2, soft_cap};
use crate::math::simd::{Simd, simd_dispatch};

simd_dispatch! {
    /// Takes the tile through its context. Outputs are not yet divided by their sums.
    pub(super) fn many(tile: &mut Tile<'_>) = many_v
}

/// The parts of a thread's working memory.
struct Memory<'m> {
    /// Queries, transposed: `[k_pad, columns]`.
    q: &'m mut [f32],
    /// Outputs, transposed: `[v_pad, columns]`.
    o: &'m mut [f32],
    /// Scores, then weights: `[TILE_TOKENS, columns]`.
    scores: &'m mut [f32],
    /// Keys, then values: `[TILE_TOKENS, k_pad or v_pad]`.
    tile: &'m mut [f32],
    /// First and one past the last visible token of each row, from the tile's first token.
    first: &'m mut [f32],
    last: &'m mut [f32],
}

#[inline(always)]
fn many_v<V: Simd>(tile: &mut Tile<'_>) {
    let rows = tile.item.rows;
    let columns = rows.next_multiple_of(16);
    let (k_pad, v_pad) = (tile.k_pad, tile.v_pad);
    let work = std::mem::take(&mut tile.work);
    let (q, rest) = work.split_at_mut(k_pad * columns);
    let (o, rest) = rest.split_at_mut(v_pad * columns);
    let (scores, rest) = rest.split_at_mut(TILE_TOKENS * columns);
    let (first, rest) = rest.split_at_mut(columns);
    let (last, rest) = rest.split_at_mut(columns);
    let (kv, rest) = rest.split_at_mut(TILE_TOKENS * k_pad.max(v_pad));
    let mut memory = Memory { q, o, scores, tile: kv, first, last };

    tile.q[rows * k_pad..columns * k_pad].fill(0.0);
    transpose::<V>(&tile.q[..columns * k_pad], k_pad, memory.q, columns);
    let mut biases = bias::prepare(tile, memory.q, columns, rest);
    memory.o.fill(0.0);
    tile.max.fill(LOWEST);
    tile.sum.fill(0.0);

    let mut start = tile.context.start;
    while start < tile.context.end {
        let n = TILE_TOKENS.min(tile.context.end - start);
        let (keys, stride) = rows_of::<V>(tile, Which::Key, start, n, k_pad, memory.tile);
        // SAFETY: n rows of k_pad keys, k_pad rows of `columns` queries, n rows of `columns` scores.
        unsafe {
            product::<V>(
                Left { start: keys, row: stride, column: 1, rows: n },
                k_pad,
                memory.q.as_ptr(),
                memory.scores.as_mut_ptr(),
                columns,
                false,
            );
        }
        bias::add::<V>(tile, biases.as_mut(), memory.scores, start, n, columns);
        softmax::<V>(tile, &mut memory, start, n, columns);
        let (values, stride) = rows_of::<V>(tile, Which::Value, start, n, v_pad, memory.tile);
        // SAFETY: n rows of v_pad values, n rows of `columns` weights, v_pad rows of `columns` outputs.
        unsafe {
            product::<V>(
                Left { start: values, row: 1, column: stride, rows: v_pad },
                n,
                memory.scores.as_ptr(),
                memory.o.as_mut_ptr(),
                columns,
                true,
            );
        }
        start += n;
    }
    transpose::<V>(memory.o, columns, &mut tile.o[..columns * v_pad], v_pad);
}

/// `dst [m, n] = src [n, m]` transposed; both sides are multiples of 16. `src` has rows of `m`, `dst` rows of `n`.
#[inline(always)]
fn transpose<V: Simd>(src: &[f32], m: usize, dst: &mut [f32], n: usize) {
    assert!(src.len() == m * n && dst.len() == m * n && m.is_multiple_of(16) && n.is_multiple_of(16));
    for i in (0..n).step_by(V::LANES) {
        for j in (0..m).step_by(V::LANES) {
            // SAFETY: a square of LANES at (i, j) lies in src, and at (j, i) in dst.
            unsafe { V::transpose(src.as_ptr().add(i * m + j), m, dst.as_mut_ptr().add(j * n + i), n) }
        }
    }
}

/// Tokens `start..start + n` of the tile's head as f32 rows of `pad`: where the first is, and elements from one to the next. Those
/// that are not so already are brought to `dst`.
#[inline(always)]
fn rows_of<V: Simd>(
    tile: &Tile<'_>,
    which: Which,
    start: usize,
    n: usize,
    pad: usize,
    dst: &mut [f32],
) -> (*const f32, usize) {
    match tile.source.layout().dtype {
        KvDType::F32 => {
            let (rows, run) = tile.source.rows(tile.item.span, which, tile.item.kv_head, start);
            if run >= n {
                // Another thread may have written them last; products would wait for each.
                (0..n).for_each(|t| rows.prefetch::<V>(t));
                return (rows.row(0).cast_const().cast(), rows.stride() / size_of::<f32>());
            }
            copy_rows::<V, F32Element>(tile, which, start, n, pad, dst)
        }
        KvDType::F16 => copy_rows::<V, F16Element>(tile, which, start, n, pad, dst),
        KvDType::Q8 => copy_rows::<V, Q8Element>(tile, which, start, n, pad, dst),
    }
    (dst.as_ptr(), pad)
}

#[inline(always)]
fn copy_rows<V: Simd, E: KvElement>(
    tile: &Tile<'_>,
    which: Which,
    start: usize,
    n: usize,
    pad: usize,
    dst: &mut [f32],
) {
    assert!(dst.len() >= n * pad);
    let mut done = 0;
    while done < n {
        let (rows, run) = tile.source.rows(tile.item.span, which, tile.item.kv_head, start + done);
        let len = run.min(n - done);
        for t in 0..len {
            for i in (0..pad).step_by(V::LANES) {
                // SAFETY: `len` rows of `pad` elements lie together, and dst has n rows of `pad`.
                unsafe {
                    let x = E::load::<V>(rows.row(t), rows.row_scales(t), i);
                    x.store(dst.as_mut_ptr().add((done + t) * pad + i));
                }
            }
        }
        done += len;
    }
}

/// Scores of `n` tokens from `start` become weights; maxima, sums and outputs follow.
#[inline(always)]
fn softmax<V: Simd>(tile: &mut Tile<'_>, memory: &mut Memory<'_>, start: usize, n: usize, columns: usize) {
    let all_visible = tile.limits(start, n, &mut memory.first[..columns], &mut memory.last[..columns]);
    let hidden = V::splat(f32::NEG_INFINITY);
    let (max, sum) = (&mut tile.max[..columns], &mut tile.sum[..columns]);
    assert!(memory.scores.len() >= n * columns && memory.o.len() >= tile.v_pad * columns);
    for j in (0..columns).step_by(V::LANES) {
        let scores = memory.scores[j..].as_mut_ptr();
        // SAFETY: every row of scores and outputs, and the four vectors, have `columns` elements; j + LANES <= columns.
        unsafe {
            let before = V::load(max.as_ptr().add(j));
            let (first, last) = (V::load(memory.first.as_ptr().add(j)), V::load(memory.last.as_ptr().add(j)));
            let mut largest = before;
            for t in 0..n {
                let p = scores.add(t * columns);
                let mut x = V::load(p);
                if let Some(cap) = tile.softcap {
                    x = soft_cap(x, V::splat(cap)) * V::splat(LOG2_E);
                }
                if !all_visible {
                    let t = V::splat(t as f32);
                    x = V::select(t.lt(last), x, hidden);
                    x = V::select(t.lt(first), hidden, x);
                }
                if tile.softcap.is_some() || !all_visible {
                    x.store(p);
                }
                largest = largest.max(x);
            }
            let alpha = exp2(before - largest);
            let mut total = V::zero();
            for t in 0..n {
                let p = scores.add(t * columns);
                let e = exp2(V::load(p) - largest);
                e.store(p);
                total = total + e;
            }
            V::load(sum.as_ptr().add(j)).fma(alpha, total).store(sum.as_mut_ptr().add(j));
            largest.store(max.as_mut_ptr().add(j));
            // Nothing to do while no maximum moves (1 - alpha is never negative).
            if (V::splat(1.0) - alpha).max_lane() > 0.0 {
                let o = memory.o[j..].as_mut_ptr();
                for i in 0..tile.v_pad {
                    (V::load(o.add(i * columns)) * alpha).store(o.add(i * columns));
                }
            }
        }
    }
}

/// The left side of a product: element `(r, k)` is `start[r * row + k * column]`.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub(super) start: *const f32,
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) rows: usize,
}

/// `out [rows, columns] (+)= left [rows, depth] right [depth, columns]`, columns a multiple of 16.
///
/// # Safety
/// All three are valid for these shapes; `out` overlaps neither other.
#[inline(always)]
pub(super) unsafe fn product<V: Simd>(
    left: Left,
    depth: usize,
    right: *const f32,
    out: *mut f32,
    columns: usize,
    accumulate: bool,
) {
    let mut j = 0;
    while j < columns {
        // SAFETY: columns j.. of both; registers taken never reach beyond `columns`.
        unsafe {
            let (right, out) = (right.add(j), out.add(j));
            // Sums enough to hide the latency of adding to them, in rows that heads and tiles of tokens are multiples of.
            j += V::LANES
                * match (V::LANES, (columns - j) / V::LANES) {
                    (16, 1) => panel::<V, 16, 1>(left, depth, right, out, columns, accumulate),
                    (16, 3) => panel::<V, 8, 3>(left, depth, right, out, columns, accumulate),
                    (16, _) => panel::<V, 8, 2>(left, depth, right, out, columns, accumulate),
                    _ => panel::<V, 6, 2>(left, depth, right, out, columns, accumulate),
                };
        }
    }
}

/// All rows of `C` registers of columns; gives `C`.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn panel<V: Simd, const R: usize, const C: usize>(
    left: Left,
    depth: usize,
    right: *const f32,
    out: *mut f32,
    stride: usize,
    accumulate: bool,
) -> usize {
    for first in (0..left.rows).step_by(R) {
        let mut sums = [[V::zero(); C]; R];
        // Beyond the last row it is computed again, and not stored.
        let mut row = [std::ptr::null::<f32>(); R];
        for r in 0..R {
            row[r] = left.start.wrapping_add((first + r).min(left.rows - 1) * left.row);
        }
        // SAFETY: k < depth, rows below left.rows, C registers of columns: all valid by the caller's promise.
        unsafe {
            for k in 0..depth {
                let mut b = [V::zero(); C];
                for c in 0..C {
                    b[c] = V::load(right.add(k * stride + c * V::LANES));
                }
                for r in 0..R {
                    let a = V::splat(*row[r].add(k * left.column));
                    for c in 0..C {
                        sums[r][c] = a.fma(b[c], sums[r][c]);
                    }
                }
            }
            for r in 0..R.min(left.rows - first) {
                for c in 0..C {
                    let p = out.add((first + r) * stride + c * V::LANES);
                    let sum = if accumulate { V::load(p) + sums[r][c] } else { sums[r][c] };
                    sum.store(p);
                }
            }
        }
    }
    C
}
