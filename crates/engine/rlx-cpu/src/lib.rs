//! CPU backend of RLX: kernels per instruction set behind one dispatch, thread pool, executor.

mod isa;
mod pool;
mod shared;

pub use isa::{Isa, IsaError};
pub use pool::{ThreadCtx, ThreadPool, WorkCounter};
pub use shared::SharedSlice;
