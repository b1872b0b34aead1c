//! Cross-attention: a decoder's tokens attend to keys and values that an encoder left.
//!
//! They are no values of a graph, since the graph that writes them is not the one that reads them: an encoder runs once, its
//! decoder many times, for any number of sequences. They lie in a *cross KV cache*, of which each encoded input is an *entry*. Which
//! entry a sequence writes or reads comes with the batch.

use crate::CrossKvId;

/// Sizes of the keys and values of one decoder layer in an entry of the cross KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossKv {
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a key head.
    pub k_dim: usize,
    /// Width of a value head.
    pub v_dim: usize,
    /// Rows that an entry has room for.
    pub rows: usize,
}

/// Scaled dot-product attention of every token to all rows of its sequence's entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossAttentionSpec {
    /// Query heads; a multiple of the key/value heads of `source`.
    pub heads: usize,
    /// Multiplies q·k.
    pub scale: f32,
    /// Keys and values.
    pub source: CrossKvId,
}

impl std::fmt::Display for CrossAttentionSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "heads={} source={}", self.heads, self.source.0)
    }
}
