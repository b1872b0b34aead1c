//! MiniCPM5.
//!
//! Its checkpoints are Llama's: `model_type` and `general.architecture` say `llama`, so configs, names and mathematics are those
//! of [`rlx_llama32`]. What is its own is the chat template, which comes with the checkpoint and is rendered as any other.
//!
//! Since a file does not tell it from a Llama, `rlx-run auto` runs it as one, with the same result.

use rlx_core::{DecoderFamily, Family, Runner};
use rlx_llama32::Llama32;

/// The family.
#[derive(Clone, Copy, Debug)]
pub struct MiniCpm5;

impl DecoderFamily for MiniCpm5 {
    const FAMILY: Family = Family { name: "minicpm5", about: "MiniCPM5 (Llama-shaped)", ..Llama32::FAMILY };
}

/// Runs MiniCPM5 models: `MiniCpm5Runner::builder().weights("model.gguf").build()?`.
pub type MiniCpm5Runner = Runner<MiniCpm5>;
