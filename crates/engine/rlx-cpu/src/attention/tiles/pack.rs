//! Queries, keys and values as tiles.

use std::arch::x86_64::*;

use super::form::Form;
use super::{Memory, STEP, TILE};
use crate::attention::kv::{KvElement, Which};
use crate::attention::plan::TILE_TOKENS;
use crate::attention::run::Tile;
use crate::math::simd::{Avx512, Simd};

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

/// What a row of `width` elements (a multiple of 16) is multiplied by on its way into a tile, and its numbers after it.
///
/// # Safety
/// The processor has the form's instructions, and elements can be loaded up to `width`.
#[inline(always)]
unsafe fn row_scales<F: Form>(width: usize, load: impl Fn(usize) -> Avx512) -> (f32, f32) {
    let Some(largest) = F::ROW else { return (1.0, 1.0) };
    let mut squares = Avx512::zero();
    for i in (0..width).step_by(16) {
        let x = load(i);
        squares = x.fma(x, squares);
    }
    let length = squares.sum().sqrt();
    // A row of zeros stays so; one of NaN makes its scores NaN.
    (if length > 0.0 { largest / length } else { 0.0 }, length / largest)
}

/// As [`row_scales`], of 16 channels of `n` rows.
///
/// # Safety
/// The processor has the form's instructions, and there are so many rows.
#[inline(always)]
unsafe fn channel_scales<F: Form>(largest: f32, n: usize, load: impl Fn(usize) -> Avx512) -> (Avx512, Avx512) {
    let zero = Avx512::zero();
    let mut found = zero;
    // Not a fold: closures that go through the standard library are not compiled for this instruction set.
    for t in 0..n {
        found = load(t).abs().max(found);
    }
    let into = Avx512::select(zero.lt(found), Avx512::splat(largest) / found, zero);
    (into, found * Avx512::splat(1.0 / (largest * F::WEIGHT)))
}

/// Queries as right-hand tiles.
///
/// # Safety
/// The processor has the form's instructions.
#[inline(always)]
pub(super) unsafe fn pack_queries<F: Form>(tile: &Tile<'_>, memory: &mut Memory<'_>, columns: usize, k_steps: usize) {
    let row = |r: usize| &tile.q[r * tile.k_pad..][..tile.k_pad];
    for (r, scale) in memory.q_scales.iter_mut().enumerate() {
        let row = row(r);
        // SAFETY: the caller's promise; a row has k_pad elements.
        (memory.alpha[r], *scale) = unsafe { row_scales::<F>(row.len(), |i| Avx512::load(row[i..][..16].as_ptr())) };
    }
    for (index, dst) in memory.q.chunks_exact_mut(TILE / 2).enumerate() {
        let (block, step) = (index / k_steps, index % k_steps);
        for (r, turn) in memory.turn.chunks_exact_mut(16).enumerate() {
            let x = &row(block * 16 + r)[step * STEP..];
            let factor = Avx512::splat(memory.alpha[block * 16 + r]);
            // SAFETY: a row's rest has 16 or at least 32 elements; turn has 16.
            unsafe {
                let low = Avx512::load(x.as_ptr());
                let high = if x.len() >= STEP { Avx512::load(x.as_ptr().add(16)) } else { Avx512::zero() };
                let word = if F::ROW.is_some() { F::join(low * factor, high * factor) } else { F::join(low, high) };
                _mm512_storeu_si512(turn.as_mut_ptr().cast(), word);
            }
        }
        // SAFETY: both hold 16 rows of 16 words.
        unsafe { Avx512::transpose(memory.turn.as_ptr().cast(), 16, dst.as_mut_ptr().cast(), 16) }
    }
    debug_assert_eq!(memory.q.len(), columns * k_steps * STEP / 2);
}

/// Keys as left-hand tiles.
///
/// # Safety
/// The processor has the form's instructions.
#[inline(always)]
pub(super) unsafe fn pack_keys<F: Form, E: KvElement>(
    tile: &Tile<'_>,
    memory: &mut Memory<'_>,
    start: usize,
    n: usize,
    k_steps: usize,
) {
    let k_pad = tile.k_pad;
    let keys = RowPointers::new(tile, Which::Key, start, n);
    let values = RowPointers::new(tile, Which::Value, start, n);
    for token in 0..n {
        let (row, scales) = (keys.rows[token], keys.scales[token]);
        let dst = &mut memory.keys[token / 16 * k_steps * (TILE / 2) + token % 16 * 16..];
        // SAFETY: the caller's promise; the row has k_pad elements, a multiple of 16.
        let (into, from) = unsafe { row_scales::<F>(k_pad, |i| E::load(row, scales, i)) };
        memory.key_scales[token] = from;
        let factor = Avx512::splat(into);
        for step in 0..k_steps {
            let dst = &mut dst[step * (TILE / 2)..][..16];
            // SAFETY: as above; dst has 16 words.
            unsafe {
                let at = step * STEP;
                let low = E::load::<Avx512>(row, scales, at);
                let high = if at + 16 < k_pad { E::load(row, scales, at + 16) } else { Avx512::zero() };
                let word = if F::ROW.is_some() { F::join(low * factor, high * factor) } else { F::join(low, high) };
                _mm512_storeu_si512(dst.as_mut_ptr().cast(), word);
            }
            // The values are wanted next; a step of them is a line of f16.
            Avx512::prefetch(values.rows[token].wrapping_add(step * 64));
        }
    }
}

/// Values as right-hand tiles.
///
/// # Safety
/// The processor has the form's instructions.
#[inline(always)]
pub(super) unsafe fn pack_values<F: Form, E: KvElement>(
    tile: &Tile<'_>,
    memory: &mut Memory<'_>,
    start: usize,
    n: usize,
) {
    let values = RowPointers::new(tile, Which::Value, start, n);
    let next = start + n;
    let ahead = RowPointers::new(tile, Which::Key, next, TILE_TOKENS.min(tile.context.end - next));
    let k_lines = (tile.k_pad * tile.source.layout().dtype.element_bytes()).div_ceil(64);
    // The next tile's keys are wanted next.
    for next in ahead.rows.iter().filter(|next| !next.is_null()) {
        (0..k_lines).for_each(|line| Avx512::prefetch(next.wrapping_add(line * 64)));
    }
    for block in 0..tile.v_pad / 16 {
        // SAFETY: the rows have v_pad elements, a multiple of 16.
        let load = |t: usize| unsafe { E::load::<Avx512>(values.rows[t], values.scales[t], block * 16) };
        let mut factor = None;
        if let Some(largest) = F::VALUE {
            // SAFETY: the caller's promise; there are v_pad scales.
            unsafe {
                let (into, from) = channel_scales::<F>(largest, n, load);
                from.store(memory.value_scales[block * 16..][..16].as_mut_ptr());
                factor = Some(into);
            }
        }
        for pair in 0..n.next_multiple_of(STEP) / 2 {
            let mut both = [Avx512::zero(); 2];
            for (i, x) in both.iter_mut().enumerate() {
                let t = 2 * pair + i;
                if t < n {
                    *x = load(t);
                }
                if let Some(factor) = factor {
                    *x = *x * factor;
                }
            }
            let at = (block * TILE_TOKENS / STEP + pair / 16) * (TILE / 2) + pair % 16 * 16;
            let dst = &mut memory.values[at..][..16];
            // SAFETY: the caller's promise; dst has 16 words.
            unsafe { _mm512_storeu_si512(dst.as_mut_ptr().cast(), F::pairs(both[0], both[1])) }
        }
    }
}
