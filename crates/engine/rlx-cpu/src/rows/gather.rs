//! Rows chosen by index.

use crate::{RowsIn, RowsOut, ThreadCtx};

/// An index beyond the source's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("index {index} at place {place} is outside the {rows} rows to choose from")]
pub struct IndexError {
    /// Where in the list of indices.
    pub place: usize,
    /// The index.
    pub index: i32,
    /// Rows of the source.
    pub rows: usize,
}

/// `out[r] = x[indices[r]]` for rows of `width` elements; x has `rows` rows. Every thread checks all indices first and
/// returns the same error, with nothing written.
pub fn gather_rows(
    ctx: &ThreadCtx<'_>,
    x: RowsIn<'_>,
    rows: usize,
    indices: &[i32],
    out: RowsOut<'_>,
    width: usize,
) -> Result<(), IndexError> {
    let bad = |index: i32| usize::try_from(index).map_or(true, |index| index >= rows);
    if let Some(place) = indices.iter().position(|&index| bad(index)) {
        return Err(IndexError { place, index: indices[place], rows });
    }
    for r in ctx.share(indices.len(), 1) {
        // SAFETY: each row belongs to one thread.
        unsafe { out.part(r, 0..width) }.copy_from_slice(x.row(indices[r] as usize, width));
    }
    Ok(())
}

/// `out[t] = x[t][start..start + width]` for `rows` rows.
pub fn columns(ctx: &ThreadCtx<'_>, x: RowsIn<'_>, start: usize, out: RowsOut<'_>, rows: usize, width: usize) {
    for t in ctx.share(rows, 1) {
        // SAFETY: each row belongs to one thread.
        unsafe { out.part(t, 0..width) }.copy_from_slice(&x.row(t, start + width)[start..]);
    }
}
