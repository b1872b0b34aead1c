//! Activations as f32 tiles: `[columns, rounded up to even][tokens of a tile]`.

use super::plan::Plan;
use super::prepare::prepared_row;
use super::{LinearArgs, Prologue};
use crate::math::simd::{Simd, simd_dispatch};

/// Rows of working memory that a tile needs: those of the widest register that turns them.
pub(crate) const BUFFER_ROWS: usize = 16;

simd_dispatch! {
    /// Writes the tile of the tokens from `first` on; `buffer` has [`BUFFER_ROWS`] rows of `even_cols`, `out` the tile.
    pub(crate) fn write_float_tile(plan: &Plan, args: &LinearArgs<'_>, first: usize, buffer: &mut [f32], out: &mut [f32]) = write_v
}

#[inline(always)]
fn write_v<V: Simd>(plan: &Plan, args: &LinearArgs<'_>, first: usize, buffer: &mut [f32], out: &mut [f32]) {
    let (width, cols) = (plan.float_tile, plan.cols);
    #[cfg(target_arch = "x86_64")]
    if V::LANES == 16 && width <= 8 {
        return write_v::<crate::math::simd::Avx2>(plan, args, first, buffer, out);
    }
    // Rows are read in place where as many follow as a register turns at a time.
    let (src, stride) = if matches!(args.prologue, Prologue::None) && first + V::LANES.max(width) <= plan.rows {
        (&args.x.data[first * args.x.stride..], args.x.stride)
    } else {
        for (t, row) in (first..plan.rows.min(first + width)).zip(buffer.chunks_exact_mut(plan.even_cols())) {
            let prepared = prepared_row(args, t, &mut row[..cols]);
            if let Some(x) = prepared {
                row[..cols].copy_from_slice(x);
            }
        }
        (&*buffer, plan.even_cols())
    };
    let mut k = 0;
    if width <= V::LANES {
        assert!(cols == 0 || src.len() >= (V::LANES - 1) * stride + cols, "rows of a tile");
        // Turned rows are written as whole registers, in order: the next one puts right what went beyond a token's place.
        while k + V::LANES <= cols && (k + V::LANES - 1) * width + V::LANES <= out.len() {
            // SAFETY: LANES rows of at least LANES more columns, and LANES places that end inside the tile.
            unsafe { V::transpose(src.as_ptr().add(k), stride, out.as_mut_ptr().add(k * width), width) };
            k += V::LANES;
        }
    }
    for k in k..cols {
        for (t, x) in out[k * width..(k + 1) * width].iter_mut().enumerate() {
            *x = src[t * stride + k];
        }
    }
    out[cols * width..].fill(0.0);
}
