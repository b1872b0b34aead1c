//! How activations lie in memory between two steps.

use half::bf16;

use super::RowsOut;
use super::plan::{TILE_COLS, TILE_ROWS};

/// How rows lie in a value's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One after the other, f32.
    #[default]
    Rows,
    /// As the AMX unit reads them: bf16, `[rows / 16][columns / 32][16][32]`, with zeros beyond the last column. A product of tiles
    /// rounds its activations so anyway; here the step that makes them does, and they are neither written nor read in full.
    Tiles,
}

impl Layout {
    /// f32 of memory that `rows` rows of `width` take, `stride` apart where they are not tiles.
    pub(crate) fn floats(self, rows: usize, width: usize, stride: usize) -> usize {
        match self {
            Layout::Rows => rows.checked_sub(1).map_or(0, |last| last * stride + width),
            Layout::Tiles => rows.next_multiple_of(TILE_ROWS) * width.next_multiple_of(TILE_COLS) / 2,
        }
    }
}

impl<'a> RowsOut<'a> {
    /// Columns `32 * block..` of row `t`, of a value of `width` columns that is laid out as tiles.
    ///
    /// # Safety
    /// No other thread touches this part of the row until the next barrier.
    ///
    /// # Panics
    /// If the value has not so much memory.
    #[inline(always)]
    pub(crate) unsafe fn tile_line(&self, t: usize, block: usize, width: usize) -> &'a mut [bf16; TILE_COLS] {
        let blocks = width.div_ceil(TILE_COLS);
        let at = ((t / TILE_ROWS * blocks + block) * TILE_ROWS + t % TILE_ROWS) * (TILE_COLS / 2);
        // SAFETY: the caller's promise; f32 are aligned well enough, and two bf16 are as large as one.
        unsafe { &mut *self.data.part(at..at + TILE_COLS / 2).as_mut_ptr().cast() }
    }
}
