//! Attention of a few query rows, as in decoding: lanes run along the head, keys and values are read once, straight from the
//! type they are stored in.

use std::f32::consts::LOG2_E;

use super::SeqSpan;
use super::kv::{F16Element, F32Element, KvDType, KvElement, KvRows, KvSource, Q8Element, Which};
use super::plan::FEW_TOKENS;
use super::run::{LOWEST, Tile};
use crate::math::functions::{exp2, soft_cap};
use crate::math::simd::{Simd, simd_dispatch};

/// Scores of one row: sums are written four at a time, so up to three are written beyond the last.
pub(super) const SCORE_STRIDE: usize = FEW_TOKENS + 16;

/// Bytes of keys, or values, that are asked for in the first-level cache before they are used; not of AMD's processors, which want no
/// second request for weights.
const NEAR_BYTES: usize = 4 << 10;

/// Keys, or values, between two rounds of the softmax: these and those fetched meanwhile stay in the second-level cache.
const CHUNK_BYTES: usize = 32 << 10;

simd_dispatch! {
    /// Takes the tile through its context. Outputs are not yet divided by their sums.
    pub(super) fn few(tile: &mut Tile<'_>) = few_v
}

#[inline(always)]
fn few_v<V: Simd>(tile: &mut Tile<'_>) {
    match tile.source.layout().dtype {
        KvDType::F32 => few_of::<V, F32Element>(tile),
        KvDType::F16 => few_of::<V, F16Element>(tile),
        KvDType::Q8 => few_of::<V, Q8Element>(tile),
    }
}

#[inline(always)]
fn few_of<V: Simd, E: KvElement>(tile: &mut Tile<'_>) {
    let (span, head, rows) = (tile.item.span, tile.item.kv_head, tile.item.rows);
    let (k_pad, v_pad) = (tile.k_pad, tile.v_pad);
    assert!(tile.q.len() >= rows * k_pad && tile.o.len() >= rows * v_pad && tile.work.len() >= rows * SCORE_STRIDE);
    tile.max.fill(LOWEST);
    tile.sum.fill(0.0);
    tile.o.fill(0.0);
    let row_bytes = k_pad * tile.source.layout().dtype.element_bytes();
    let chunk = (CHUNK_BYTES / row_bytes).next_multiple_of(16).clamp(32, FEW_TOKENS);
    let mut start = tile.context.start;
    while start < tile.context.end {
        let n = chunk.min(tile.context.end - start);
        let mut done = 0;
        while done < n {
            let (keys, run) = tile.source.rows(span, Which::Key, head, start + done);
            let len = run.min(n - done);
            // While keys are used their values are fetched, and then the keys after them, so that the memory is never idle.
            let ahead = Some(tile.source.rows(span, Which::Value, head, start + done).0);
            // SAFETY: `len` rows lie together; q and scores hold `rows` rows (checked above); done + len <= n.
            unsafe {
                all_scores::<V, E>(tile.q.as_ptr(), rows, k_pad, keys, len, ahead, tile.work.as_mut_ptr().add(done))
            };
            done += len;
        }
        for r in 0..rows {
            let seen = tile.visible(r);
            let (first, last) = (seen.start.saturating_sub(start).min(n), seen.end.saturating_sub(start).min(n));
            let row = &mut tile.work[r * SCORE_STRIDE..][..n];
            row[..first].fill(f32::NEG_INFINITY);
            row[last.max(first)..].fill(f32::NEG_INFINITY);
            let (max, alpha, sum) = softmax_row::<V>(row, tile.max[r], tile.softcap);
            tile.max[r] = max;
            tile.sum[r] = tile.sum[r] * alpha + sum;
            if alpha != 1.0 {
                scale::<V>(&mut tile.o[r * v_pad..][..v_pad], alpha);
            }
        }
        let mut done = 0;
        while done < n {
            let (values, run) = tile.source.rows(span, Which::Value, head, start + done);
            let len = run.min(n - done);
            let ahead = tile.source.rows_ahead(span, Which::Key, head, start + n + done, tile.context.end);
            let ahead = ahead.or(tile.next_keys.filter(|_| done == 0));
            // SAFETY: as above, with o of `rows` rows of v_pad.
            unsafe {
                all_sums::<V, E>(tile.work.as_ptr().add(done), rows, values, len, ahead, tile.o.as_mut_ptr(), v_pad)
            };
            done += len;
        }
        start += n;
    }
}

simd_dispatch! {
    /// What one query row attends to: the softmax of its scores with tokens `0..weights.len()` of head `head`. `q` is a padded row
    /// in units of log2, `scores` has room for [`SCORE_STRIDE`].
    pub(super) fn weights(
        source: &KvSource<'_>,
        span: &SeqSpan<'_>,
        head: usize,
        q: &[f32],
        scores: &mut [f32],
        weights: &mut [f32],
    ) = weights_v
}

#[inline(always)]
fn weights_v<V: Simd>(
    source: &KvSource<'_>,
    span: &SeqSpan<'_>,
    head: usize,
    q: &[f32],
    scores: &mut [f32],
    weights: &mut [f32],
) {
    match source.layout().dtype {
        KvDType::F32 => weights_of::<V, F32Element>(source, span, head, q, scores, weights),
        KvDType::F16 => weights_of::<V, F16Element>(source, span, head, q, scores, weights),
        KvDType::Q8 => weights_of::<V, Q8Element>(source, span, head, q, scores, weights),
    }
}

#[inline(always)]
fn weights_of<V: Simd, E: KvElement>(
    source: &KvSource<'_>,
    span: &SeqSpan<'_>,
    head: usize,
    q: &[f32],
    scores: &mut [f32],
    weights: &mut [f32],
) {
    let layout = source.layout();
    assert!(q.len() == layout.dtype.padded(layout.k_dim) && scores.len() >= SCORE_STRIDE);
    let mut done = 0;
    while done < weights.len() {
        let (keys, run) = source.rows(span, Which::Key, head, done);
        let len = run.min(weights.len() - done).min(FEW_TOKENS);
        // SAFETY: `len` rows lie together, q is one padded row, and scores has SCORE_STRIDE >= len + 3 elements.
        unsafe { all_scores::<V, E>(q.as_ptr(), 1, q.len(), keys, len, None, scores.as_mut_ptr()) };
        weights[done..done + len].copy_from_slice(&scores[..len]);
        done += len;
    }
    let (_, _, sum) = softmax_row::<V>(weights, LOWEST, None);
    weights.iter_mut().for_each(|weight| *weight /= sum);
}

/// `x *= factor`; the length is a multiple of 16.
#[inline(always)]
fn scale<V: Simd>(x: &mut [f32], factor: f32) {
    let factor = V::splat(factor);
    for chunk in x.chunks_exact_mut(V::LANES) {
        // SAFETY: the chunk has LANES elements.
        unsafe { (V::load(chunk.as_ptr()) * factor).store(chunk.as_mut_ptr()) }
    }
}

/// Turns scores into weights `2^(score - max)`: the new maximum, the factor for what was summed before, the sum of the weights.
#[inline(always)]
fn softmax_row<V: Simd>(row: &mut [f32], max_before: f32, cap: Option<f32>) -> (f32, f32, f32) {
    let (n, p) = (row.len(), row.as_mut_ptr());
    let whole = n / V::LANES * V::LANES;
    if let Some(cap) = cap {
        for i in (0..n).step_by(V::LANES) {
            let len = V::LANES.min(n - i);
            // SAFETY: i + len <= n.
            unsafe {
                let x = V::load_part(p.add(i), len);
                let capped = soft_cap(x, V::splat(cap)) * V::splat(LOG2_E);
                // -inf, the mask, must stay.
                V::select(x.lt(V::splat(f32::MIN)), x, capped).store_part(p.add(i), len);
            }
        }
    }
    let mut lanes = V::splat(max_before);
    for i in (0..whole).step_by(V::LANES) {
        // SAFETY: i + LANES <= n.
        lanes = lanes.max(unsafe { V::load(p.add(i)) });
    }
    let max = row[whole..].iter().copied().fold(lanes.max_lane(), f32::max);
    let (shift, mut sum) = (V::splat(max), V::zero());
    for i in (0..whole).step_by(V::LANES) {
        // SAFETY: i + LANES <= n.
        unsafe {
            let e = exp2(V::load(p.add(i)) - shift);
            e.store(p.add(i));
            sum = sum + e;
        }
    }
    if whole < n {
        // SAFETY: n - whole elements are left.
        unsafe { exp2(V::load_part(p.add(whole), n - whole) - shift).store_part(p.add(whole), n - whole) };
    }
    let rest: f32 = row[whole..].iter().sum();
    (max, (max_before - max).exp2(), sum.sum() + rest)
}

/// Scores of every row.
///
/// # Safety
/// `q` holds `rows` rows of `k_pad`, `keys` `len` rows of `k_pad`, and `scores` as many rows of `SCORE_STRIDE`, with three
/// elements beyond `len`.
#[inline(always)]
unsafe fn all_scores<V: Simd, E: KvElement>(
    q: *const f32,
    rows: usize,
    k_pad: usize,
    keys: KvRows,
    len: usize,
    ahead: Option<KvRows>,
    scores: *mut f32,
) {
    let (mut r, mut turn) = (0, 0);
    let turns = passes::<V>(rows);
    // SAFETY: each call takes rows r.. that are below `rows`.
    unsafe {
        while r < rows {
            let (q, scores) = (q.add(r * k_pad), scores.add(r * SCORE_STRIDE));
            let ahead = ahead.map(|rows| Ahead::new(keys, len, rows, turn, turns));
            turn += 1;
            r += match pass_rows::<V>(rows - r) {
                4 => some_scores::<V, E, 4>(q, k_pad, keys, len, ahead, scores),
                3 => some_scores::<V, E, 3>(q, k_pad, keys, len, ahead, scores),
                2 => some_scores::<V, E, 2>(q, k_pad, keys, len, ahead, scores),
                _ => some_scores::<V, E, 1>(q, k_pad, keys, len, ahead, scores),
            };
        }
    }
}

/// Rows taken together when `left` are left: as many as there are registers for their sums.
#[inline(always)]
fn pass_rows<V: Simd>(left: usize) -> usize {
    left.min(if V::LANES == 16 { 4 } else { 2 })
}

/// How often keys and values are gone through for all rows.
#[inline(always)]
fn passes<V: Simd>(rows: usize) -> usize {
    rows.div_ceil(pass_rows::<V>(rows))
}

/// Rows to fetch ahead: each of several passes over the same tokens fetches its part, so that none leaves the memory idle.
#[derive(Clone, Copy)]
struct Ahead {
    /// The rows that are gone through meanwhile, and how many they are.
    at_hand: KvRows,
    len: usize,
    rows: KvRows,
    next: usize,
    turns: usize,
    /// How many rows ahead of their use they are asked for once more, in the first-level cache; 0: not.
    near: usize,
}

impl Ahead {
    /// Turn `next` of `turns` at fetching `rows` while the `len` rows `at_hand` are gone through.
    #[inline(always)]
    fn new(at_hand: KvRows, len: usize, rows: KvRows, next: usize, turns: usize) -> Ahead {
        let near = if crate::isa::is_amd() { 0 } else { (NEAR_BYTES / at_hand.stride()).max(1) };
        Ahead { at_hand, len, rows, next, turns, near }
    }

    /// The part of one of `count` passes over what is left to this one.
    #[inline(always)]
    fn part(self, index: usize, count: usize) -> Ahead {
        Ahead { next: self.next * count + index, turns: self.turns * count, ..self }
    }

    /// Called with rising `i`, fetches those rows whose turn it is.
    #[inline(always)]
    fn fetch<V: Simd>(&mut self, i: usize) {
        if i == self.next {
            self.rows.prefetch::<V>(i);
            self.next += self.turns;
            let near = i + self.near;
            match self.near {
                0 => {}
                _ if near < self.len => self.at_hand.prefetch_first::<V>(near),
                _ => self.rows.prefetch_first::<V>(near - self.len),
            }
        }
    }
}

/// Scores of `R` rows with four keys at a time; gives `R`.
///
/// # Safety
/// As for [`all_scores`], for `R` rows.
#[inline(always)]
unsafe fn some_scores<V: Simd, E: KvElement, const R: usize>(
    q: *const f32,
    k_pad: usize,
    keys: KvRows,
    len: usize,
    mut ahead: Option<Ahead>,
    scores: *mut f32,
) -> usize {
    for t in (0..len).step_by(4) {
        if let Some(ahead) = &mut ahead {
            (t..len.min(t + 4)).for_each(|t| ahead.fetch::<V>(t));
        }
        let mut sums = [[V::zero(); 4]; R];
        // Beyond the last key its row is read again, and the sums are overwritten or never read.
        let mut key = [std::ptr::null::<u8>(); 4];
        let mut key_scales = [std::ptr::null::<f32>(); 4];
        for j in 0..4 {
            let row = (t + j).min(len - 1);
            key[j] = keys.row(row);
            key_scales[j] = keys.row_scales(row);
        }
        for i in (0..k_pad).step_by(V::LANES) {
            // SAFETY: k_pad is a multiple of LANES, and all rows have k_pad elements.
            unsafe {
                let mut k = [V::zero(); 4];
                for j in 0..4 {
                    k[j] = E::load::<V>(key[j], key_scales[j], i);
                }
                for r in 0..R {
                    let q = V::load(q.add(r * k_pad + i));
                    for j in 0..4 {
                        sums[r][j] = k[j].fma(q, sums[r][j]);
                    }
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            // SAFETY: t < len, and the row has three elements beyond.
            unsafe { V::store_sums(sums, scores.add(r * SCORE_STRIDE + t)) }
        }
    }
    R
}

/// Adds the values, weighted, to the outputs of every row.
///
/// # Safety
/// `weights` holds `rows` rows of `SCORE_STRIDE` with `len` weights each, `values` `len` rows of `v_pad`, `o` `rows` rows of
/// `v_pad`.
#[inline(always)]
unsafe fn all_sums<V: Simd, E: KvElement>(
    weights: *const f32,
    rows: usize,
    values: KvRows,
    len: usize,
    ahead: Option<KvRows>,
    o: *mut f32,
    v_pad: usize,
) {
    let (mut r, mut turn) = (0, 0);
    let turns = passes::<V>(rows);
    // SAFETY: each call takes rows r.. that are below `rows`.
    unsafe {
        while r < rows {
            let (weights, o) = (weights.add(r * SCORE_STRIDE), o.add(r * v_pad));
            let ahead = ahead.map(|rows| Ahead::new(values, len, rows, turn, turns));
            turn += 1;
            r += match pass_rows::<V>(rows - r) {
                4 => some_sums::<V, E, 4>(weights, values, len, ahead, o, v_pad),
                3 => some_sums::<V, E, 3>(weights, values, len, ahead, o, v_pad),
                2 => some_sums::<V, E, 2>(weights, values, len, ahead, o, v_pad),
                _ => some_sums::<V, E, 1>(weights, values, len, ahead, o, v_pad),
            };
        }
    }
}

/// The sums of `R` rows: as many registers of a value at a time as there is room for; gives `R`.
///
/// # Safety
/// As for [`all_sums`], for `R` rows.
#[inline(always)]
unsafe fn some_sums<V: Simd, E: KvElement, const R: usize>(
    weights: *const f32,
    values: KvRows,
    len: usize,
    ahead: Option<Ahead>,
    o: *mut f32,
    v_pad: usize,
) -> usize {
    let (mut i, mut pass) = (0, 0);
    let at_once = if V::LANES == 16 {
        if R <= 2 { 8 } else { 4 }
    } else if R == 1 {
        8
    } else {
        4
    };
    let passes = v_pad.div_ceil(at_once * V::LANES);
    while i < v_pad {
        let ahead = ahead.filter(|_| pass < passes).map(|ahead| ahead.part(pass, passes));
        pass += 1;
        let left = (v_pad - i) / V::LANES;
        // SAFETY: each call takes elements i.. that are below v_pad.
        i += V::LANES
            * unsafe {
                if at_once == 8 && left >= 8 {
                    column_sums::<V, E, R, 8>(weights, values, len, ahead, o, v_pad, i)
                } else if left >= 4 {
                    column_sums::<V, E, R, 4>(weights, values, len, ahead, o, v_pad, i)
                } else {
                    column_sums::<V, E, R, 1>(weights, values, len, ahead, o, v_pad, i)
                }
            };
    }
    R
}

/// Elements `i..i + C * LANES` of `R` rows; gives `C`.
///
/// # Safety
/// As for [`all_sums`], for `R` rows and elements `i..i + C * LANES`.
#[inline(always)]
unsafe fn column_sums<V: Simd, E: KvElement, const R: usize, const C: usize>(
    weights: *const f32,
    values: KvRows,
    len: usize,
    mut ahead: Option<Ahead>,
    o: *mut f32,
    v_pad: usize,
    i: usize,
) -> usize {
    let mut sums = [[V::zero(); C]; R];
    // SAFETY: all rows have v_pad elements, of which i..i + C * LANES are taken.
    unsafe {
        for r in 0..R {
            for c in 0..C {
                sums[r][c] = V::load(o.add(r * v_pad + i + c * V::LANES));
            }
        }
        for t in 0..len {
            if let Some(ahead) = &mut ahead {
                ahead.fetch::<V>(t);
            }
            let (row, scales) = (values.row(t), values.row_scales(t));
            let mut weight = [V::zero(); R];
            for r in 0..R {
                weight[r] = V::splat(*weights.add(r * SCORE_STRIDE + t));
            }
            for c in 0..C {
                let value = E::load::<V>(row, scales, i + c * V::LANES);
                for r in 0..R {
                    sums[r][c] = value.fma(weight[r], sums[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                sums[r][c].store(o.add(r * v_pad + i + c * V::LANES));
            }
        }
    }
    C
}
