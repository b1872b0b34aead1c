//! Items of bf16 tiles.

use std::ops::Range;

use super::LinearPart;
use super::avx512::{amx, bf16};
use super::format::PANEL;
use super::items::panel_rows;
use super::kernels;
use super::pack::{PackedMatrix, Storage};
use super::plan::{MAX_STRIPS, MAX_TILE, TILE_ROWS, UNIT};
use super::run::Walk;

impl Walk<'_> {
    /// The `unit`-th run of strips of `parts` (a gate has two) times the tokens `32 * tiles`.
    ///
    /// The loops are columns (in chunks, where sums are kept meanwhile), tokens, strips, parts: weights and results of a chunk
    /// stay in the second-level cache, 32 tokens' activations closer.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run), and the tiles are configured.
    pub(super) unsafe fn tile_item(&mut self, parts: &[LinearPart<'_>], unit: usize, tiles: Range<usize>) {
        let tiling = self.plan.tiling;
        let rows = parts[0].weight.rows();
        let strips = unit * tiling.strips..((unit + 1) * tiling.strips).min(rows.div_ceil(UNIT));
        for chunk in (0..tiling.total).step_by(tiling.chunk) {
            let count = (tiling.total - chunk).min(tiling.chunk);
            let mut sources = [[std::ptr::null(); 2]; MAX_STRIPS];
            for (p, part) in parts.iter().enumerate() {
                for (s, strip) in strips.clone().enumerate() {
                    let slot = p * tiling.strips + s;
                    for i in 0..2 {
                        // An odd last panel stands in for its missing neighbour.
                        let panel = (2 * strip + i).min(rows.div_ceil(PANEL) - 1);
                        // SAFETY: passed on.
                        sources[slot][i] = unsafe { self.tiles_of(part.weight, panel, chunk, count, 2 * slot + i) };
                    }
                }
            }
            for tile in tiles.clone() {
                let tokens = tile * MAX_TILE..((tile + 1) * MAX_TILE).min(self.plan.rows);
                let blocks = tokens.len().div_ceil(TILE_ROWS);
                let first = tile * MAX_TILE / TILE_ROWS;
                let x = [0, blocks - 1].map(|b| self.acts.bf16_block(first + b).wrapping_add(chunk * amx::TILE));
                for (s, strip) in strips.clone().enumerate() {
                    for p in 0..parts.len() {
                        let slot = p * tiling.strips + s;
                        let out = self.tiles[p].as_mut_ptr();
                        // SAFETY: the sources are runs of `count` tiles, and so are the activations from `chunk` on; the
                        // plan reserved a tile of sums for each slot and 32 tokens of an item.
                        unsafe {
                            if tiling.sum_bytes == 0 {
                                amx::tile(sources[slot], count, x, blocks, out, false);
                                continue;
                            }
                            let at = (tile - tiles.start) * tiling.strips * parts.len() + slot;
                            let sums = self.sums.add(at * MAX_TILE * UNIT);
                            amx::tile(sources[slot], count, x, blocks, sums, chunk > 0);
                            if chunk + count == tiling.total {
                                out.copy_from_nonoverlapping(sums, tokens.len() * UNIT);
                            }
                        }
                    }
                    if chunk + count == tiling.total {
                        // SAFETY: passed on.
                        unsafe { self.finish(parts, tokens.clone(), strip * UNIT) };
                    }
                }
            }
        }
    }

    /// The tiles `first..first + count` of a panel: in the packed matrix, or converted into slot `slot` of this thread's
    /// buffer.
    ///
    /// # Safety
    /// As [`Walk::item`](super::run).
    unsafe fn tiles_of(
        &mut self,
        weight: &PackedMatrix,
        panel: usize,
        first: usize,
        count: usize,
        slot: usize,
    ) -> *const u8 {
        let data = weight.unit(panel);
        if self.plan.is_tiled(weight.dtype()) {
            return data[first * amx::TILE * size_of::<u16>()..].as_ptr();
        }
        let chunk = self.plan.tiling.chunk.min(self.plan.tiling.total);
        // SAFETY: the plan reserved `chunk` tiles for each panel of the item, and whole rows for types in row order.
        unsafe {
            let out = self.weights.cast::<u16>().add(slot * chunk * amx::TILE);
            if weight.storage() == Storage::Rows {
                let out = std::slice::from_raw_parts_mut(out, count * amx::TILE);
                out.fill(0);
                for (place, r) in panel_rows(weight, panel).enumerate() {
                    weight.unpack_row(r, self.row);
                    bf16::put_row(self.row, place, out);
                }
            } else {
                kernels::to_tiles(weight.dtype(), data.as_ptr(), self.plan.cols, first, count, out);
            }
            out.cast()
        }
    }
}
