//! The cross KV cache: what one program leaves for another.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rlx_ir::{CrossKv, Dim, Graph, Op};

use super::CpuError;
use super::kv::KvStore;
use super::spans::SpanTable;
use crate::attention::{KvDType, KvLayout, SeqSpan};

/// A cross KV cache (see [`rlx_ir::CrossKv`]), which programs that declare the same layers share. Each entry is one block.
pub struct CpuCrossCache {
    layers: Vec<CrossKv>,
    store: Mutex<KvStore>,
}

/// The entry of the cross KV cache that a sequence writes or reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossRef {
    /// Its number.
    pub entry: u32,
    /// Rows it holds.
    pub rows: usize,
}

impl CpuCrossCache {
    /// An empty cache for the layers that `graph` declares.
    pub fn new(graph: &Graph, dtype: KvDType) -> CpuCrossCache {
        let layers = graph.cross_kvs().to_vec();
        let layouts = layers.iter().map(|kv| KvLayout {
            dtype,
            kv_heads: kv.kv_heads,
            k_dim: kv.k_dim,
            v_dim: kv.v_dim,
            block_len: kv.rows,
        });
        let store = Mutex::new(KvStore::of(layouts.collect()));
        CpuCrossCache { layers, store }
    }

    /// Makes entries `0..count` usable.
    pub fn reserve(&self, count: usize) {
        self.lock().reserve(count);
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> usize {
        let store = self.lock();
        store.block_count() * store.block_bytes()
    }

    /// Whether `graph` declares the layers of this cache.
    pub fn fits(&self, graph: &Graph) -> bool {
        self.layers == graph.cross_kvs()
    }

    /// The memory, for the length of a run.
    pub(super) fn lock(&self) -> MutexGuard<'_, KvStore> {
        // A run that panicked leaves entries half written, which is what entries are before they are written.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sequences of a run as cross-attention sees them: with the block of their entry.
pub(super) struct CrossSpans<'a> {
    /// By the rows they are counted in, and whether they write.
    spans: Vec<(Dim, bool, Vec<SeqSpan<'a>>)>,
}

impl<'a> CrossSpans<'a> {
    /// Checks `refs`, one for each sequence, against the graph and the cache.
    pub(super) fn new(
        graph: &Graph,
        refs: &'a [CrossRef],
        cache: Option<&KvStore>,
        table: &SpanTable<'_>,
    ) -> Result<CrossSpans<'a>, CpuError> {
        let mut found = CrossSpans { spans: vec![] };
        for node in graph.nodes() {
            let (source, writes) = match &node.op {
                Op::StoreCrossKv(source) => (source, true),
                Op::CrossAttention(spec) | Op::CrossWeights { spec, .. } => (&spec.source, false),
                _ => continue,
            };
            let fail = |what: String| Err(CpuError::Span(format!("of {}: {what}", node.label)));
            let Some(cache) = cache else { return fail("there is no cross KV cache".into()) };
            let shape = &graph.value(node.inputs[0]).shape;
            let (dim, spans) = (shape.dims()[0], table.of(shape));
            if spans.len() != refs.len() {
                return fail(format!("{} sequences with {} entries of the cross KV cache", spans.len(), refs.len()));
            }
            let room = cache.layouts[source.index()].block_len;
            let mut written = HashSet::new();
            for (span, of) in spans.iter().zip(refs) {
                if of.entry as usize >= cache.block_count() || of.rows > room || of.rows == 0 {
                    return fail(format!("{} rows of entry {} in the cross KV cache", of.rows, of.entry));
                }
                if writes && (span.len != of.rows || !written.insert(of.entry)) {
                    return fail(format!("{} rows are no entry of {} that nobody else writes", span.len, of.rows));
                }
            }
            if found.get(dim, writes).is_none() {
                found.spans.push((dim, writes, with_entries(spans, refs, writes)));
            }
        }
        Ok(found)
    }

    /// The sequences in rows of `dim`, as they write or read.
    pub(super) fn get(&self, dim: Dim, writes: bool) -> Option<&[SeqSpan<'a>]> {
        let found = self.spans.iter().find(|(known, w, _)| *known == dim && *w == writes);
        found.map(|(_, _, spans)| spans.as_slice())
    }
}

/// Each sequence with its entry for a block. Neighbours that read one entry become one, so that it is gone through once for all.
fn with_entries<'a>(spans: &[SeqSpan<'_>], refs: &'a [CrossRef], writes: bool) -> Vec<SeqSpan<'a>> {
    let mut out: Vec<SeqSpan<'a>> = Vec::with_capacity(spans.len());
    for (span, of) in spans.iter().zip(refs) {
        let past = if writes { 0 } else { of.rows };
        let blocks = std::slice::from_ref(&of.entry);
        match out.last_mut() {
            Some(last)
                if !writes && last.blocks == blocks && last.start + last.len == span.start && last.past == past =>
            {
                last.len += span.len;
            }
            _ => out.push(SeqSpan { start: span.start, len: span.len, past, blocks }),
        }
    }
    out
}
