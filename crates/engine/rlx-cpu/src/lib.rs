//! CPU backend of RLX: kernels per instruction set behind one dispatch, thread pool, executor.

#[cfg(all(feature = "emulate-amx", target_arch = "x86_64", target_os = "linux"))]
mod amx_emulator;
pub mod attention;
mod calls;
pub mod conv;
mod exec;
mod isa;
mod limits;
mod linear;
pub mod math;
pub mod moe;
mod pool;
pub mod rows;
mod shared;
mod work;

pub use attention::{KvDType, SeqSpan};
pub use exec::{CpuCrossCache, CpuError, CpuOptions, CpuProgram, CpuState, CrossRef, Input, StepTimes, WeightData};
pub use isa::{Isa, IsaError};
pub use limits::{Limits, MemoryProbe};
pub use linear::{
    Epilogue, Layout, LinearArgs, LinearError, LinearPart, LinearShape, PackedMatrix, Precision, Prologue, RowsIn,
    RowsOut, linear, scratch_bytes,
};
pub use pool::{ThreadCtx, ThreadPool};
pub use shared::SharedSlice;
pub use work::WorkCounter;
