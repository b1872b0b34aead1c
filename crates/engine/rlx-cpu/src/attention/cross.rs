//! What cross-attention needs besides attention itself: keys and values kept for later, and what tokens attend to.

use std::f32::consts::LOG2_E;

use super::SeqSpan;
use super::few::{SCORE_STRIDE, weights};
use super::kv::{KvLayerView, KvSource};
use super::prepare::{NewKv, prepare_head, store};
use super::run::{aligned_floats, each_stored};
use crate::{Isa, RowsIn, RowsOut, SharedSlice, ThreadCtx, WorkCounter};

/// A call of [`store_kv`].
#[derive(Clone, Copy)]
pub struct StoreArgs<'a> {
    /// `[S, kv_heads * k_dim]`
    pub k: RowsIn<'a>,
    /// `[S, kv_heads * v_dim]`
    pub v: RowsIn<'a>,
    /// The rows of each sequence, which become its first tokens, with blocks for all of them that no other sequence has.
    pub spans: &'a [SeqSpan<'a>],
    /// Where they are kept.
    pub cache: &'a KvLayerView<'a>,
}

/// Bytes of scratch memory that [`store_kv`] needs on `threads` threads.
pub fn store_scratch_bytes(args: &StoreArgs<'_>, threads: usize) -> usize {
    // 64 more, to align the start.
    threads * head_floats(args.cache) * size_of::<f32>() + 64
}

/// Keeps keys and values for [`attention`](super::attention()) without rows of its own. Called by every thread with the same
/// arguments; complete after a barrier, which the caller puts.
///
/// # Panics
/// If a sequence lacks blocks, or `scratch` is smaller than [`store_scratch_bytes`].
pub fn store_kv(ctx: &ThreadCtx<'_>, isa: Isa, scratch: SharedSlice<'_, u8>, args: &StoreArgs<'_>) {
    let layout = args.cache.layout();
    for span in args.spans {
        assert!(span.blocks.len() * layout.block_len >= span.len, "a sequence lacks blocks");
    }
    let memory = own_floats(ctx, scratch, head_floats(args.cache));
    let source = KvSource::Cache(args.cache);
    let new = NewKv { k: args.k, v: args.v, k_norm: None, rope: None };
    each_stored(ctx, args.spans, layout.kv_heads, |span, token, head| {
        // SAFETY: each token and head is in one thread's share.
        unsafe { store(isa, &new, &source, span, 0, token..token + 1, head..head + 1, memory) };
    });
}

/// A call of [`cross_weights`].
#[derive(Clone, Copy)]
pub struct CrossWeightsArgs<'a> {
    /// `[T, heads * k_dim]`
    pub q: RowsIn<'a>,
    /// Rows of `q` that are wanted, each below `T`.
    pub rows: &'a [i32],
    /// `[A, chosen * block_len]`, a row for each of `rows`; 0 beyond a sequence's tokens. Rows outside all spans are 0.
    pub out: RowsOut<'a>,
    /// Query heads; a multiple of the key/value heads.
    pub heads: usize,
    /// Heads that are wanted.
    pub chosen: &'a [usize],
    /// Multiplies q·k.
    pub scale: f32,
    /// The sequences, each with `past` tokens in one block.
    pub spans: &'a [SeqSpan<'a>],
    /// The keys.
    pub cache: &'a KvLayerView<'a>,
}

/// Bytes of scratch memory that [`cross_weights`] needs on `threads` threads.
pub fn cross_weights_scratch_bytes(args: &CrossWeightsArgs<'_>, threads: usize) -> usize {
    threads * (head_floats(args.cache) + SCORE_STRIDE) * size_of::<f32>() + 64
}

/// The softmax of the scores of chosen rows and heads. Called by every thread with the same arguments, `work[0]` at 0 before;
/// complete after a barrier, which the caller puts.
///
/// # Panics
/// If a sequence has more tokens than one block, or `scratch` is smaller than [`cross_weights_scratch_bytes`].
pub fn cross_weights(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    work: &[WorkCounter],
    scratch: SharedSlice<'_, u8>,
    args: &CrossWeightsArgs<'_>,
) {
    let layout = args.cache.layout();
    let (k_dim, group) = (layout.k_dim, args.heads / layout.kv_heads);
    let memory = own_floats(ctx, scratch, head_floats(args.cache) + SCORE_STRIDE);
    let (q, scores) = memory.split_at_mut(layout.dtype.padded(k_dim));
    let source = KvSource::Cache(args.cache);
    loop {
        let item = work[0].next();
        if item >= args.rows.len() * args.chosen.len() {
            return;
        }
        let (index, slot) = (item / args.chosen.len(), item % args.chosen.len());
        let (row, head) = (args.rows[index] as usize, args.chosen[slot]);
        // SAFETY: each row and head is taken by one thread.
        let out = unsafe { args.out.part(index, slot * layout.block_len..(slot + 1) * layout.block_len) };
        let span = args.spans.iter().find(|span| (span.start..span.start + span.len).contains(&row));
        let Some(span) = span.filter(|span| span.past > 0) else {
            out.fill(0.0);
            continue;
        };
        let query = &args.q.row(row, args.heads * k_dim)[head * k_dim..][..k_dim];
        prepare_head(isa, query, None, None, row, args.scale * LOG2_E, q);
        let (seen, rest) = out.split_at_mut(span.past);
        weights(isa, &source, span, head / group, q, scores, seen);
        rest.fill(0.0);
    }
}

/// f32 of one padded head.
fn head_floats(cache: &KvLayerView<'_>) -> usize {
    let layout = cache.layout();
    layout.dtype.padded(layout.k_dim.max(layout.v_dim))
}

/// This thread's `len` f32 of the scratch memory.
fn own_floats<'s>(ctx: &ThreadCtx<'_>, scratch: SharedSlice<'s, u8>, len: usize) -> &'s mut [f32] {
    let floats = aligned_floats(scratch, ctx.count() * len);
    // SAFETY: each thread has its own stretch.
    unsafe { floats.part(ctx.index() * len..(ctx.index() + 1) * len) }
}
