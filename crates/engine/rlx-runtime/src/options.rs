//! Typed options of compilation and of sessions.

use crate::{Device, Isa};

pub use rlx_cpu::{KvDType as KvType, Precision};

/// How to compile a model.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Where to run.
    pub device: Device,
    /// Threads that run the model; all processors by default.
    pub threads: usize,
    /// Instruction set of the kernels; the best the machine has by default.
    pub isa: Isa,
    /// How exactly to compute.
    pub precision: Precision,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions {
            device: Device::Cpu,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            isa: Isa::detect(),
            precision: Precision::Auto,
        }
    }
}

/// How a session keeps its state.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Longest sequence, in tokens.
    pub max_seq: usize,
    /// Element type of the KV cache; F16 by default.
    pub kv_type: KvType,
    /// Tokens per block of the KV cache.
    pub block_len: usize,
    /// Most tokens of a prompt that run at once.
    pub prefill_chunk: usize,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions { max_seq: 4096, kv_type: KvType::F16, block_len: 64, prefill_chunk: 512 }
    }
}
