//! What a backend gives the runtime. Nothing here assumes that results or state lie in host memory.

use std::sync::Arc;

use rlx_ir::{DType, Graph, Param};
use rlx_mem::Bytes;

use crate::{CrossCache, CrossRef, CrossStore, KvType, RuntimeError, SessionOptions};

/// A parameter's data, in the checkpoint's own element type.
#[derive(Clone, Debug)]
pub struct ParamData {
    /// Element type.
    pub dtype: DType,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// The elements, little-endian.
    pub bytes: Bytes,
}

/// Gives parameters by name, once each.
pub trait ParamSource {
    /// The data of `param`. Its shape is checked by the caller.
    ///
    /// # Errors
    /// If there is no such parameter.
    fn param(&mut self, param: &Param) -> Result<ParamData, RuntimeError>;
}

impl<F: FnMut(&Param) -> Result<ParamData, RuntimeError>> ParamSource for F {
    fn param(&mut self, param: &Param) -> Result<ParamData, RuntimeError> {
        self(param)
    }
}

/// Data of one graph input.
#[derive(Clone, Copy, Debug)]
pub enum InputData<'a> {
    /// Indices.
    I32(&'a [i32]),
    /// Activations.
    F32(&'a [f32]),
}

/// The rows of a batch that belong to one sequence, and where its earlier tokens are kept.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// First row.
    pub start: usize,
    /// Number of rows: the sequence's new tokens.
    pub len: usize,
    /// Tokens of the sequence that are in the KV cache already.
    pub past: usize,
    /// Blocks of the KV cache that hold its tokens, first to last, with room for the new ones.
    pub blocks: &'a [u32],
}

/// One run of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Values of the graph's symbols. Those of derived symbols ([`Graph::windowed`]) are not looked at: they follow from the spans.
    pub bindings: &'a [usize],
    /// The graph's inputs, in its order.
    pub inputs: &'a [InputData<'a>],
    /// Which rows form sequences. Rows outside every span attend to nothing.
    pub spans: &'a [Span<'a>],
    /// The entry of the cross KV cache of each sequence, if the graph has cross-attention.
    pub cross: &'a [CrossRef],
}

/// Time spent in one step of the plan, summed over runs.
#[derive(Clone, Debug, PartialEq)]
pub struct StepProfile {
    /// The op.
    pub op: &'static str,
    /// Where it stands in the model.
    pub label: String,
    /// Its kernel and shapes.
    pub detail: String,
    /// How often it ran.
    pub runs: u64,
    /// Seconds in all.
    pub seconds: f64,
    /// Bytes of weights that one run reads.
    pub weight_bytes: usize,
}

/// A compiled model: the plan and the packed weights. Shared by any number of sessions.
pub trait Executable: Send + Sync {
    /// The optimised graph.
    fn graph(&self) -> &Graph;
    /// Size of the packed weights.
    fn weight_bytes(&self) -> usize;
    /// Bytes of weights that are read for one token: of experts those that it takes, of tables that are looked up in nothing.
    fn weight_bytes_per_token(&self) -> usize;
    /// Instruction set, threads and precision in a few words.
    fn describe(&self) -> String;
    /// The plan as text: steps, kernels, buffers, bytes, for the given bindings.
    ///
    /// # Errors
    /// If a symbol is unbound.
    fn explain(&self, bindings: &[usize]) -> Result<String, RuntimeError>;
    /// Fresh state: working memory and an empty KV cache; and the cross KV cache that the graph writes or reads, if it does.
    ///
    /// # Errors
    /// If the options do not fit the device, or the cross KV cache is another model's or another device's.
    fn new_state(&self, options: &SessionOptions, cross: Option<&CrossCache>) -> Result<Box<dyn State>, RuntimeError>;
    /// Memory for the cross KV cache that the graph declares; see [`CrossCache::new`].
    fn new_cross_store(&self, kv_type: KvType) -> Arc<dyn CrossStore>;
}

/// What changes while a model runs: working memory and the blocks of the KV cache.
///
/// A block holds `block_len` tokens of every layer; who owns which block is the session's business.
pub trait State: Send {
    /// Runs the graph once.
    ///
    /// # Errors
    /// If inputs do not fit the graph.
    fn run(&mut self, step: &Step<'_>) -> Result<(), RuntimeError>;
    /// Output number `index` of the last run, where the state has it: a device brings outputs to the host as it ends a run.
    ///
    /// # Errors
    /// If there is no such output, or no run came to its end.
    fn output(&self, index: usize) -> Result<&[f32], RuntimeError>;
    /// As [`State::output`], to be changed.
    ///
    /// # Errors
    /// As there.
    fn output_mut(&mut self, index: usize) -> Result<&mut [f32], RuntimeError>;
    /// Copies output number `index` of the last run into `out`, whose earlier content is replaced.
    ///
    /// # Errors
    /// As [`State::output`].
    fn read_output(&self, index: usize, out: &mut Vec<f32>) -> Result<(), RuntimeError> {
        let data = self.output(index)?;
        out.clear();
        out.extend_from_slice(data);
        Ok(())
    }
    /// Makes blocks `0..count` usable.
    fn reserve_blocks(&mut self, count: usize);
    /// Copies block `from` over block `to`.
    fn copy_block(&mut self, from: u32, to: u32);
    /// Bytes of one block over all layers.
    fn block_bytes(&self) -> usize;
    /// Appends the content of block `id` to `out`.
    fn export_block(&mut self, id: u32, out: &mut Vec<u8>);
    /// Fills block `id` with `data` of [`State::block_bytes`] bytes.
    fn import_block(&mut self, id: u32, data: &[u8]);
    /// Starts or ends the recording of times per step.
    fn set_profiling(&mut self, on: bool);
    /// Times recorded since profiling was turned on.
    fn profile(&self) -> Vec<StepProfile>;
    /// Bytes of working memory and KV cache.
    fn bytes(&self) -> usize;
}
