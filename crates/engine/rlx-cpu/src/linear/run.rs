//! The walk over a call's units of work.

use rlx_ir::DType;

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::finish::finish;
use super::format::PANEL;
use super::kernels;
use super::pack::{PackedMatrix, Storage};
use super::plan::{INT8_TILE, MAX_TILE, Method, Plan, TILE_COLS, TILE_ROWS, UNIT, int8_tile_rows};
use super::prepare::{Activations, aligned_base, prepare};
use super::{Epilogue, LinearArgs, LinearPart};
use crate::{Isa, SharedSlice, ThreadCtx, WorkCounter};

/// Results of a tile of tokens times a unit of rows.
#[repr(align(64))]
struct Tile([f32; MAX_TILE * UNIT]);

/// Computes `args` on all threads of a pool: each calls it with the same arguments. The outputs are complete once all threads have
/// returned; the caller puts a barrier behind it.
///
/// - `isa`: a level that the machine has ([`Isa::require`]).
/// - `work`: at least one counter, at zero, for this call alone.
/// - `scratch`: at least [`scratch_bytes`](super::scratch_bytes), shared by all threads, for this call alone.
///
/// # Panics
/// If shapes do not fit together: parts of different widths, a gate without its two equal parts, rows, biases or scratch that are too
/// short.
pub fn linear(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    work: &[WorkCounter],
    scratch: SharedSlice<'_, u8>,
    args: &LinearArgs<'_>,
) {
    if args.rows == 0 || args.parts.is_empty() {
        return;
    }
    check(args);
    let plan = Plan::of(args, isa, ctx.count());
    let (acts_at, row_at, weights_at, total) = plan.offsets(ctx.index());
    let base = aligned_base(scratch, total);
    // SAFETY: the offsets lie inside the scratch; the row and weight buffers are this thread's, the activations are
    // written in disjoint rows and read after the barrier.
    unsafe {
        let acts = Activations::new(&plan, base.add(acts_at));
        prepare(ctx, isa, &plan, args, &acts, base.add(row_at).cast());
        let weights = base.add(weights_at);
        let row = std::slice::from_raw_parts_mut(base.add(row_at).cast(), plan.cols);
        Walk { isa, plan: &plan, args, acts, weights, row, tiles: [const { Tile([0.0; MAX_TILE * UNIT]) }; 2] }
            .run(ctx, &work[0]);
    }
}

fn check(args: &LinearArgs<'_>) {
    let cols = args.parts[0].weight.cols();
    let reach = |stride: usize, width: usize| (args.rows - 1) * stride + width;
    assert!(args.x.data.len() >= reach(args.x.stride, cols), "x is too short");
    for part in args.parts {
        let rows = part.weight.rows();
        assert_eq!(part.weight.cols(), cols, "in features of the parts");
        assert!(part.bias.is_none_or(|bias| bias.len() >= rows), "a bias is too short");
        let gate_input = matches!(args.epilogue, Epilogue::Gated(_)) && !std::ptr::eq(part, &args.parts[0]);
        assert!(gate_input || part.out.data.len() >= reach(part.out.stride, rows), "an output is too short");
    }
    match args.epilogue {
        Epilogue::Gated(_) => {
            assert!(args.parts.len() == 2, "a gate has two parts");
            assert_eq!(args.parts[0].weight.rows(), args.parts[1].weight.rows(), "out features of gate and up");
        }
        Epilogue::Add(rows) => {
            assert_eq!(args.parts.len(), 1, "parts of a residual addition");
            assert!(rows.data.len() >= reach(rows.stride, args.parts[0].weight.rows()), "the residual is too short");
        }
        Epilogue::Accumulate => assert_eq!(args.parts.len(), 1, "parts of an accumulation"),
        _ => {}
    }
}

/// One thread's walk.
struct Walk<'a> {
    isa: Isa,
    plan: &'a Plan,
    args: &'a LinearArgs<'a>,
    acts: Activations,
    /// Room for the dequantised weights of a unit.
    weights: *mut u8,
    /// Room for one f32 row.
    row: &'a mut [f32],
    tiles: [Tile; 2],
}

impl Walk<'_> {
    /// # Safety
    /// The activations are prepared; `weights` has the plan's room; the machine has `isa`.
    unsafe fn run(&mut self, ctx: &ThreadCtx<'_>, counter: &WorkCounter) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the plan has a bf16 form only where the machine has AMX.
        let _tiles = self.plan.bf16_at.map(|_| unsafe { avx512::amx::Tiles::configure() });
        let gated = matches!(self.args.epilogue, Epilogue::Gated(_));
        let parts = if gated { &self.args.parts[..1] } else { self.args.parts };
        let units: usize = parts.iter().map(|part| part.weight.rows().div_ceil(UNIT)).sum();
        let splits = token_splits(units, self.plan.rows, ctx.count());
        let items = units * splits;
        let chunk = (items / (8 * ctx.count())).max(1);
        loop {
            let first = counter.next() * chunk;
            if first >= items {
                return;
            }
            for item in first..(first + chunk).min(items) {
                let (mut unit, split) = (item / splits, item % splits);
                let mut part = 0;
                while unit >= parts[part].weight.rows().div_ceil(UNIT) {
                    unit -= parts[part].weight.rows().div_ceil(UNIT);
                    part += 1;
                }
                // SAFETY: passed on; the item is this thread's alone.
                unsafe {
                    if gated {
                        self.item(&[&self.args.parts[0], &self.args.parts[1]], unit, split, splits);
                    } else {
                        self.item(&[&self.args.parts[part]], unit, split, splits);
                    }
                }
            }
        }
    }

    /// Multiplies one unit of rows with one split of the tokens and finishes the results.
    ///
    /// # Safety
    /// As [`Walk::run`], and no other thread has this item.
    unsafe fn item(&mut self, parts: &[&LinearPart<'_>], unit: usize, split: usize, splits: usize) {
        let plan = self.plan;
        let method = plan.method(parts[0].weight.dtype());
        let (tile_rows, tiles) = match method {
            Method::Int8 => (INT8_TILE, plan.rows.div_ceil(INT8_TILE)),
            Method::Float => (plan.float_tile, plan.float_tiles()),
            Method::Bf16 => (2 * TILE_ROWS, plan.rows.div_ceil(2 * TILE_ROWS)),
        };
        let mut sources = [[std::ptr::null(); 2]; 2];
        let panels = (parts[0].weight.rows().div_ceil(PANEL) - 2 * unit).min(2);
        for (p, part) in parts.iter().enumerate() {
            for panel in 0..panels {
                // SAFETY: passed on.
                sources[p][panel] = unsafe { self.source(part.weight, method, p, 2 * unit + panel, panel) };
            }
            if panels == 1 {
                sources[p][1] = sources[p][0];
            }
        }
        for tile in tiles * split / splits..tiles * (split + 1) / splits {
            let tokens = tile * tile_rows..((tile + 1) * tile_rows).min(plan.rows);
            for (p, part) in parts.iter().enumerate() {
                let out = self.tiles[p].0.as_mut_ptr();
                // SAFETY: panels and tiles are laid out as the kernels expect; a tile of results has room.
                unsafe {
                    match method {
                        Method::Int8 => {
                            let width = int8_tile_rows(tokens.len());
                            let kernel = kernels::int8(self.isa, part.weight.dtype(), width);
                            let (q, meta) = self.acts.int8_tile(tile);
                            for panel in 0..panels {
                                kernel(sources[p][panel], plan.groups(), q, meta, out.add(panel * PANEL));
                            }
                        }
                        Method::Float => {
                            let dtype = match part.weight.storage() {
                                Storage::Float => part.weight.dtype(),
                                _ => DType::F32,
                            };
                            let kernel = kernels::float(self.isa, dtype, plan.float_tile);
                            let x = self.acts.float_tile(tile);
                            kernel(sources[p], panels, plan.even_cols() / 2, x, out);
                        }
                        #[cfg(target_arch = "x86_64")]
                        Method::Bf16 => {
                            let x = self.acts.bf16_block(2 * tile);
                            let blocks = tokens.len().div_ceil(TILE_ROWS);
                            avx512::amx::tile(sources[p], plan.tile_cols() / TILE_COLS, x, blocks, out);
                        }
                        #[cfg(not(target_arch = "x86_64"))]
                        Method::Bf16 => unreachable!("there are no tiles on this architecture"),
                    }
                }
            }
            let [first, second] = &mut self.tiles;
            let up = parts.get(1).map(|part| (part, second.0.as_mut_slice()));
            // SAFETY: this thread alone writes these tokens' results of this unit.
            unsafe { finish(self.isa, self.args, parts[0], &mut first.0, up, tokens, unit * UNIT) };
        }
    }

    /// Where the kernels find a panel: in the packed matrix, or dequantised into this thread's buffer.
    ///
    /// # Safety
    /// As [`Walk::run`].
    unsafe fn source(
        &mut self,
        weight: &PackedMatrix,
        method: Method,
        part: usize,
        panel: usize,
        slot: usize,
    ) -> *const u8 {
        let direct = match method {
            Method::Int8 => true,
            Method::Float => weight.storage() == Storage::Float,
            Method::Bf16 => self.plan.is_tiled(weight.dtype()),
        };
        if direct {
            return weight.unit(panel).as_ptr();
        }
        // SAFETY: each part of a unit has a buffer of the plan's size.
        let buffer = unsafe { self.weights.add(part * self.plan.weight_bytes) };
        #[cfg(target_arch = "x86_64")]
        if method == Method::Bf16 {
            let values = self.plan.tile_cols() * PANEL;
            // SAFETY: the plan reserved two panels of tiles.
            unsafe {
                let out = buffer.cast::<u16>().add(slot * values);
                if weight.storage() == Storage::Rows {
                    let out = std::slice::from_raw_parts_mut(out, values);
                    out.fill(0);
                    for (place, r) in panel_rows(weight, panel).enumerate() {
                        weight.unpack_row(r, self.row);
                        avx512::bf16::put_row(self.row, place, out);
                    }
                } else {
                    kernels::tiles(weight.dtype())(weight.unit(panel).as_ptr(), self.plan.cols, out);
                }
                return out.cast();
            }
        }
        let even_cols = self.plan.even_cols();
        let values = even_cols * PANEL;
        // SAFETY: the plan reserved two panels of f32.
        unsafe {
            let out = buffer.cast::<f32>().add(slot * values);
            if weight.storage() == Storage::Quant {
                kernels::dequantise(self.isa, weight.dtype())(weight.unit(panel).as_ptr(), self.plan.groups(), out);
            } else {
                unpack_rows(weight, panel, self.row, std::slice::from_raw_parts_mut(out, values));
            }
            out.cast()
        }
    }
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

/// The rows of a panel.
fn panel_rows(weight: &PackedMatrix, panel: usize) -> std::ops::Range<usize> {
    panel * PANEL..((panel + 1) * PANEL).min(weight.rows())
}

/// Into how many runs of tokens a unit's work is cut, so that few units still keep all threads busy.
fn token_splits(units: usize, rows: usize, threads: usize) -> usize {
    const FEWEST_TOKENS: usize = 64;
    if threads == 1 || units >= 4 * threads {
        return 1;
    }
    (4 * threads).div_ceil(units).min(rows / FEWEST_TOKENS).max(1)
}
