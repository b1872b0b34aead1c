//! The commands that every program with a registry gets.

mod check;
mod convert;
mod devices;
mod fetch;
mod inspect;
mod models;
mod quantize;
mod synth;
mod wer;

use crate::app::{Registry, Runner};

/// Registers the commands of this crate.
pub fn register_cli(registry: &mut Registry) {
    crate::run::register(registry);
    registry
        .register(Runner::new("inspect", "Describe a checkpoint: tensors, metadata, tokenizer, memory", inspect::run))
        .register(Runner::new("check", "Tell whether a checkpoint can be run here", check::run))
        .register(Runner::new("fetch", "Bring a model into the cache", fetch::run).aliases(&["download"]))
        .register(Runner::new("models", "List the supported model families", models::run))
        .register(Runner::new("devices", "List the devices and instruction sets", devices::run))
        .register(Runner::new("convert", "Write a GGUF file of a Hugging Face checkpoint", convert::run))
        .register(Runner::new("quantize", "Write a GGUF file with smaller weights", quantize::run))
        .register(Runner::new("synth", "Write a GGUF file of a published shape with random weights", synth::run))
        .register(Runner::new("wer", "Count the errors of a transcription", wer::run));
}
