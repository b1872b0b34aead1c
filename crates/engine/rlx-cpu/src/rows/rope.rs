//! Rotary position embedding (Su et al. 2021).

use rlx_ir::RopeStyle;

use crate::math::simd::{Simd, simd_dispatch};
use crate::{Isa, RowsIn, RowsOut, SharedSlice, ThreadCtx};

/// The table of RoPE: row `t` is `cos(a_0..a_n), sin(a_0..a_n)` times `attention_factor`, with `a_i = positions[t] *
/// inv_freq[i]` rounded to f32 as the reference implementations do, and its cosine and sine correct to f32 rounding.
/// `out` is `[T, 2 n]`.
///
/// # Panics
/// If `out` is shorter.
pub fn rope_table(
    ctx: &ThreadCtx<'_>,
    positions: &[i32],
    inv_freq: &[f32],
    attention_factor: f32,
    out: SharedSlice<'_, f32>,
) {
    let n = inv_freq.len();
    for t in ctx.share(positions.len(), 1) {
        // SAFETY: each row belongs to one thread.
        let row = unsafe { out.part(t * 2 * n..(t + 1) * 2 * n) };
        let (cos, sin) = row.split_at_mut(n);
        let position = positions[t] as f32;
        for ((cos, sin), &frequency) in cos.iter_mut().zip(sin).zip(inv_freq) {
            let (s, c) = f64::from(position * frequency).sin_cos();
            *cos = c as f32 * attention_factor;
            *sin = s as f32 * attention_factor;
        }
    }
}

simd_dispatch! {
    /// Turns the first `2 * cos.len()` elements of one head in place: each pair `(a, b)` becomes
    /// `(a cos - b sin, b cos + a sin)`.
    ///
    /// # Panics
    /// If `sin` is shorter than `cos`, or the head shorter than twice that.
    pub fn rope_row(style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) = rope_row_v
}

#[inline(always)]
fn rope_row_v<V: Simd>(style: RopeStyle, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let n = cos.len();
    let sin = &sin[..n];
    let head = &mut head[..2 * n];
    match style {
        RopeStyle::HalfSplit => {
            let (first, second) = head.split_at_mut(n);
            let (first, second) = (first.as_mut_ptr(), second.as_mut_ptr());
            let mut i = 0;
            while i < n {
                let len = V::LANES.min(n - i);
                // SAFETY: all four have n elements, and i + len <= n.
                unsafe {
                    let (a, b) = (V::load_part(first.add(i), len), V::load_part(second.add(i), len));
                    let (c, s) = (V::load_part(cos.as_ptr().add(i), len), V::load_part(sin.as_ptr().add(i), len));
                    a.fma(c, (V::zero() - b) * s).store_part(first.add(i), len);
                    a.fma(s, b * c).store_part(second.add(i), len);
                }
                i += len;
            }
        }
        RopeStyle::Interleaved => {
            for ((pair, &c), &s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * c - b * s;
                pair[1] = b * c + a * s;
            }
        }
    }
}

/// Turns each head of each row: x and out `[T, heads * head_dim]`, table `[T, 2 n]` from [`rope_table`]. The last
/// `head_dim - 2 n` elements of a head are copied.
pub fn rope(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    style: RopeStyle,
    x: RowsIn<'_>,
    table: &[f32],
    pairs: usize,
    out: RowsOut<'_>,
    rows: usize,
    heads: usize,
    head_dim: usize,
) {
    for item in ctx.share(rows * heads, 1) {
        let (t, start) = (item / heads, item % heads * head_dim);
        let (cos, sin) = table[t * 2 * pairs..][..2 * pairs].split_at(pairs);
        // SAFETY: each head of each row belongs to one thread.
        let head = unsafe { out.part(t, start..start + head_dim) };
        head.copy_from_slice(&x.row(t, heads * head_dim)[start..start + head_dim]);
        rope_row(isa, style, head, cos, sin);
    }
}
