//! Gemma 1, 2, 3 and 4.
//!
//! Llama's decoder with a GELU gate, embeddings scaled by `sqrt(hidden_size)`, and norms that multiply by `1 + weight`
//! (Gemma team 2024). Gemma 2 normalises what each block gives as well as what it takes, caps attention scores and logits,
//! and lets every other layer see a sliding window only (Gemma team 2024b). Gemma 3 drops the caps for norms on queries and
//! keys, and has five windowed layers, which turn by a RoPE of their own, to each that sees everything (Gemma team 2025). Gemma 4
//! multiplies norms by their weight as others do, normalises values too, and adds, model by model: a second embedding of each token
//! for every layer, late layers that see the keys and values of earlier ones, keys as values, and experts beside the
//! feed-forward.

mod builder;
mod config;
mod gemma4;
mod gguf;
mod weights;

pub use config::{GemmaConfig, Generation};
pub use gemma4::{Gemma4Config, Gemma4Layer, Gemma4Moe};

use rlx_core::{DecoderFamily, Family, Runner, Task};

/// The family.
#[derive(Clone, Copy, Debug)]
pub struct Gemma;

impl DecoderFamily for Gemma {
    const FAMILY: Family = Family {
        name: "gemma",
        about: "Gemma 1, 2, 3 and 4",
        gguf_architectures: &["gemma4", "gemma3", "gemma2", "gemma"],
        hf_model_types: &["gemma4_text", "gemma4", "gemma3_text", "gemma3", "gemma2", "gemma"],
        task: Task::Decoder { load: builder::load, to_gguf: builder::to_gguf },
    };
}

/// Runs Gemma models: `GemmaRunner::builder().weights("model.gguf").build()?`.
pub type GemmaRunner = Runner<Gemma>;
