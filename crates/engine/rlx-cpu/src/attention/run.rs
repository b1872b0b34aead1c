//! The two phases, and the parts of long contexts put together.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::few::few;
use super::kv::{KvRows, KvSource, Which};
use super::many::many;
use super::plan::{Item, Items, Kernel, Places, Plan};
use super::prepare::{NewKv, prepare_head, store};
#[cfg(target_arch = "x86_64")]
use super::tiles;
use super::{AttentionArgs, SeqSpan};
use crate::linear::{Layout, TILE_COLS};
use crate::math::simd::{Simd, prefetch, simd_dispatch};
use crate::work::Stretches;
use crate::{Isa, RowsIn, SharedSlice, ThreadCtx, WorkCounter};

/// Where maxima start: below every score, and far enough from -inf for differences to exist.
pub(super) const LOWEST: f32 = -1e30;

/// How many keys are fetched while the new ones are prepared.
const FIRST_KEYS: usize = 16;

/// How many rows of queries and outputs are fetched ahead: they lie far apart.
const ROWS_AHEAD: usize = 8;

/// One item in work on one thread.
pub(super) struct Tile<'a> {
    pub(super) args: &'a AttentionArgs<'a>,
    pub(super) source: &'a KvSource<'a>,
    pub(super) item: Item<'a>,
    /// The tokens to go through.
    pub(super) context: Range<usize>,
    /// Keys that the same thread reads after these tokens', if it is known.
    pub(super) next_keys: Option<KvRows>,
    pub(super) k_pad: usize,
    pub(super) v_pad: usize,
    /// What query rows are multiplied with.
    pub(super) factor: f32,
    /// Set if scores are capped; then they are not yet in units of log2.
    pub(super) softcap: Option<f32>,
    /// Query rows `[rows, k_pad]`, with room for a multiple of 16 rows.
    pub(super) q: &'a mut [f32],
    /// Output rows `[rows, v_pad]`, likewise.
    pub(super) o: &'a mut [f32],
    /// Largest score (log2 units) and sum of weights of each row, likewise.
    pub(super) max: &'a mut [f32],
    pub(super) sum: &'a mut [f32],
    /// The kernel's own.
    pub(super) work: &'a mut [f32],
}

impl Tile<'_> {
    /// The tokens that row `r` sees.
    #[inline]
    pub(super) fn visible(&self, r: usize) -> Range<usize> {
        let token = self.args.past(self.item.span) + (self.item.first_row + r) / self.args.group();
        self.args.visible(token, self.args.total(self.item.span))
    }

    /// First and one past the last of the tokens `start..start + n` that each row sees, counted from `start`. If every row sees
    /// all of them the answer is true, and nothing is written. Rows that only fill the tile up see what the last one sees.
    pub(super) fn limits(&self, start: usize, n: usize, first: &mut [f32], last: &mut [f32]) -> bool {
        let rows = self.item.rows;
        // Later tokens never see less at the end, nor more at the start.
        if self.visible(0).end >= start + n && self.visible(rows - 1).start <= start {
            return true;
        }
        let group = self.args.group();
        let mut seen = 0..0;
        for (r, (first, last)) in first.iter_mut().zip(last).enumerate() {
            if r == 0 || r < rows && (self.item.first_row + r).is_multiple_of(group) {
                seen = self.visible(r);
            }
            *first = seen.start.saturating_sub(start).min(n) as f32;
            *last = seen.end.saturating_sub(start).min(n) as f32;
        }
        false
    }
}

/// Attention; see the module. Called by every thread with the same arguments. `work[0]` is at 0 before; `scratch` has
/// [`attention_scratch_bytes`](super::attention_scratch_bytes). The output is complete after a barrier, which the caller puts.
///
/// # Panics
/// If the shapes contradict each other.
pub fn attention(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    work: &[WorkCounter],
    scratch: SharedSlice<'_, u8>,
    args: &AttentionArgs<'_>,
) {
    check(args);
    let plan = Plan::new(args, isa, ctx.count());
    assert!(args.out_layout == Layout::Rows || args.makes_tiles(isa, ctx.count()), "the output cannot be tiles");
    let places = Places::new(&plan, ctx.count());
    let floats = aligned_floats(scratch, places.end);
    let own = places.threads + ctx.index() * plan.thread_floats();
    // SAFETY: each thread has its own stretch.
    let memory = unsafe { floats.part(own..own + plan.thread_floats()) };
    let parts = stretch(floats, places.parts..places.batch);
    let source = match (args.cache, plan.batch) {
        (Some(cache), _) => KvSource::Cache(cache),
        (None, Some(layout)) => match given(args) {
            Some(rows) => KvSource::Given(layout, rows),
            None => KvSource::Batch(layout, floats.as_mut_ptr().wrapping_add(places.batch).cast()),
        },
        (None, None) => return,
    };

    let new = args.kv.filter(|_| !matches!(source, KvSource::Given(..)));
    let new = new.map(|[k, v]| NewKv { k, v, k_norm: args.k_norm, rope: args.rope });
    if plan.own_heads {
        let heads = ctx.share(args.kv_heads, 1);
        let mut items = Items::new(plan, args);
        let mut own = (0..plan.items).filter_map(|index| items.get(index).filter(|item| heads.contains(&item.kv_head)));
        let mut next = own.next();
        if let Some(keys) = next.and_then(|item| first_keys(args, &plan, &source, item)) {
            (0..FIRST_KEYS).for_each(|i| prefetch_row(isa, &keys, i));
        }
        for (span, new) in args.spans.iter().filter_map(|span| Some((span, new.as_ref()?))) {
            // SAFETY: these heads belong to this thread.
            unsafe { store(isa, new, &source, span, args.past(span), 0..span.len, heads.clone(), memory) };
        }
        while let Some(item) = next {
            next = own.next();
            let keys = next.and_then(|item| first_keys(args, &plan, &source, item));
            run_item(isa, args, &plan, &source, item, keys, memory, None);
        }
        return;
    }

    if let Some(new) = &new {
        each_stored(ctx, args.spans, args.kv_heads, |span, token, head| {
            // SAFETY: each token and head is in one thread's share.
            unsafe { store(isa, new, &source, span, args.past(span), token..token + 1, head..head + 1, memory) };
        });
        ctx.barrier();
    }
    let mut items = Items::new(plan, args);
    // Without a cache a thread begins with texts, or heads, whose rows it mostly has in its own; with one, keys and values come from
    // everywhere, and items differ in size.
    let mut own =
        args.cache.is_none().then(|| Stretches::new(&work[0], plan.items, ctx.index()).leaving_last(ctx.count()));
    loop {
        let index = match &mut own {
            Some(own) => own.next(1).map(|run| run.start),
            None => Some(work[0].next()),
        };
        let Some((index, item)) = index.and_then(|index| Some((index, items.get(index)?))) else { break };
        let slot = plan.is_cut().then(|| {
            // SAFETY: each item, and so each slot, is taken by one thread.
            unsafe { parts.part(index * plan.part_floats()..(index + 1) * plan.part_floats()) }
        });
        run_item(isa, args, &plan, &source, item, None, memory, slot);
    }
    if plan.is_cut() {
        ctx.barrier();
        // SAFETY: all parts were written before the barrier.
        combine(ctx, args, &plan, unsafe { parts.all() });
    }
}

/// The keys and values of the call, if they can be read where they are: there is no cache, nothing is done to them, and heads
/// are whole registers.
fn given<'a>(args: &AttentionArgs<'a>) -> Option<[RowsIn<'a>; 2]> {
    let untouched = args.cache.is_none() && args.k_norm.is_none() && args.rope.is_none();
    args.kv.filter(|_| untouched && args.head_dim.is_multiple_of(16) && args.v_dim.is_multiple_of(16))
}

fn check(args: &AttentionArgs<'_>) {
    assert!(args.kv_heads > 0 && args.heads.is_multiple_of(args.kv_heads), "{} heads of {}", args.heads, args.kv_heads);
    if args.bias.is_some() {
        assert!(args.heads == args.kv_heads && args.cache.is_none() && args.softcap.is_none(), "a bias does not fit");
    }
    if let Some(cache) = args.cache {
        let layout = cache.layout();
        let expected = (args.kv_heads, args.head_dim, args.v_dim);
        assert_eq!((layout.kv_heads, layout.k_dim, layout.v_dim), expected, "the cache has another shape");
        for span in args.spans {
            assert!(span.blocks.len() * layout.block_len >= args.total(span), "a sequence lacks blocks");
        }
    }
    assert!(args.kv.is_some() || args.cache.is_some() && !args.causal, "there is nothing to read");
    if let Some([k, v]) = args.kv {
        for last in args.spans.iter().filter_map(|span| (span.start + span.len).checked_sub(1)) {
            // Rows are read by address; these slices panic if a sequence goes beyond them.
            k.row(last, args.kv_heads * args.head_dim);
            v.row(last, args.kv_heads * args.v_dim);
        }
    }
}

/// `len` aligned f32 of the scratch memory.
pub(super) fn aligned_floats(scratch: SharedSlice<'_, u8>, len: usize) -> SharedSlice<'_, f32> {
    let skip = scratch.as_mut_ptr().align_offset(64);
    assert!(scratch.len() >= skip + len * size_of::<f32>(), "scratch memory of {} bytes is too small", scratch.len());
    // SAFETY: in bounds by the check above and aligned; bytes that were ever written are valid f32.
    unsafe { SharedSlice::from_raw(scratch.as_mut_ptr().add(skip).cast(), len) }
}

/// A stretch of shared memory, still shared.
fn stretch(floats: SharedSlice<'_, f32>, range: Range<usize>) -> SharedSlice<'_, f32> {
    assert!(range.start <= range.end && range.end <= floats.len());
    // SAFETY: in bounds; who touches what stays the users' promise.
    unsafe { SharedSlice::from_raw(floats.as_mut_ptr().add(range.start), range.len()) }
}

/// Calls `f(span, token, head)` for this thread's share of all tokens and heads.
pub(super) fn each_stored(
    ctx: &ThreadCtx<'_>,
    spans: &[SeqSpan<'_>],
    kv_heads: usize,
    mut f: impl FnMut(&SeqSpan<'_>, usize, usize),
) {
    let tokens: usize = spans.iter().map(|span| span.len).sum();
    let share = ctx.share(tokens * kv_heads, 1);
    let mut base = 0;
    for span in spans {
        let count = span.len * kv_heads;
        let (first, last) = (share.start.max(base), share.end.min(base + count));
        for index in first..last {
            f(span, (index - base) / kv_heads, (index - base) % kv_heads);
        }
        base += count;
    }
}

/// Takes one item through its context. A whole context goes to the output, a part to its slot.
fn run_item(
    isa: Isa,
    args: &AttentionArgs<'_>,
    plan: &Plan,
    source: &KvSource<'_>,
    item: Item<'_>,
    next_keys: Option<KvRows>,
    memory: &mut [f32],
    slot: Option<&mut [f32]>,
) {
    let padded_rows = item.rows.next_multiple_of(16);
    let (q, rest) = memory.split_at_mut(padded_rows * plan.k_pad);
    let (o, rest) = rest.split_at_mut(padded_rows * plan.v_pad);
    let (max, rest) = rest.split_at_mut(padded_rows);
    let (sum, work) = rest.split_at_mut(padded_rows);
    // Scores are kept in units of log2, unless they are to be capped first.
    let factor = if args.softcap.is_some() { args.scale } else { args.scale * LOG2_E };
    let group = args.group();
    let query = |r: usize| {
        let row = item.span.start + (item.first_row + r) / group;
        let head = item.kv_head * group + (item.first_row + r) % group;
        (row, &args.q.row(row, args.heads * args.head_dim)[head * args.head_dim..][..args.head_dim])
    };
    for r in 0..item.rows {
        if r + ROWS_AHEAD < item.rows {
            prefetch(query(r + ROWS_AHEAD).1);
        }
        let (row, src) = query(r);
        prepare_head(isa, src, args.q_norm, args.rope, row, factor, &mut q[r * plan.k_pad..][..plan.k_pad]);
    }
    let context = item.context(plan, args);
    let mut tile = Tile {
        args,
        source,
        item,
        context,
        next_keys,
        k_pad: plan.k_pad,
        v_pad: plan.v_pad,
        factor,
        softcap: args.softcap,
        q,
        o,
        max,
        sum,
        work,
    };
    match plan.kernel(item.rows) {
        Kernel::Few => few(isa, &mut tile),
        Kernel::Many => many(isa, &mut tile),
        #[cfg(target_arch = "x86_64")]
        Kernel::Tiles(unit) => tiles::many(unit, &mut tile),
    }

    if let Some(slot) = slot {
        let (kept, numbers) = slot.split_at_mut(plan.tile_rows * plan.v_pad);
        kept[..item.rows * plan.v_pad].copy_from_slice(&tile.o[..item.rows * plan.v_pad]);
        for r in 0..item.rows {
            numbers[2 * r] = tile.max[r];
            numbers[2 * r + 1] = tile.sum[r];
        }
        return;
    }
    divide(isa, &tile);
}

simd_dispatch! {
    /// A tile's outputs, divided by their sums, to where they belong.
    fn divide(tile: &Tile<'_>) = divide_v
}

#[inline(always)]
fn divide_v<V: Simd>(tile: &Tile<'_>) {
    let (args, item) = (tile.args, &tile.item);
    // A row that sees nothing has sum 0 and output 0.
    let scale = |r: usize| if tile.sum[r] > 0.0 { 1.0 / tile.sum[r] } else { 0.0 };
    if args.out_layout == Layout::Tiles {
        for r in 0..item.rows {
            let (row, columns) = place(args, item, r);
            let (lines, scale) = (tile.o[r * tile.v_pad..][..args.v_dim].as_chunks::<TILE_COLS>().0, scale(r));
            for (i, line) in lines.iter().enumerate() {
                let block = columns.start / TILE_COLS + i;
                // SAFETY: each output row and head belongs to one item; both lines are of whole registers.
                unsafe {
                    let out = args.out.tile_line(row, block, args.heads * args.v_dim);
                    for j in (0..TILE_COLS).step_by(V::LANES) {
                        (V::load(line[j..].as_ptr()) * V::splat(scale)).store_bf16(out[j..].as_mut_ptr());
                    }
                }
            }
        }
        return;
    }
    for r in 0..item.rows {
        if r + ROWS_AHEAD < item.rows {
            // SAFETY: as above.
            prefetch(unsafe { out_head(args, item, r + ROWS_AHEAD) });
        }
        // SAFETY: as above.
        let out = unsafe { out_head(args, item, r) };
        let scale = scale(r);
        for (out, x) in out.iter_mut().zip(&tile.o[r * tile.v_pad..]) {
            *out = x * scale;
        }
    }
}

/// The keys that `item` begins with, unless it sees none.
fn first_keys(args: &AttentionArgs<'_>, plan: &Plan, source: &KvSource<'_>, item: Item<'_>) -> Option<KvRows> {
    let context = item.context(plan, args);
    source.rows_ahead(item.span, Which::Key, item.kv_head, context.start, context.end)
}

simd_dispatch! {
    /// Asks for row `i` to come to the cache.
    fn prefetch_row(keys: &KvRows, i: usize) = prefetch_row_v
}

#[inline(always)]
fn prefetch_row_v<V: Simd>(keys: &KvRows, i: usize) {
    keys.prefetch::<V>(i);
}

/// The output of row `r` of an item.
///
/// # Safety
/// No other thread touches it.
unsafe fn out_head<'a>(args: &AttentionArgs<'a>, item: &Item<'_>, r: usize) -> &'a mut [f32] {
    let (row, columns) = place(args, item, r);
    // SAFETY: the caller's promise.
    unsafe { args.out.part(row, columns) }
}

/// The row and columns of the output that are row `r` of an item.
fn place(args: &AttentionArgs<'_>, item: &Item<'_>, r: usize) -> (usize, Range<usize>) {
    let group = args.group();
    let row = item.span.start + (item.first_row + r) / group;
    let head = item.kv_head * group + (item.first_row + r) % group;
    (row, head * args.v_dim..(head + 1) * args.v_dim)
}

/// Puts the parts of each context together.
fn combine(ctx: &ThreadCtx<'_>, args: &AttentionArgs<'_>, plan: &Plan, slots: &[f32]) {
    let mut items = Items::new(*plan, args);
    let mut index = 0;
    let mut number = 0;
    while let Some(item) = items.get(index) {
        for r in (0..item.rows).filter(|r| (number + r) % ctx.count() == ctx.index()) {
            let parts = (index..index + item.parts).map(|i| {
                let (kept, numbers) =
                    slots[i * plan.part_floats()..][..plan.part_floats()].split_at(plan.tile_rows * plan.v_pad);
                (&kept[r * plan.v_pad..][..args.v_dim], numbers[2 * r], numbers[2 * r + 1])
            });
            let max = parts.clone().fold(LOWEST, |max, part| max.max(part.1));
            let sum: f32 = parts.clone().map(|(_, part_max, part_sum)| part_sum * (part_max - max).exp2()).sum();
            let scale = if sum > 0.0 { 1.0 / sum } else { 0.0 };
            // SAFETY: the rows of all items are dealt out, each to one thread.
            let out = unsafe { out_head(args, &item, r) };
            out.fill(0.0);
            for (o, part_max, _) in parts {
                let weight = (part_max - max).exp2() * scale;
                for (out, o) in out.iter_mut().zip(o) {
                    *out += o * weight;
                }
            }
        }
        number += item.rows;
        index += item.parts;
    }
}
