//! Qwen3, Qwen2.5 and Qwen2.
//!
//! Qwen2 (Yang et al. 2024) is Llama's decoder with biases on the query, key and value projections. Qwen3 (Qwen team 2025)
//! drops the biases and normalises every query and key head before RoPE instead. Long contexts are reached by YaRN, and Qwen2
//! can be told to use a sliding window from some layer on.

mod builder;
mod config;
mod weights;

pub use config::Qwen3Config;

use rlx_core::{DecoderFamily, Family, Runner};

/// The family.
#[derive(Clone, Copy, Debug)]
pub struct Qwen3;

impl DecoderFamily for Qwen3 {
    const FAMILY: Family = Family {
        name: "qwen3",
        about: "Qwen3, Qwen2.5 and Qwen2",
        gguf_architectures: &["qwen3", "qwen2"],
        hf_model_types: &["qwen3", "qwen2"],
        load: builder::load,
    };
}

/// Runs Qwen models: `Qwen3Runner::builder().weights("model.gguf").build()?`.
pub type Qwen3Runner = Runner<Qwen3>;
