//! How a call is cut into items, and where they keep their numbers.

use super::few::SCORE_STRIDE;
use super::kv::{KvDType, KvLayout};
use super::{AttentionArgs, SeqSpan};
use crate::Isa;
#[cfg(target_arch = "x86_64")]
use crate::linear::Precision;

/// Query rows of a tile at most: four registers of sixteen lanes.
pub(super) const TILE_ROWS: usize = 64;
/// Keys and values taken at once.
pub(super) const TILE_TOKENS: usize = 64;
/// Up to this many query rows, a tile is computed by dot products along the head.
const FEW_ROWS: usize = 8;
/// Tokens between two rounds of the running softmax when there are few rows.
pub(super) const FEW_TOKENS: usize = 256;
/// A context is not cut in parts shorter than this.
const MIN_PART: usize = 128;
/// Parts aimed at per thread when contexts are cut.
const PARTS_PER_THREAD: usize = 4;
/// With this many tokens or fewer in all contexts, sharing heads unevenly costs less than a barrier.
const SHORT_CONTEXT: usize = 64;
/// With this many new tokens or fewer, threads that own whole heads do without a barrier.
const FEW_NEW_TOKENS: usize = 16;

/// What computes a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Few,
    Many,
    #[cfg(target_arch = "x86_64")]
    Tiles(super::tiles::Unit),
}

/// How a call is cut; every thread comes to the same plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Whether each thread stores and reads its own key/value heads, with no barrier.
    pub(super) own_heads: bool,
    /// Tokens of a part of a context; `usize::MAX` for whole contexts. With `alone`, an upper limit.
    part_tokens: usize,
    /// Every span is one token: each context is cut by its own length, so that a token's sums do not depend on what runs beside
    /// it. Drafts are verified in this way.
    alone: bool,
    threads: usize,
    /// Items in all, parts counted.
    pub(super) items: usize,
    /// What computes tiles of more than a few rows.
    many: Kernel,
    /// Whether something is added to scores, which the kernel of many rows does.
    biased: bool,
    /// Most rows a tile may have, and most that any has.
    row_limit: usize,
    pub(super) tile_rows: usize,
    /// Padded head widths.
    pub(super) k_pad: usize,
    pub(super) v_pad: usize,
    /// Layout of keys and values in scratch memory, without a cache.
    pub(super) batch: Option<KvLayout>,
}

/// A tile of query rows and the part of the context it goes through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub(super) span: &'a SeqSpan<'a>,
    pub(super) kv_head: usize,
    /// Rows of the tile: row `r` is token `r / group` and head `r % group` of the group.
    pub(super) first_row: usize,
    pub(super) rows: usize,
    /// Which part of the context, of how many.
    pub(super) part: usize,
    pub(super) parts: usize,
}

impl Plan {
    pub(super) fn new(args: &AttentionArgs<'_>, isa: Isa, threads: usize) -> Plan {
        let group = args.group();
        let dtype = args.cache.map_or(KvDType::F32, |cache| cache.layout().dtype);
        let (many, row_limit) = many_kernel(args, isa);
        let (mut items, mut work, mut new_tokens, mut longest, mut most_rows) = (0, 0, 0, 0, 0);
        let mut batch_rows = 0;
        for span in args.spans {
            let tiles = tiles(span.len * group, row_limit);
            let reach = reach(args, span, row_limit);
            items += tiles * args.kv_heads;
            work += tiles * args.kv_heads * reach;
            new_tokens += span.len;
            longest = longest.max(reach);
            most_rows = most_rows.max(tile_rows(span.len * group, row_limit));
            batch_rows = batch_rows.max(span.start + span.len);
        }
        let few = new_tokens <= FEW_NEW_TOKENS;
        let context: usize = work / args.kv_heads;
        let own_heads = threads == 1 || few && (args.kv_heads.is_multiple_of(threads) || context <= SHORT_CONTEXT);
        let alone = args.spans.iter().all(|span| span.len == 1);
        let (items, work) = if alone { (args.kv_heads, args.kv_heads * longest) } else { (items, work) };
        // Without a cache there are as many rows as tokens, and so tiles enough; a text's sums then do not depend on what runs
        // beside it.
        let whole = own_heads || args.cache.is_none();
        let part_tokens = if whole { usize::MAX } else { part_tokens(items, work, longest, threads) };
        let mut plan = Plan {
            own_heads,
            part_tokens,
            alone,
            threads,
            items,
            many,
            biased: args.bias.is_some(),
            row_limit,
            tile_rows: most_rows,
            k_pad: dtype.padded(args.head_dim),
            v_pad: dtype.padded(args.v_dim),
            batch: args.cache.is_none().then_some(KvLayout {
                dtype,
                kv_heads: args.kv_heads,
                k_dim: args.head_dim,
                v_dim: args.v_dim,
                block_len: batch_rows,
            }),
        };
        plan.items = args.spans.iter().map(|span| plan.items_of(args, span)).sum();
        plan
    }

    /// What computes a tile of `rows` rows.
    pub(super) fn kernel(&self, rows: usize) -> Kernel {
        if rows <= FEW_ROWS && !self.biased { Kernel::Few } else { self.many }
    }

    /// Whether contexts are cut, so that parts must be combined.
    pub(super) fn is_cut(&self) -> bool {
        self.part_tokens != usize::MAX
    }

    fn parts(&self, args: &AttentionArgs<'_>, span: &SeqSpan<'_>) -> usize {
        reach(args, span, self.row_limit).div_ceil(self.part_tokens_of(args, span)).max(1)
    }

    /// Tokens of a part of this span's context.
    fn part_tokens_of(&self, args: &AttentionArgs<'_>, span: &SeqSpan<'_>) -> usize {
        if !self.alone || !self.is_cut() {
            return self.part_tokens;
        }
        let reach = reach(args, span, self.row_limit);
        part_tokens(args.kv_heads, args.kv_heads * reach, reach, self.threads)
    }

    fn items_of(&self, args: &AttentionArgs<'_>, span: &SeqSpan<'_>) -> usize {
        tiles(span.len * args.group(), self.row_limit) * args.kv_heads * self.parts(args, span)
    }

    /// f32 of one kept part: the outputs of a tile's rows, their maxima and sums.
    pub(super) fn part_floats(&self) -> usize {
        self.tile_rows * (self.v_pad + 2)
    }

    /// f32 of a thread's own memory.
    pub(super) fn thread_floats(&self) -> usize {
        let rows = self.tile_rows.next_multiple_of(16);
        let few = FEW_ROWS * SCORE_STRIDE;
        let many = rows * (self.k_pad + self.v_pad + TILE_TOKENS + 2) + TILE_TOKENS * self.k_pad.max(self.v_pad);
        let kernel = match self.kernel(self.tile_rows) {
            Kernel::Few => few,
            Kernel::Many if self.biased => many + super::bias::work_floats(rows, self.k_pad),
            Kernel::Many => few.max(many),
            #[cfg(target_arch = "x86_64")]
            Kernel::Tiles(_) => few.max(super::tiles::work_floats(rows, self.k_pad, self.v_pad)),
        };
        // Query rows, outputs, maxima and sums; the same memory holds a head in preparation before.
        (rows.max(16) * (self.k_pad + self.v_pad + 2) + kernel).next_multiple_of(64)
    }
}

/// What computes tiles of more than a few rows, and how many rows they may have.
fn many_kernel(args: &AttentionArgs<'_>, isa: Isa) -> (Kernel, usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(unit) = rounding_unit(args, isa) {
        return (Kernel::Tiles(unit), super::tiles::TILE_ROWS);
    }
    let _ = (args, isa);
    (Kernel::Many, TILE_ROWS)
}

/// The unit of 16-bit numbers that may compute this call, if any. A cache of F32 is a promise of f32 arithmetic; without a cache,
/// only callers that ask for bf16 get it, others the fixed point.
#[cfg(target_arch = "x86_64")]
fn rounding_unit(args: &AttentionArgs<'_>, isa: Isa) -> Option<super::tiles::Unit> {
    let cache = args.cache.map(|cache| cache.layout().dtype);
    if args.precision == Precision::F32 || cache == Some(KvDType::F32) || args.bias.is_some() {
        return None;
    }
    super::tiles::Unit::of(isa, args.precision == Precision::Bf16 || cache.is_some())
}

/// Tokens of a part where `items` with `work` tokens in all, `longest` at most, are too few for the threads; `usize::MAX` otherwise.
fn part_tokens(items: usize, work: usize, longest: usize, threads: usize) -> usize {
    let part = (work / (PARTS_PER_THREAD * threads)).max(MIN_PART).next_multiple_of(TILE_TOKENS);
    if items < PARTS_PER_THREAD * threads && part < longest { part } else { usize::MAX }
}

/// Tiles that `rows` query rows are cut in.
fn tiles(rows: usize, limit: usize) -> usize {
    rows.div_ceil(limit)
}

/// Rows of each tile but perhaps the last, so that all are about equal.
fn tile_rows(rows: usize, limit: usize) -> usize {
    if rows == 0 { 0 } else { rows.div_ceil(tiles(rows, limit)).next_multiple_of(16).min(rows) }
}

/// The longest stretch of tokens that a tile of `span` sees.
fn reach(args: &AttentionArgs<'_>, span: &SeqSpan<'_>, row_limit: usize) -> usize {
    let total = args.total(span);
    let tokens = tile_rows(span.len * args.group(), row_limit) / args.group() + 2;
    match args.window {
        Some(window) if args.causal => total.min(window.saturating_add(tokens)),
        Some(window) => total.min(window.saturating_mul(2).saturating_add(tokens)),
        None => total,
    }
}

/// Walks the items in order; an index below the one before costs a walk from the start.
pub(super) struct Items<'a> {
    plan: Plan,
    args: &'a AttentionArgs<'a>,
    span: usize,
    /// Index of the current span's first item.
    base: usize,
}

impl<'a> Items<'a> {
    pub(super) fn new(plan: Plan, args: &'a AttentionArgs<'a>) -> Items<'a> {
        Items { plan, args, span: 0, base: 0 }
    }

    /// Item `index`. The tiles of a head come one after the other, so that its keys and values stay in the caches; the last, which
    /// see most, first.
    pub(super) fn get(&mut self, index: usize) -> Option<Item<'a>> {
        if index < self.base {
            (self.span, self.base) = (0, 0);
        }
        loop {
            let span = self.args.spans.get(self.span)?;
            let count = self.plan.items_of(self.args, span);
            if index >= self.base + count {
                self.base += count;
                self.span += 1;
                continue;
            }
            let parts = self.plan.parts(self.args, span);
            let all_rows = span.len * self.args.group();
            let (local, part) = ((index - self.base) / parts, (index - self.base) % parts);
            let count = tiles(all_rows, self.plan.row_limit);
            let (tile, kv_head) = (count - 1 - local % count, local / count);
            let per_tile = tile_rows(all_rows, self.plan.row_limit);
            let first_row = (tile * per_tile).min(all_rows);
            let rows = per_tile.min(all_rows - first_row);
            return Some(Item { span, kv_head, first_row, rows, part, parts });
        }
    }
}

impl Item<'_> {
    /// The tokens that any row of this item sees, within its part.
    pub(super) fn context(&self, plan: &Plan, args: &AttentionArgs<'_>) -> std::ops::Range<usize> {
        let past = args.past(self.span);
        let total = args.total(self.span);
        if self.rows == 0 {
            return 0..0;
        }
        let first = args.visible(past + self.first_row / args.group(), total);
        let last = args.visible(past + (self.first_row + self.rows - 1) / args.group(), total);
        let part_tokens = plan.part_tokens_of(args, self.span);
        let start = first.start + self.part.saturating_mul(part_tokens);
        let end = if self.parts == 1 { last.end } else { last.end.min(start + part_tokens) };
        start.min(end)..end
    }
}

/// Places in the scratch memory, in f32 from its (aligned) start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) threads: usize,
    pub(super) parts: usize,
    pub(super) batch: usize,
    pub(super) end: usize,
}

impl Places {
    pub(super) fn new(plan: &Plan, threads: usize) -> Places {
        let parts = threads * plan.thread_floats();
        let part_floats = if plan.is_cut() { plan.items * plan.part_floats() } else { 0 };
        let batch = (parts + part_floats).next_multiple_of(64);
        let batch_floats = plan.batch.map_or(0, |layout| layout.bytes_per_block().div_ceil(4));
        Places { threads: 0, parts, batch, end: batch + batch_floats }
    }
}

/// Bytes of scratch memory that a call needs on `threads` threads.
pub fn attention_scratch_bytes(args: &AttentionArgs<'_>, isa: Isa, threads: usize) -> usize {
    // 64 more, to align the start.
    Places::new(&Plan::new(args, isa, threads), threads).end * size_of::<f32>() + 64
}
