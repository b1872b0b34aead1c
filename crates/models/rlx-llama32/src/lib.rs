//! Llama 3.x, SmolLM2 and every GGUF of architecture `llama`.
//!
//! The decoder that the others are described against (Touvron et al. 2023; Llama team 2024): RMSNorm before each block,
//! grouped-query attention with rotary positions, SwiGLU. Llama 3 scales its rotary frequencies in three bands; SmolLM2
//! (Allal et al. 2025) is the same model at other sizes.

mod builder;
mod config;
mod weights;

pub use config::Llama32Config;

use rlx_core::{DecoderFamily, Family, Runner, Task};

/// The family.
#[derive(Clone, Copy, Debug)]
pub struct Llama32;

impl DecoderFamily for Llama32 {
    const FAMILY: Family = Family {
        name: "llama32",
        about: "Llama 2 and 3.x, SmolLM2, and every GGUF of architecture llama",
        gguf_architectures: &["llama"],
        hf_model_types: &["llama"],
        task: Task::Decoder {
            load: builder::load,
            to_gguf: |checkpoint| Llama32Config::from_checkpoint(checkpoint)?.to_gguf(),
        },
    };
}

/// Runs Llama models: `Llama32Runner::builder().weights("model.gguf").build()?`.
pub type Llama32Runner = Runner<Llama32>;
