//! The walk over a call's units of work.

use std::ops::Range;

use super::finish::finish;
use super::items::panel_starts;
use super::pack::Storage;
use super::plan::{INT8_TILE, Method, Plan, RUN_UNITS, TILE, TILE_ROWS, TOKEN_BLOCK, UNIT};
use super::prepare::{Activations, aligned_base, prepare};
use super::{Epilogue, Layout, LinearArgs, LinearPart, Prologue};
use crate::work::Stretches;
use crate::{Isa, SharedSlice, ThreadCtx, WorkCounter};

/// Bytes of activations that a thread goes through for each unit of weights: half a second-level cache, so that they stay there.
const CACHED_TOKEN_BYTES: usize = 1 << 19;
/// Tokens that stream weights from memory rather than wait for the arithmetic, at most.
const FEW_TOKENS: usize = 8;
/// Tokens of a run at least: reading weights anew for each costs little beside the arithmetic.
const FEWEST_SPLIT_TOKENS: usize = 32;

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
    let plan = Plan::of(args, isa, ctx.count());
    check(args, &plan);
    let at = plan.offsets(ctx.index());
    let base = aligned_base(scratch, at.total);
    // SAFETY: the offsets lie inside the scratch; all but the activations are this thread's, and those are written in
    // disjoint rows and read after the barrier.
    unsafe {
        let mut walk = Walk {
            isa,
            plan: &plan,
            args,
            acts: Activations::new(&plan, base.add(at.activations)),
            reads_rows: plan.reads_rows(args),
            weights: base.add(at.weights),
            sums: base.add(at.sums).cast(),
            row: std::slice::from_raw_parts_mut(base.add(at.row).cast(), plan.cols),
            tiles: [0, 1].map(|part| {
                let tile = base.add(at.tiles).cast::<f32>().add(part * TILE);
                std::slice::from_raw_parts_mut(tile, TILE)
            }),
            next: [[std::ptr::null(); 2]; 2],
        };
        if args.x_layout == Layout::Tiles {
            walk.acts = walk.acts.with_tiles(args.x.data);
        } else if !walk.reads_rows {
            prepare(ctx, isa, &plan, args, &walk.acts, walk.row);
        }
        walk.run(ctx, &work[0]);
    }
}

fn check(args: &LinearArgs<'_>, plan: &Plan) {
    let cols = args.parts[0].weight.cols();
    let reach = |layout: Layout, stride: usize, width: usize| layout.floats(args.rows, width, stride);
    if args.x_layout == Layout::Tiles {
        assert!(matches!(args.prologue, Prologue::None) && plan.is_tiles_alone(), "x cannot be tiles");
    }
    if args.out_layout == Layout::Tiles {
        let whole = args.parts.iter().all(|part| part.out.stride == part.weight.rows());
        assert!(whole && args.rows > 1 && !matches!(args.epilogue, Epilogue::Accumulate), "outputs cannot be tiles");
    }
    match args.prologue {
        Prologue::Window(slides) => {
            let taps = slides.window().taps;
            assert!(cols.is_multiple_of(taps), "in features of {taps} taps");
            let needed = slides.end().checked_sub(1).map_or(0, |last| last * args.x.stride + cols / taps);
            assert!(args.x.data.len() >= needed, "x is too short for the window");
        }
        _ => assert!(args.x.data.len() >= reach(args.x_layout, args.x.stride, cols), "x is too short"),
    }
    for part in args.parts {
        let rows = part.weight.rows();
        assert_eq!(part.weight.cols(), cols, "in features of the parts");
        assert!(part.bias.is_none_or(|bias| bias.len() >= rows), "a bias is too short");
        let gate_input = matches!(args.epilogue, Epilogue::Gated(_)) && !std::ptr::eq(part, &args.parts[0]);
        assert!(
            gate_input || part.out.data.len() >= reach(args.out_layout, part.out.stride, rows),
            "an output is too short"
        );
    }
    match args.epilogue {
        Epilogue::Gated(_) => {
            assert!(args.parts.len() == 2, "a gate has two parts");
            assert_eq!(args.parts[0].weight.rows(), args.parts[1].weight.rows(), "out features of gate and up");
        }
        Epilogue::Add(rows) => {
            assert_eq!(args.parts.len(), 1, "parts of a residual addition");
            assert!(
                rows.data.len() >= reach(Layout::Rows, rows.stride, args.parts[0].weight.rows()),
                "the residual is too short"
            );
        }
        Epilogue::Accumulate => assert_eq!(args.parts.len(), 1, "parts of an accumulation"),
        _ => {}
    }
}

/// One thread's walk.
pub(super) struct Walk<'a> {
    pub(super) isa: Isa,
    pub(super) plan: &'a Plan,
    pub(super) args: &'a LinearArgs<'a>,
    pub(super) acts: Activations,
    /// Whether activations are read where they are, not from `acts`.
    pub(super) reads_rows: bool,
    /// Room for the dequantised weights of an item.
    pub(super) weights: *mut u8,
    /// Room for sums between chunks of tiles.
    pub(super) sums: *mut f32,
    /// Room for one f32 row.
    pub(super) row: &'a mut [f32],
    /// Results of a tile of tokens times a unit of rows, or of one token times several units, for each part of an item.
    pub(super) tiles: [&'a mut [f32]; 2],
    /// The panels of each part that this thread reads after those of the item at hand: its own if there are none, null if weights are not in
    /// panels.
    pub(super) next: [[*const u8; 2]; 2],
}

/// How a call's parts are cut into items: runs of rows (units) times runs of tokens (splits).
#[derive(Clone, Copy)]
enum Cut {
    /// All units with the same tokens, one after the other, then the next tokens: a thread writes, and then reads, rows of its own, and
    /// what it has of them stays in its cache.
    TokensFirst { splits: usize },
    /// Part by part, each as its method likes it.
    PartsFirst,
}

/// The items of one part.
#[derive(Clone, Copy)]
struct Items {
    method: Method,
    units: usize,
    splits: usize,
}

/// Where an item is.
#[derive(Clone, Copy)]
struct Located<'a> {
    /// The parts that it computes: two with a gate.
    parts: &'a [LinearPart<'a>],
    method: Method,
    unit: usize,
    /// Units of the parts.
    units: usize,
    split: usize,
    splits: usize,
}

impl<'a> Walk<'a> {
    /// The parts that have items of their own: the second of a gate goes with the first.
    fn parts(&self) -> &'a [LinearPart<'a>] {
        let gated = matches!(self.args.epilogue, Epilogue::Gated(_));
        if gated { &self.args.parts[..1] } else { self.args.parts }
    }

    fn cut(&self, threads: usize) -> Cut {
        let as_stored = |part: &LinearPart<'_>| {
            self.plan.method(part.weight.dtype()) == Method::Float && part.weight.storage() == Storage::Float
        };
        if self.plan.rows < 2 * FEWEST_SPLIT_TOKENS || !self.args.parts.iter().all(as_stored) {
            return Cut::PartsFirst;
        }
        let block = (CACHED_TOKEN_BYTES / (self.plan.cols * size_of::<f32>())).max(FEWEST_SPLIT_TOKENS);
        let wanted = self.plan.rows.div_ceil(block).next_multiple_of(threads);
        Cut::TokensFirst { splits: wanted.min(self.plan.rows / FEWEST_SPLIT_TOKENS) }
    }

    fn units(&self) -> impl Iterator<Item = usize> {
        self.parts().iter().map(|part| part.weight.rows().div_ceil(UNIT))
    }

    fn total(&self, cut: Cut, threads: usize) -> usize {
        match cut {
            Cut::TokensFirst { splits } => splits * self.units().sum::<usize>(),
            Cut::PartsFirst => {
                self.parts().iter().map(|part| self.items(part, threads)).map(|i| i.units * i.splits).sum()
            }
        }
    }

    /// Where item `item` is.
    fn locate(&self, cut: Cut, item: usize, threads: usize) -> Option<Located<'a>> {
        let gated = self.parts().len() < self.args.parts.len();
        let parts = |p: usize| if gated { self.args.parts } else { &self.args.parts[p..=p] };
        if let Cut::TokensFirst { splits } = cut {
            let all = self.units().sum::<usize>();
            let (split, mut unit) = (item / all, item % all);
            for (p, units) in self.units().enumerate() {
                if unit < units {
                    return Some(Located { parts: parts(p), method: Method::Float, unit, units, split, splits });
                }
                unit -= units;
            }
            return None;
        }
        let mut index = item;
        for (p, part) in self.parts().iter().enumerate() {
            let Items { method, units, splits } = self.items(part, threads);
            if index < units * splits {
                let (unit, split) = match method {
                    // Runs of rows in sequence with the same tokens, which stay in the cache.
                    Method::Bf16 => (index % units, index / units),
                    // All tokens with the same rows, which stay in the cache.
                    _ => (index / splits, index % splits),
                };
                return Some(Located { parts: parts(p), method, unit, units, split, splits });
            }
            index -= units * splits;
        }
        None
    }

    /// Where item `item` is, which comes after those of `here` up to unit `unit`: mostly just there.
    fn locate_after(
        &self,
        cut: Cut,
        item: usize,
        here: Located<'a>,
        unit: usize,
        threads: usize,
    ) -> Option<Located<'a>> {
        let by_units = here.splits == 1 || matches!(cut, Cut::TokensFirst { .. });
        if by_units && unit < here.units {
            return Some(Located { unit, ..here });
        }
        self.locate(cut, item, threads)
    }

    /// The first panels of each part of an item, unless its kernels do not care.
    fn beginning(&self, item: Located<'a>) -> Option<[[*const u8; 2]; 2]> {
        let unread = item.method == Method::Bf16 || item.parts[0].weight.storage() == Storage::Rows;
        let starts = |part: &LinearPart<'_>| panel_starts(part, item.unit);
        // A single token's weights are one stream, so that only where it goes on is of interest.
        let second = item.parts.get(1).filter(|_| self.plan.rows > 1);
        (!unread).then(|| [starts(&item.parts[0]), second.map_or([std::ptr::null(); 2], starts)])
    }

    /// # Safety
    /// The activations are prepared; the buffers have the plan's room; the machine has `isa`.
    unsafe fn run(&mut self, ctx: &ThreadCtx<'_>, counter: &WorkCounter) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the plan has a bf16 form only where the machine has AMX.
        let _tiles = self.plan.bf16_at.map(|_| unsafe { super::avx512::amx::Tiles::configure() });
        let (cut, threads) = (self.cut(ctx.count()), ctx.count());
        let mut all = Stretches::new(counter, self.total(cut, threads), ctx.index());
        if matches!(cut, Cut::TokensFirst { .. }) {
            all = all.leaving_last(threads);
        }
        // Few tokens' items take so little time that looking for each would take a good part of it.
        let (most, together) = match self.plan.rows {
            1 => (RUN_UNITS, RUN_UNITS),
            2..=FEW_TOKENS => (RUN_UNITS, 1),
            _ => (1, 1),
        };
        let mut expected: Option<(usize, Located<'a>)> = None;
        while let Some(mut run) = all.next(most) {
            while !run.is_empty() {
                let known = expected.filter(|&(expected, _)| expected == run.start).map(|(_, here)| here);
                let Some(here) = known.or_else(|| self.locate(cut, run.start, threads)) else { return };
                let units = here.unit..(here.unit + run.len().min(together)).min(here.units);
                run.start += units.len();
                let after = all.after(run.start - 1);
                expected =
                    after.and_then(|after| Some((after, self.locate_after(cut, after, here, units.end, threads)?)));
                if let Some(next) = self.beginning(expected.map_or(here, |(_, after)| after)) {
                    self.next = next;
                }
                // SAFETY: passed on; the items are this thread's alone.
                unsafe { self.item(here, units) };
            }
        }
    }

    fn items(&self, part: &LinearPart<'_>, threads: usize) -> Items {
        let method = self.plan.method(part.weight.dtype());
        let (rows, fewest, most) = match method {
            Method::Bf16 => (UNIT * self.plan.tiling.strips, 128, TOKEN_BLOCK),
            _ => (UNIT, 64, usize::MAX),
        };
        let units = part.weight.rows().div_ceil(rows);
        let tokens = self.plan.rows;
        let mut splits = tokens.div_ceil(most);
        // Weights are converted for each item anew.
        let wanted = threads * 4;
        if threads > 1 && units * splits < wanted {
            // Few units still keep all threads busy if each takes some of the tokens.
            splits = splits.max(wanted.div_ceil(units).min(tokens / fewest));
        }
        Items { method, units, splits }
    }

    /// # Safety
    /// As [`Walk::run`], and no other thread has this item.
    unsafe fn item(&mut self, Located { parts, method, unit, split, splits, .. }: Located<'_>, units: Range<usize>) {
        let share = |n: usize| n * split / splits..n * (split + 1) / splits;
        // SAFETY: passed on.
        unsafe {
            match method {
                #[cfg(target_arch = "x86_64")]
                Method::Bf16 => self.tile_item(parts, unit, share(self.plan.rows.div_ceil(2 * TILE_ROWS))),
                #[cfg(not(target_arch = "x86_64"))]
                Method::Bf16 => unreachable!("there are no tiles on this architecture"),
                Method::Int8 if self.plan.rows == 1 => self.int8_row(parts, units),
                Method::Int8 => self.int8_item(parts, unit, share(self.plan.rows.div_ceil(INT8_TILE))),
                #[cfg(target_arch = "x86_64")]
                Method::Fixed => self.fixed_item(parts, unit, share(self.plan.float_tiles())),
                #[cfg(not(target_arch = "x86_64"))]
                Method::Fixed => unreachable!("fixed point is for AVX2"),
                Method::Float if self.plan.rows == 1 => self.float_row(parts, units),
                Method::Float => self.float_item(parts, unit, share(self.plan.float_tiles())),
            }
        }
    }

    /// Finishes the results in the tile buffers: of `tokens`, with the strip of rows that starts at `first`.
    ///
    /// # Safety
    /// As [`Walk::item`].
    pub(super) unsafe fn finish(&mut self, parts: &[LinearPart<'_>], tokens: Range<usize>, first: usize) {
        // SAFETY: passed on.
        unsafe { self.finish_from(parts, 0, tokens, first) };
    }

    /// As [`Walk::finish`], where the tile buffers begin with `skip` tokens more.
    ///
    /// # Safety
    /// As [`Walk::item`].
    pub(super) unsafe fn finish_from(
        &mut self,
        parts: &[LinearPart<'_>],
        skip: usize,
        tokens: Range<usize>,
        first: usize,
    ) {
        let [gate, up] = self.tiles.each_ref().map(|tile| &tile[skip * UNIT..]);
        let up = parts.get(1).map(|part| (part, up));
        let rows = first..(first + UNIT).min(parts[0].weight.rows());
        // SAFETY: this thread alone writes these tokens' results with these rows.
        unsafe { finish(self.isa, self.args, &parts[0], gate, up, tokens, rows) };
    }

    /// Finishes the results of a single token with the rows of `units` in the tile buffers.
    ///
    /// # Safety
    /// As [`Walk::item`].
    pub(super) unsafe fn finish_row(&mut self, parts: &[LinearPart<'_>], units: Range<usize>) {
        let [gate, up] = self.tiles.each_ref().map(|tile| &tile[..]);
        let up = parts.get(1).map(|part| (part, up));
        let rows = units.start * UNIT..(units.end * UNIT).min(parts[0].weight.rows());
        // SAFETY: this thread alone writes the results with these rows.
        unsafe { finish(self.isa, self.args, &parts[0], gate, up, 0..1, rows) };
    }
}
