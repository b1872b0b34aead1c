//! Queries, keys and values rounded to bf16 tiles.

use std::arch::x86_64::*;

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
pub(super) fn pairs(low: Avx512, high: Avx512) -> __m512i {
    let mut order = [0u16; 32];
    for i in 0..32 {
        order[i] = (i / 2 + i % 2 * 16) as u16;
    }
    // SAFETY: both are 64 bytes of plain data.
    let order: __m512i = unsafe { std::mem::transmute(order) };
    _mm512_permutexvar_epi16(order, join(low, high))
}

#[target_feature(enable = "avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn pack_queries(tile: &Tile<'_>, memory: &mut Memory<'_>, columns: usize, k_steps: usize) {
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
pub(super) fn pack_keys<E: KvElement>(
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
pub(super) fn pack_values<E: KvElement>(tile: &Tile<'_>, memory: &mut Memory<'_>, start: usize, n: usize) {
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
