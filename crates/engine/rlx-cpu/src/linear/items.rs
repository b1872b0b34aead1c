//! Items of work: a run of weight rows times a run of tokens.

use std::ops::Range;

use rlx_ir::DType;

use super::LinearPart;
use super::fetch::Fetch;
use super::format::PANEL;
use super::kernels;
use super::lines::{FloatLines, LINE};
use super::pack::{PackedMatrix, Storage};
use super::plan::{FIXED_BLOCK, INT8_TILE, MAX_TILE, UNIT, int8_tile_rows};
use super::run::Walk;

impl Walk<'_> {
    /// Rows `unit * 32..` of `parts` (a gate has two) times the int8 tiles `tiles`.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run).
    pub(super) unsafe fn int8_item(&mut self, parts: &[LinearPart<'_>], unit: usize, tiles: Range<usize>) {
        let groups = self.plan.groups();
        let panels = panels(&parts[0], unit);
        for tile in tiles.clone() {
            let tokens = tile * INT8_TILE..((tile + 1) * INT8_TILE).min(self.plan.rows);
            let (q, meta) = self.acts.int8_tile(tile);
            // The first tile brings the panels into the cache.
            let streams = tile == tiles.start;
            for (p, part) in parts.iter().enumerate() {
                let width = int8_tile_rows(tokens.len());
                let kernel = kernels::int8(self.isa, part.weight.dtype(), width);
                let next = if streams {
                    parts.get(p + 1).map_or(self.next[0][0], |part| part.weight.unit(panels.start).as_ptr())
                } else {
                    std::ptr::null()
                };
                let out = self.tiles[p].as_mut_ptr();
                let first = part.weight.units(panels.clone()).as_ptr();
                // SAFETY: panels and tiles are laid out as the kernel expects; a tile of results has room.
                unsafe { kernel(first, panels.len(), groups, q, meta, width, out, next) };
            }
            // SAFETY: passed on.
            unsafe { self.finish(parts, tokens, unit * UNIT) };
        }
    }

    /// The rows of `units` of `parts` times the single token, in int8.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run).
    pub(super) unsafe fn int8_row(&mut self, parts: &[LinearPart<'_>], units: Range<usize>) {
        let (q, meta) = self.acts.int8_tile(0);
        let panels = panels(&parts[0], units.start).start..panels(&parts[0], units.end - 1).end;
        for (p, part) in parts.iter().enumerate() {
            let kernel = kernels::int8(self.isa, part.weight.dtype(), 1);
            let next = parts.get(p + 1).map_or(self.next[0][0], |part| part.weight.unit(panels.start).as_ptr());
            let first = part.weight.units(panels.clone()).as_ptr();
            let out = self.tiles[p].as_mut_ptr();
            // SAFETY: panels and the tile are laid out as the kernel expects; a tile of results has room for a run of units.
            unsafe { kernel(first, panels.len(), self.plan.groups(), q, meta, 1, out, next) };
        }
        // SAFETY: passed on.
        unsafe { self.finish_row(parts, units) };
    }

    /// The rows of `units` of `parts` times the single token, in f32.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run).
    pub(super) unsafe fn float_row(&mut self, parts: &[LinearPart<'_>], units: Range<usize>) {
        let first = if self.reads_rows { self.args.x.data.as_ptr() } else { self.acts.float_tile(0) };
        let x = FloatLines { first, line: LINE, token: LINE };
        for (p, part) in parts.iter().enumerate() {
            let stored = part.weight.storage() == Storage::Float;
            let kernel = kernels::float(self.isa, if stored { part.weight.dtype() } else { DType::F32 }, 1);
            for (i, unit) in units.clone().enumerate() {
                // SAFETY: passed on.
                let source = unsafe { self.float_unit(part, unit, p) };
                let next = if !stored {
                    source
                } else if unit + 1 < units.end {
                    panel_starts(part, unit + 1)
                } else {
                    parts.get(p + 1).map_or(self.next[0], |part| panel_starts(part, units.start))
                };
                let out = self.tiles[p][i * UNIT..].as_mut_ptr();
                // SAFETY: panels and the token are laid out as the kernel expects; a tile of results has room for a run of units.
                unsafe { kernel(source, self.plan.even_cols() / 2, x, 1, out, Fetch::stream(next)) };
            }
        }
        // SAFETY: passed on.
        unsafe { self.finish_row(parts, units) };
    }

    /// Rows `unit * 32..` of `parts` times the f32 tiles `tiles`.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run).
    pub(super) unsafe fn float_item(&mut self, parts: &[LinearPart<'_>], unit: usize, tiles: Range<usize>) {
        let mut sources = [[std::ptr::null(); 2]; 2];
        for (p, part) in parts.iter().enumerate() {
            // SAFETY: passed on.
            sources[p] = unsafe { self.float_unit(part, unit, p) };
        }
        let width = self.plan.float_tile;
        for tile in tiles.clone() {
            let tokens = tile * width..((tile + 1) * width).min(self.plan.rows);
            // Rows that are read where they are have none beyond the last: the last tile begins with some of the one before.
            let skip = if self.reads_rows { width - tokens.len() } else { 0 };
            let x = if self.reads_rows {
                let stride = self.args.x.stride;
                let first = self.args.x.data[(tokens.start - skip) * stride..].as_ptr();
                FloatLines { first, line: LINE, token: stride }
            } else {
                FloatLines { first: self.acts.float_tile(tile), line: LINE * width, token: LINE }
            };
            for (p, part) in parts.iter().enumerate() {
                let stored = part.weight.storage() == Storage::Float;
                let dtype = if stored { part.weight.dtype() } else { DType::F32 };
                let kernel = kernels::float(self.isa, dtype, width);
                let fetch = if tiles.len() > 1 {
                    let bytes = part.weight.unit(0).len();
                    let lines = self.plan.cols.div_ceil(LINE);
                    Fetch::share(self.next[p], tile - tiles.start, tiles.len(), bytes, lines)
                } else if p + 1 < parts.len() {
                    Fetch::stream(sources[p + 1])
                } else if self.next[0][0].is_null() {
                    Fetch::stream(sources[0])
                } else {
                    Fetch::stream(self.next[0])
                };
                let out = self.tiles[p].as_mut_ptr();
                // SAFETY: panels and tiles are laid out as the kernel expects; a tile of results has room.
                unsafe { kernel(sources[p], self.plan.even_cols() / 2, x, width, out, fetch) };
            }
            // SAFETY: passed on.
            unsafe { self.finish_from(parts, skip, tokens, unit * UNIT) };
        }
    }

    /// Rows `unit * 32..` of `parts` times the fixed-point tiles `tiles`.
    ///
    /// Few tokens take a panel in blocks of columns: its weights stream from memory at an even pace, and are integers in the first-level cache
    /// only. Many take it whole, one tile after the other.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run).
    #[cfg(target_arch = "x86_64")]
    pub(super) unsafe fn fixed_item(&mut self, parts: &[LinearPart<'_>], unit: usize, tiles: Range<usize>) {
        let width = self.plan.float_tile;
        let tokens = |tiles: &Range<usize>| tiles.start * width..(tiles.end * width).min(self.plan.rows);
        if tiles.len() * width <= MAX_TILE {
            for (p, part) in parts.iter().enumerate() {
                let dtype = part.weight.dtype();
                let kernel = kernels::fixed(self.isa, dtype, width);
                for (i, panel) in panels(part, unit).enumerate() {
                    let packed = part.weight.unit(panel);
                    let out = self.tiles[p][i * PANEL..].as_mut_ptr();
                    for first in (0..self.plan.cols).step_by(FIXED_BLOCK) {
                        let cols = (self.plan.cols - first).min(FIXED_BLOCK);
                        let packed = packed[first / FIXED_BLOCK * kernels::block_bytes(dtype)..].as_ptr();
                        // SAFETY: the plan reserved whole panels; the tile of results has room for the tokens.
                        unsafe {
                            let (weights, scales) = self.fixed_panel(part.weight, packed, cols, 0);
                            for (place, tile) in tiles.clone().enumerate() {
                                let (x, meta) = self.acts.fixed_tile(tile);
                                let (x, meta) = (x.add(first / 2 * width), meta.add(first / FIXED_BLOCK * width));
                                let out = out.add(place * width * UNIT);
                                kernel([weights; 2], [scales; 2], cols.div_ceil(2), x, meta, out, first > 0);
                            }
                        }
                    }
                }
            }
            // SAFETY: passed on.
            return unsafe { self.finish(parts, tokens(&tiles), unit * UNIT) };
        }
        let mut weights = [[std::ptr::null(); 2]; 2];
        let mut scales = [[std::ptr::null(); 2]; 2];
        for (p, part) in parts.iter().enumerate() {
            for (i, panel) in panels(part, unit).enumerate() {
                // SAFETY: passed on.
                let source = unsafe {
                    self.fixed_panel(part.weight, part.weight.unit(panel).as_ptr(), self.plan.cols, 2 * p + i)
                };
                // A panel alone is the second one too.
                weights[p][i..].fill(source.0);
                scales[p][i..].fill(source.1);
            }
        }
        for tile in tiles.clone() {
            self.fetch_next(parts, tile, &tiles);
            let (x, meta) = self.acts.fixed_tile(tile);
            for (p, part) in parts.iter().enumerate() {
                let kernel = kernels::fixed(self.isa, part.weight.dtype(), width);
                let out = self.tiles[p].as_mut_ptr();
                // SAFETY: panels and tiles are laid out as the kernel expects; a tile of results has room.
                unsafe { kernel(weights[p], scales[p], self.plan.cols.div_ceil(2), x, meta, out, false) };
            }
            // SAFETY: passed on.
            unsafe { self.finish(parts, tokens(&(tile..tile + 1)), unit * UNIT) };
        }
    }

    /// Fetches one of as many shares of the next item's panels as there are tiles: while this item's are in the cache the memory would
    /// be idle, and then be waited for.
    #[cfg(target_arch = "x86_64")]
    fn fetch_next(&self, parts: &[LinearPart<'_>], tile: usize, tiles: &Range<usize>) {
        for (part, next) in parts.iter().zip(self.next) {
            let fetch = Fetch::share(next, tile - tiles.start, tiles.len(), part.weight.unit(0).len(), 1);
            (0..next.len()).for_each(|panel| fetch.of_line(panel, 0));
        }
    }

    /// `cols` columns of a panel, the packed ones at `packed`, as integers and scales in slot `slot` of this thread's buffer.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run), and `packed` is a panel of so many columns, or the start of a block in a longer one.
    #[cfg(target_arch = "x86_64")]
    unsafe fn fixed_panel(
        &mut self,
        weight: &PackedMatrix,
        packed: *const u8,
        cols: usize,
        slot: usize,
    ) -> (*const i16, *const f32) {
        // SAFETY: the plan reserved two panels for each part, integers before scales.
        unsafe {
            let out: *mut i16 = self.weights.add(slot * self.plan.fixed_panel_bytes()).cast();
            let scales: *mut f32 = out.add(self.plan.even_cols() * PANEL).cast();
            kernels::to_fixed(weight.dtype(), packed, cols, out, scales);
            (out, scales)
        }
    }

    /// The panels of a unit of part `p` of an item as floats; one alone is the second one too.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run).
    unsafe fn float_unit(&mut self, part: &LinearPart<'_>, unit: usize, p: usize) -> [*const u8; 2] {
        let panels = panels(part, unit);
        // SAFETY: passed on.
        let first = unsafe { self.float_panel(part.weight, panels.start, 2 * p) };
        // SAFETY: passed on.
        let second = (panels.len() > 1).then(|| unsafe { self.float_panel(part.weight, panels.start + 1, 2 * p + 1) });
        [first, second.unwrap_or(first)]
    }

    /// A float panel: in the packed matrix, or dequantised to f32 into slot `slot` of this thread's buffer.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run).
    unsafe fn float_panel(&mut self, weight: &PackedMatrix, panel: usize, slot: usize) -> *const u8 {
        if weight.storage() == Storage::Float {
            return weight.unit(panel).as_ptr();
        }
        let values = self.plan.even_cols() * PANEL;
        // SAFETY: the plan reserved two panels of f32 for each part.
        unsafe {
            let out = self.weights.cast::<f32>().add(slot * values);
            if weight.storage() == Storage::Quant {
                kernels::dequantise(self.isa, weight.dtype())(weight.unit(panel).as_ptr(), self.plan.groups(), out);
            } else {
                unpack_rows(weight, panel, self.row, std::slice::from_raw_parts_mut(out, values));
            }
            out.cast()
        }
    }
}

/// The one or two panels of a strip.
pub(super) fn panels(part: &LinearPart<'_>, strip: usize) -> Range<usize> {
    2 * strip..(2 * strip + 2).min(part.weight.rows().div_ceil(PANEL))
}

/// Where the panels of a strip begin; one alone is the second one too.
pub(super) fn panel_starts(part: &LinearPart<'_>, strip: usize) -> [*const u8; 2] {
    let panels = panels(part, strip);
    [panels.start, panels.end - 1].map(|panel| part.weight.unit(panel).as_ptr())
}

/// The rows of a panel.
pub(super) fn panel_rows(weight: &PackedMatrix, panel: usize) -> Range<usize> {
    panel * PANEL..((panel + 1) * PANEL).min(weight.rows())
}

/// Dequantises the rows of a panel of a matrix that is stored row by row, to `[columns, rounded up to even][16]`.
fn unpack_rows(weight: &PackedMatrix, panel: usize, row: &mut [f32], out: &mut [f32]) {
    out.fill(0.0);
    for (place, r) in panel_rows(weight, panel).enumerate() {
        weight.unpack_row(r, row);
        for (column, &v) in out.chunks_exact_mut(PANEL).zip(row.iter()) {
            column[place] = v;
        }
    }
}
