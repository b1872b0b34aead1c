//! Row operations: norms, elementwise functions, softmax, gathers, RoPE.
//!
//! Each is called by every thread of the pool with the same arguments and takes its share of the rows. None has a barrier:
//! the caller puts one after it.

mod elementwise;
mod gather;
mod norm;
mod products;
mod rope;

use crate::{RowsIn, RowsOut};

pub use elementwise::{Operand, binary, gated, unary};
pub use gather::{IndexError, columns, gather_rows};
pub use norm::{layer_norm, layer_norm_groups, layer_norm_row, rms_norm, rms_norm_groups, rms_norm_row, softmax_rows};
pub use products::{row_products, row_squares};
pub use rope::{rope, rope_row, rope_table};

impl<'a> RowsIn<'a> {
    /// Row `t`'s first `width` elements.
    ///
    /// # Panics
    /// If the data end before them.
    #[inline]
    pub fn row(&self, t: usize, width: usize) -> &'a [f32] {
        &self.data[t * self.stride..][..width]
    }
}

impl<'a> RowsOut<'a> {
    /// Elements `columns` of row `t`.
    ///
    /// # Safety
    /// Until the next barrier no other thread touches any of them.
    ///
    /// # Panics
    /// If the data end before them.
    #[inline]
    pub unsafe fn part(&self, t: usize, columns: std::ops::Range<usize>) -> &'a mut [f32] {
        let row = t * self.stride;
        // SAFETY: the caller's promise.
        unsafe { self.data.part(row + columns.start..row + columns.end) }
    }
}
