//! Scaled dot-product attention over a paged KV cache or over the batch itself.
//!
//! A call has two phases. First keys (after their norm and RoPE) and values are stored: in the cache, or in scratch memory
//! when there is none. Then each *item*, a tile of query rows of one key/value head, is taken through the keys and values it
//! may see in one pass with a running softmax (Milakov and Gimelshein 2018; Dao et al. 2022), so that no score matrix is ever
//! kept. The query rows of a head group (GQA) are rows of the same tile, so that each key is read once for the whole group.
//!
//! | query rows of a tile | kernel |
//! |---|---|
//! | few (decoding) | dot products along the head, straight from the stored type |
//! | many (prefill) | tiles of keys and values as f32, products with query rows in the lanes |
//! | many, on AMX from keys kept as F16 or Q8, or allowed by [`Precision::Bf16`] | tiles of bf16 |
//! | many, by AVX-512 otherwise, unless [`Precision::F32`] | tiles of integers of 12 to 15 bits |
//!
//! When there are fewer items than the threads need, long contexts are cut: parts are kept in scratch memory and combined
//! after a barrier (flash decoding). When every thread can own whole key/value heads and there are few tokens, there is no
//! barrier at all.

mod bias;
mod cross;
mod few;
mod kv;
mod many;
mod plan;
mod prepare;
mod run;
#[cfg(target_arch = "x86_64")]
mod tiles;

use rlx_ir::RopeStyle;

pub use bias::{DistanceBias, ScoreBias};
pub use cross::{
    CrossWeightsArgs, StoreArgs, cross_weights, cross_weights_scratch_bytes, store_kv, store_scratch_bytes,
};
pub use kv::{KvDType, KvLayerView, KvLayout};
pub use plan::attention_scratch_bytes;
pub use run::attention;

use crate::linear::{Layout, Precision, TILE_COLS};
use crate::{Isa, RowsIn, RowsOut};

/// The rows of one sequence in a batch.
#[derive(Clone, Copy, Debug)]
pub struct SeqSpan<'a> {
    /// First row in the batch.
    pub start: usize,
    /// Rows: its new tokens.
    pub len: usize,
    /// Tokens it already has in the cache.
    pub past: usize,
    /// Its blocks in order, for at least `past + len` tokens. Blocks that new tokens go to belong to this sequence alone.
    pub blocks: &'a [u32],
}

/// RMSNorm of each head by itself.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm<'a> {
    /// `[head_dim]`
    pub weight: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
}

/// A call of [`attention()`].
#[derive(Clone, Copy)]
pub struct AttentionArgs<'a> {
    /// `[T, heads * head_dim]`
    pub q: RowsIn<'a>,
    /// Keys `[T, kv_heads * head_dim]` and values `[T, kv_heads * v_dim]` of the rows; none reads a `cache` that is complete.
    pub kv: Option<[RowsIn<'a>; 2]>,
    /// `[T, heads * v_dim]`; overlaps none of the inputs. Rows outside all spans are left alone.
    pub out: RowsOut<'a>,
    /// How the output is to lie in memory. [`Layout::Tiles`] only where [`AttentionArgs::makes_tiles`] says so.
    pub out_layout: Layout,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`. Query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a query or key head.
    pub head_dim: usize,
    /// Width of a value head.
    pub v_dim: usize,
    /// Multiplies q·k.
    pub scale: f32,
    /// Whether a token sees only itself and earlier ones.
    pub causal: bool,
    /// Sliding window: token `i` sees `j` only if `|i - j| < window`.
    pub window: Option<usize>,
    /// `cap * tanh(score / cap)` on scores before the softmax.
    pub softcap: Option<f32>,
    /// Norm of each query head, before RoPE.
    pub q_norm: Option<HeadNorm<'a>>,
    /// Norm of each key head, before RoPE.
    pub k_norm: Option<HeadNorm<'a>>,
    /// RoPE on queries and keys: the style, the table `[T, 2 pairs]` (cosines, then sines; a row per batch row), and the pairs
    /// turned per head.
    pub rope: Option<(RopeStyle, &'a [f32], usize)>,
    /// Added to scores. With any, there are as many key/value heads as heads, and neither a cache nor a soft cap.
    pub bias: ScoreBias<'a>,
    /// The sequences. Their rows do not overlap.
    pub spans: &'a [SeqSpan<'a>],
    /// Where keys and values are appended and read; without one, `past` is taken as 0 and tokens see those of the same span.
    pub cache: Option<&'a KvLayerView<'a>>,
    /// Which arithmetic is allowed where there are many query rows; a cache of F32 and a bias have f32 in any case. [`Precision::Auto`]:
    /// fixed point where it is faster than f32, and bf16 on the AMX unit with a cache of F16 or Q8. [`Precision::Bf16`]: also without one.
    pub precision: Precision,
}

impl AttentionArgs<'_> {
    /// Query heads per key/value head.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Whether the output may lie in tiles, with kernels of `isa` on `threads` threads: heads are whole lines of them, and no context is
    /// put together of parts.
    pub fn makes_tiles(&self, isa: Isa, threads: usize) -> bool {
        self.v_dim.is_multiple_of(TILE_COLS) && !plan::Plan::new(self, isa, threads).is_cut()
    }

    /// Tokens of `span` that are in the cache already.
    pub(crate) fn past(&self, span: &SeqSpan<'_>) -> usize {
        if self.cache.is_some() { span.past } else { 0 }
    }

    /// Tokens of `span` whose keys and values there are: those in the cache, and its rows unless it only reads.
    pub(crate) fn total(&self, span: &SeqSpan<'_>) -> usize {
        self.past(span) + if self.kv.is_some() { span.len } else { 0 }
    }

    /// The tokens that token `i` of a sequence of `total` sees.
    pub(crate) fn visible(&self, i: usize, total: usize) -> std::ops::Range<usize> {
        let window = self.window.unwrap_or(usize::MAX);
        let end = if self.causal { i + 1 } else { i.saturating_add(window).min(total) };
        (i + 1).saturating_sub(window)..end
    }
}
