//! The cross KV cache: keys and values that an encoder leaves for its decoder.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::blocks::BlockAllocator;
use crate::{CrossRef, Executable, KvType, RuntimeError};

/// What a backend keeps of a cross KV cache: numbered entries in the memory of its device.
pub trait CrossStore: Any + Send + Sync {
    /// Makes entries `0..count` usable.
    fn reserve(&self, count: usize);
    /// Bytes of all entries.
    fn bytes(&self) -> usize;
}

/// Keys and values of all layers for any number of encoded inputs (see [`rlx_ir::CrossKv`]). Clones are the same cache: the
/// encoder's state is made with one, the decoder's session with another.
#[derive(Clone)]
pub struct CrossCache {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn CrossStore>,
    entries: Mutex<BlockAllocator>,
    rows: usize,
}

/// An encoded input. Clones share it; with the last of them its room is free for another.
#[derive(Clone)]
pub struct CrossEntry {
    inner: Arc<Entry>,
}

struct Entry {
    cache: CrossCache,
    at: CrossRef,
}

impl CrossCache {
    /// An empty cache for the layers that the graph of `executable` declares, encoder's or decoder's.
    ///
    /// # Errors
    /// If it declares none.
    pub fn new(executable: &dyn Executable, kv_type: KvType) -> Result<CrossCache, RuntimeError> {
        let rows = executable.graph().cross_kvs().iter().map(|kv| kv.rows).min();
        let rows = rows.ok_or_else(|| RuntimeError::Cross("the graph has no cross-attention".into()))?;
        let (store, entries) = (executable.new_cross_store(kv_type), Mutex::default());
        Ok(CrossCache { inner: Arc::new(Inner { store, entries, rows }) })
    }

    /// Room for an input that the encoder makes `rows` rows of.
    ///
    /// # Errors
    /// If there are none, or more than the model takes.
    pub fn add_entry(&self, rows: usize) -> Result<CrossEntry, RuntimeError> {
        if rows == 0 || rows > self.inner.rows {
            return Err(RuntimeError::Cross(format!(
                "{rows} encoded rows: from 1 to {} are possible",
                self.inner.rows
            )));
        }
        let mut entries = self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.allocate();
        self.inner.store.reserve(entries.count());
        Ok(CrossEntry { inner: Arc::new(Entry { cache: self.clone(), at: CrossRef { entry, rows } }) })
    }

    /// The entries in the memory of the device.
    pub fn store(&self) -> &Arc<dyn CrossStore> {
        &self.inner.store
    }

    /// Entries in use.
    pub fn entries_in_use(&self) -> usize {
        self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner).in_use()
    }

    /// Bytes of all entries, free ones too.
    pub fn bytes(&self) -> usize {
        self.inner.store.bytes()
    }
}

impl CrossEntry {
    /// What a [`Step`](crate::Step) knows it by.
    pub fn at(&self) -> CrossRef {
        self.inner.at
    }

    /// Whether it lies in `cache`.
    pub fn is_of(&self, cache: &CrossCache) -> bool {
        Arc::ptr_eq(&self.inner.cache.inner, &cache.inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut entries = self.cache.inner.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.release(self.at.entry);
    }
}

impl fmt::Debug for CrossCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrossCache").field("rows", &self.inner.rows).field("in_use", &self.entries_in_use()).finish()
    }
}

impl fmt::Debug for CrossEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CrossEntry").field(&self.inner.at).finish()
    }
}
