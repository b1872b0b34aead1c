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
pub use rlx_cpu::{CrossRef, Isa, Limits};
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
