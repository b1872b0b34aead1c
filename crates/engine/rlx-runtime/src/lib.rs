//! Devices, compilation, sessions, KV cache and state of the RLX engine.
//!
//! [`compile`] turns a graph and its weights into an [`Executable`] for one [`Device`]; a [`Session`] holds what changes
//! while a model runs: the KV caches of any number of sequences, in blocks that sequences with a common prefix share.

mod backend;
mod blocks;
mod cpu;
mod cross;
mod device;
mod error;
mod options;
mod session;
mod snapshot;

pub use backend::{Executable, InputData, ParamData, ParamSource, Span, State, Step, StepProfile};
pub use cross::{CrossCache, CrossEntry, CrossStore};
pub use device::Device;
pub use error::RuntimeError;
pub use options::{CompileOptions, KvType, Precision, SessionOptions};
pub use rlx_cpu::{CrossRef, Isa, Limits, MemoryProbe};
pub use session::{Entry, Logits, SequenceId, Session};

use std::sync::Arc;

/// Compiles `graph` for `options.device`: optimises it, takes every parameter from `params`, and packs the weights.
///
/// # Errors
/// If the device is not there, a parameter is missing or of the wrong shape, or a type has no kernel.
pub fn compile(
    graph: rlx_ir::Graph,
    params: &mut dyn ParamSource,
    options: &CompileOptions,
) -> Result<Arc<dyn Executable>, RuntimeError> {
    let graph = rlx_opt::optimise(graph)?;
    match options.device {
        Device::Cpu => Ok(Arc::new(cpu::CpuExecutable::compile(graph, params, options)?)),
    }
}

/// `ln(sum(e^logits))`, given the largest of them, by the best instructions that this machine has: see [`rlx_cpu::math::log_sum_exp`].
pub fn log_sum_exp(logits: &[f32], max: f32) -> f32 {
    static BEST: std::sync::LazyLock<Isa> = std::sync::LazyLock::new(Isa::detect);
    rlx_cpu::math::log_sum_exp(*BEST, logits, max)
}
