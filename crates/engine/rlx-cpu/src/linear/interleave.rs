//! Activations as tiles with the tokens innermost: f32, or pairs of fixed-point integers.

use super::plan::{FIXED_BLOCK, FIXED_MAX_ACTIVATION, Plan};
use super::prepare::{FixedMeta, largest_magnitude, prepared_row, round};
use super::{LinearArgs, Prologue};
use crate::math::simd::{Simd, simd_dispatch};

/// Rows of working memory that a tile needs: those of the widest register that turns them.
pub(crate) const BUFFER_ROWS: usize = 16;

simd_dispatch! {
    /// Writes the f32 tile of the tokens from `first` on: `[columns, rounded up to even][tokens of a tile]`. `buffer` has
    /// [`BUFFER_ROWS`] rows of that many columns.
    pub(crate) fn write_float_tile(plan: &Plan, args: &LinearArgs<'_>, first: usize, buffer: &mut [f32], out: &mut [f32]) = float_v
}

simd_dispatch! {
    /// Writes the fixed-point tile of the tokens from `first` on: `[pairs of columns][tokens of a tile]` pairs of i16, as the bits of
    /// f32, and `[blocks][tokens]` of what goes with them. `buffer` is as for [`write_float_tile`].
    pub(crate) fn write_fixed_tile(
        plan: &Plan, args: &LinearArgs<'_>, first: usize, buffer: &mut [f32], out: &mut [f32], meta: &mut [FixedMeta],
    ) = fixed_v
}

#[inline(always)]
fn float_v<V: Simd>(plan: &Plan, args: &LinearArgs<'_>, first: usize, buffer: &mut [f32], out: &mut [f32]) {
    let (width, cols) = (plan.float_tile, plan.cols);
    // Rows are read in place where as many follow as a register turns at a time.
    if matches!(args.prologue, Prologue::None) && first + BUFFER_ROWS <= plan.rows {
        turn::<V>(&args.x.data[first * args.x.stride..], args.x.stride, cols, width, out);
    } else {
        for (t, row) in (first..plan.rows.min(first + width)).zip(buffer.chunks_exact_mut(plan.even_cols())) {
            if let Some(x) = prepared_row(args, t, &mut row[..cols]) {
                row[..cols].copy_from_slice(x);
            }
        }
        turn::<V>(buffer, plan.even_cols(), cols, width, out);
    }
}

#[inline(always)]
fn fixed_v<V: Simd>(
    plan: &Plan,
    args: &LinearArgs<'_>,
    first: usize,
    buffer: &mut [f32],
    out: &mut [f32],
    meta: &mut [FixedMeta],
) {
    let (width, pairs) = (plan.float_tile, plan.even_cols() / 2);
    let (row, words) = buffer.split_at_mut(plan.even_cols());
    for (t, words) in (first..plan.rows.min(first + width)).zip(words.chunks_exact_mut(pairs)) {
        let x = match prepared_row(args, t, &mut row[..plan.cols]) {
            Some(x) => x,
            None => &row[..plan.cols],
        };
        let blocks = x.chunks(FIXED_BLOCK).zip(words.chunks_mut(FIXED_BLOCK / 2));
        for ((x, words), meta) in blocks.zip(meta.chunks_exact_mut(width)) {
            meta[t - first] = to_fixed(x, words);
        }
    }
    turn::<V>(words, pairs, pairs, width, out);
}

/// `src` rows of `words` words, `stride` apart, to `out` `[words][width]`, and zero in what is left of that.
#[inline(always)]
fn turn<V: Simd>(src: &[f32], stride: usize, words: usize, width: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if V::LANES == 16 && width <= 8 {
        return turn::<crate::math::simd::Avx2>(src, stride, words, width, out);
    }
    let mut k = 0;
    if width <= V::LANES && words > 0 && src.len() >= (V::LANES - 1) * stride + words {
        // Turned rows are written as whole registers, in order: the next one puts right what went beyond a token's place.
        while k + V::LANES <= words && (k + V::LANES - 1) * width + V::LANES <= out.len() {
            // SAFETY: LANES rows of at least LANES more words, by the checks above; LANES places that end inside the tile.
            unsafe { V::transpose(src.as_ptr().add(k), stride, out.as_mut_ptr().add(k * width), width) };
            k += V::LANES;
        }
    }
    for k in k..words {
        for (t, x) in out[k * width..(k + 1) * width].iter_mut().enumerate() {
            *x = src[t * stride + k];
        }
    }
    out[words * width..].fill(0.0);
}

/// A block as fixed-point numbers: pairs of i16 as the bits of `words`, of which the last may be half.
#[inline(always)]
fn to_fixed(x: &[f32], words: &mut [f32]) -> FixedMeta {
    let absmax = largest_magnitude(x);
    let tiny = absmax < FIXED_MAX_ACTIVATION * f32::MIN_POSITIVE;
    let scale = if tiny { 0.0 } else { absmax / FIXED_MAX_ACTIVATION };
    let inverse = if tiny { 0.0 } else { FIXED_MAX_ACTIVATION / absmax };
    let mut integers = [0i16; FIXED_BLOCK];
    for (out, &v) in integers.iter_mut().zip(x) {
        *out = round(v * inverse) as i16;
    }
    let halves: [f32; FIXED_BLOCK / 16] = std::array::from_fn(|half| {
        let sum: i32 = integers[16 * half..16 * half + 16].iter().map(|&v| i32::from(v)).sum();
        scale * sum as f32
    });
    for (word, &pair) in words.iter_mut().zip(integers.as_chunks::<2>().0) {
        *word = f32::from_bits(bytemuck::cast(pair));
    }
    FixedMeta { scale, halves, groups: [halves[0] + halves[1], halves[2] + halves[3]] }
}
