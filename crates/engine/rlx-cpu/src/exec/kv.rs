//! The memory of the KV cache: blocks of a fixed number of tokens over all layers.

use rlx_ir::Graph;
use rlx_mem::AlignedBuf;

use crate::attention::{KvDType, KvLayerView, KvLayout};

/// Blocks of KV memory. Block `b` of layer `l` lies at `layer_offsets[l]` in the buffer of block `b`.
pub(crate) struct KvStore {
    pub(crate) layouts: Vec<KvLayout>,
    pub(crate) layer_offsets: Vec<usize>,
    block_bytes: usize,
    buffers: Vec<AlignedBuf<u8>>,
    pointers: Vec<*mut u8>,
}

// SAFETY: `pointers` point into `buffers`, which this store owns; they are only followed while it is borrowed.
unsafe impl Send for KvStore {}

impl KvStore {
    /// An empty store for the caches of `graph`.
    pub(crate) fn new(graph: &Graph, dtype: KvDType, block_len: usize) -> KvStore {
        let layouts: Vec<KvLayout> = graph
            .caches()
            .iter()
            .map(|cache| KvLayout {
                dtype,
                kv_heads: cache.kv_heads,
                k_dim: cache.k_dim,
                v_dim: cache.v_dim,
                block_len,
            })
            .collect();
        KvStore::of(layouts)
    }

    /// An empty store for blocks that hold one of each of `layouts`.
    pub(crate) fn of(layouts: Vec<KvLayout>) -> KvStore {
        let mut block_bytes = 0;
        let layer_offsets = layouts
            .iter()
            .map(|layout| {
                let offset = block_bytes;
                block_bytes += layout.bytes_per_block().next_multiple_of(64);
                offset
            })
            .collect();
        KvStore { layouts, layer_offsets, block_bytes, buffers: vec![], pointers: vec![] }
    }

    /// Tokens per block of the first layer: of every layer, but where each has room for its own.
    pub(crate) fn block_len(&self) -> usize {
        self.layouts.first().map_or(1, |layout| layout.block_len)
    }

    pub(crate) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    pub(crate) fn block_count(&self) -> usize {
        self.buffers.len()
    }

    /// Makes blocks `0..count` usable.
    pub(crate) fn reserve(&mut self, count: usize) {
        while self.buffers.len() < count {
            let buffer = AlignedBuf::zeroed(self.block_bytes);
            self.buffers.push(buffer);
            if let Some(last) = self.buffers.last_mut() {
                self.pointers.push(last.as_mut_ptr());
            }
        }
    }

    pub(crate) fn copy(&mut self, from: u32, to: u32) {
        if let Ok([from, to]) = self.buffers.get_disjoint_mut([from as usize, to as usize]) {
            to.copy_from_slice(from);
        }
    }

    pub(crate) fn block(&self, id: u32) -> &[u8] {
        &self.buffers[id as usize]
    }

    pub(crate) fn block_mut(&mut self, id: u32) -> &mut [u8] {
        &mut self.buffers[id as usize]
    }

    /// Each layer's cache, to be read and written by the kernels of a run.
    pub(crate) fn views(&mut self) -> Vec<KvLayerView<'_>> {
        let layers = self.layouts.iter().zip(&self.layer_offsets);
        // SAFETY: the blocks are this store's, zeroed when made, large enough for the layers at their offsets, and borrowed
        // mutably as long as the views live.
        layers.map(|(&layout, &offset)| unsafe { KvLayerView::new(layout, &self.pointers, offset) }).collect()
    }
}
