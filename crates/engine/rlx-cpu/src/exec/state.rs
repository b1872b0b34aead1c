//! What changes while a program runs: the arena, scratch memory, the KV cache.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rlx_mem::AlignedBuf;
use rlx_opt::MemoryPlan;

use super::kv::KvStore;
use super::program::SharedProgram;
use super::{CpuCrossCache, CpuError, CpuProgram};
use crate::WorkCounter;
use crate::attention::KvDType;

/// Memory plans kept per binding; prompts of many lengths would otherwise gather them without end.
const MAX_PLANS: usize = 64;

/// The state of one session on a [`CpuProgram`].
pub struct CpuState {
    pub(super) program: SharedProgram,
    pub(super) plans: HashMap<Vec<usize>, Arc<MemoryPlan>>,
    pub(super) current: Option<Arc<MemoryPlan>>,
    pub(super) arena: AlignedBuf<f32>,
    pub(super) scratch: AlignedBuf<u8>,
    pub(super) kv: KvStore,
    pub(super) cross: Option<Arc<CpuCrossCache>>,
    /// Counters of a step and of the next: they take turns.
    pub(super) counters: [[WorkCounter; 2]; 2],
    pub(super) times: Option<Vec<(u64, Duration)>>,
}

impl CpuState {
    /// Fresh state with a KV cache of the given type and block length.
    pub fn new(program: Arc<CpuProgram>, kv: KvDType, block_len: usize) -> CpuState {
        let kv = KvStore::new(&program.graph, kv, block_len);
        let counter = || WorkCounter::new(program.pool.threads());
        CpuState {
            counters: [[counter(), counter()], [counter(), counter()]],
            program,
            plans: HashMap::new(),
            current: None,
            arena: AlignedBuf::zeroed(0),
            scratch: AlignedBuf::zeroed(0),
            kv,
            cross: None,
            times: None,
        }
    }

    /// The same state, which keeps its cross-attention's keys and values in `cache`, or finds them there.
    ///
    /// # Errors
    /// If the cache is of other sizes.
    pub fn with_cross_cache(mut self, cache: Arc<CpuCrossCache>) -> Result<CpuState, CpuError> {
        if !cache.fits(&self.program.graph) {
            return Err(CpuError::Span("of another model's cross KV cache".into()));
        }
        self.cross = Some(cache);
        Ok(self)
    }

    /// The memory plan for `bindings`, made on first use.
    pub(super) fn plan(&mut self, bindings: &[usize]) -> Result<Arc<MemoryPlan>, CpuError> {
        if let Some(plan) = self.plans.get(bindings) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(MemoryPlan::new(&self.program.graph, bindings)?);
        if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
        }
        self.plans.insert(bindings.to_vec(), Arc::clone(&plan));
        Ok(plan)
    }

    /// Output number `index` of the last run.
    ///
    /// # Errors
    /// If there is no such output, or nothing has run.
    pub fn output(&self, index: usize) -> Result<&[f32], CpuError> {
        Ok(&self.arena[self.output_place(index)?])
    }

    /// As [`CpuState::output`], to be changed until the next run.
    ///
    /// # Errors
    /// As there.
    pub fn output_mut(&mut self, index: usize) -> Result<&mut [f32], CpuError> {
        let place = self.output_place(index)?;
        Ok(&mut self.arena[place])
    }

    /// Where in the arena an output is.
    fn output_place(&self, index: usize) -> Result<Range<usize>, CpuError> {
        let (_, value) = self.program.graph.outputs().get(index).ok_or(CpuError::Output(index))?;
        let plan = self.current.as_ref().ok_or(CpuError::Output(index))?;
        let start = plan.offsets[value.index()] / 4;
        Ok(start..start + plan.elements[value.index()])
    }

    /// Makes KV blocks `0..count` usable.
    pub fn reserve_blocks(&mut self, count: usize) {
        self.kv.reserve(count);
    }

    /// Copies KV block `from` over block `to`.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        self.kv.copy(from, to);
    }

    /// Bytes of a KV block over all layers.
    pub fn block_bytes(&self) -> usize {
        self.kv.block_bytes()
    }

    /// Content of KV block `id`.
    pub fn block(&self, id: u32) -> &[u8] {
        self.kv.block(id)
    }

    /// Content of KV block `id`, to be filled.
    pub fn block_mut(&mut self, id: u32) -> &mut [u8] {
        self.kv.block_mut(id)
    }

    /// Starts (or ends) the recording of times per step.
    pub fn set_profiling(&mut self, on: bool) {
        self.times = on.then(|| vec![(0, Duration::ZERO); self.program.graph.nodes().len()]);
    }

    /// Bytes of arena, scratch and KV cache.
    pub fn bytes(&self) -> usize {
        self.arena.len() * 4 + self.scratch.len() + self.kv.block_count() * self.kv.block_bytes()
    }
}
