//! NomicBERT (Nussbaum et al. 2024): the encoder of nomic-embed-text v1 and v1.5.
//!
//! A BERT with rotary positions in place of learned ones, so that it reaches 8,192 tokens, and SwiGLU in place of GELU:
//! `fc2(fc11(x) * silu(fc12(x)))`. Layers are normalised after each residual addition; linears have no biases.
//!
//! `rlx-embed` makes vectors of texts with it.

mod builder;
mod config;
mod weights;

pub use builder::encoder;
pub use config::NomicBertConfig;

use rlx_core::encoder::Encoder;
use rlx_core::{Family, GgufForm, Task};
use rlx_flow::Taps;

/// The family.
pub const FAMILY: Family = Family {
    name: "nomic",
    about: "NomicBERT v1 and v1.5: embeddings of long texts",
    gguf_architectures: &["nomic-bert"],
    hf_model_types: &["nomic_bert"],
    task: Task::Network {
        check: |checkpoint| NomicBertConfig::from_checkpoint(checkpoint).map(drop),
        forward: |checkpoint, options, inputs, trace| {
            Encoder::load(checkpoint, encoder(checkpoint, Taps::Hidden)?, &options.compile)?.forward(inputs, trace)
        },
        gguf: Some(GgufForm {
            stored: |checkpoint| {
                let config = NomicBertConfig::from_checkpoint(checkpoint)?;
                let mut header = config.to_gguf()?;
                header.set_pooling(checkpoint, config.hidden_size)?;
                Ok(encoder(checkpoint, Taps::None)?.stored(header))
            },
            without: &[],
        }),
    },
};
