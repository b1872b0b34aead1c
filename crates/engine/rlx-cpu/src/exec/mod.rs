//! The executor: a compiled graph, the state it runs in, and the loop that runs it.
//!
//! A run is one job of the thread pool. Every thread walks the same steps, takes its share of each, and meets the others
//! at a barrier after it.

mod cross;
mod explain;
mod kernel;
mod kv;
mod program;
mod run;
mod spans;
mod state;

pub use cross::{CpuCrossCache, CrossRef};
pub use explain::StepTimes;
pub use program::{CpuOptions, CpuProgram, WeightData};
pub use run::Input;
pub use state::CpuState;

use crate::IsaError;
use crate::linear::LinearError;

/// What can go wrong in the CPU backend.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CpuError {
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Plan(#[from] rlx_opt::PlanError),
    #[error(transparent)]
    Graph(#[from] rlx_ir::IrError),
    #[error("parameter {name}: {source}")]
    Pack { name: String, source: LinearError },
    #[error("parameter {name}: {what}")]
    Param { name: String, what: String },
    #[error("input {name}: {what}")]
    Input { name: String, what: String },
    #[error("sequence span {0}")]
    Span(String),
    #[error("no output number {0}")]
    Output(usize),
}
