//! Qwen3, Qwen2.5 and Qwen2.
//!
//! Qwen2 (Yang et al. 2024) is Llama's decoder with biases on the query, key and value projections. Qwen3 (Qwen team 2025)
//! drops the biases and normalises every query and key head before RoPE instead. Long contexts are reached by YaRN, and Qwen2
//! can be told to use a sliding window from some layer on. Qwen3 MoE has many small feed-forwards in place of one, of which each
//! token takes eight.

mod builder;
mod config;
mod weights;

pub use config::{Qwen3Config, Qwen3Moe};

use rlx_core::{DecoderFamily, Family, Runner, Task};

/// The family.
#[derive(Clone, Copy, Debug)]
pub struct Qwen3;

impl DecoderFamily for Qwen3 {
    const FAMILY: Family = Family {
        name: "qwen3",
        about: "Qwen3 (dense and mixture of experts), Qwen2.5 and Qwen2",
        gguf_architectures: &["qwen3", "qwen3moe", "qwen2"],
        hf_model_types: &["qwen3", "qwen3_moe", "qwen2"],
        task: Task::Decoder {
            load: builder::load,
            to_gguf: |checkpoint| Qwen3Config::from_checkpoint(checkpoint)?.to_gguf(),
        },
    };
}

/// Runs Qwen models: `Qwen3Runner::builder().weights("model.gguf").build()?`.
pub type Qwen3Runner = Runner<Qwen3>;
