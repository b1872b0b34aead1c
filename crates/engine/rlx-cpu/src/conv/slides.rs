//! Which rows a window sees.

use std::ops::Range;

use rlx_ir::Window;

use crate::RowsIn;

/// For each row of a result, the rows of a batch of sequences that a window sees.
#[derive(Clone, Debug)]
pub struct Slides {
    window: Window,
    /// Rows of each sequence and of its result, by the first row of the result.
    runs: Vec<(Range<usize>, Range<usize>)>,
}

impl Slides {
    /// `window` over sequences: for each, its rows and those of its result. A row that is no sequence's result sees nothing.
    pub fn new(window: Window, runs: impl IntoIterator<Item = (Range<usize>, Range<usize>)>) -> Slides {
        let mut runs: Vec<_> = runs.into_iter().filter(|(_, output)| !output.is_empty()).collect();
        runs.sort_by_key(|(_, output)| output.start);
        Slides { window, runs }
    }

    /// The window.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// One past the last row that any window may see.
    pub(crate) fn end(&self) -> usize {
        self.runs.iter().map(|(input, _)| input.end).max().unwrap_or(0)
    }

    /// The rows that row `t` of the result sees, by tap; none where the tap lies outside the sequence.
    #[inline]
    pub(crate) fn rows(&self, t: usize) -> impl Iterator<Item = Option<usize>> + '_ {
        let at = self.runs.partition_point(|(_, output)| output.start <= t);
        let run = at.checked_sub(1).map(|at| &self.runs[at]).filter(|(_, output)| t < output.end);
        (0..self.window.taps).map(move |tap| {
            let (input, output) = run?;
            let ahead = (t - output.start) * self.window.stride + tap * self.window.dilation;
            let row = input.start + ahead.checked_sub(self.window.left)?;
            (row < input.end).then_some(row)
        })
    }

    /// The first elements of the rows that row `t` of the result sees, side by side: as many of each as fit into `out`.
    #[inline]
    pub(crate) fn gather(&self, x: RowsIn<'_>, t: usize, out: &mut [f32]) {
        let width = out.len() / self.window.taps;
        for (out, row) in out.chunks_exact_mut(width).zip(self.rows(t)) {
            match row {
                Some(row) => out.copy_from_slice(x.row(row, width)),
                None => out.fill(0.0),
            }
        }
    }
}
