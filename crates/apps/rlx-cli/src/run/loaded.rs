//! From arguments to a model that is ready to run.

use std::time::{Duration, Instant};

use rlx_core::fetch::{FetchOptions, ModelSource};
use rlx_core::{CausalLm, LoadOptions};
use rlx_runtime::{KvType, SessionOptions};

use super::Profile;
use super::args::KvArg;
use crate::args::{ModelArgs, QuantArgs};
use crate::context::Context;

/// Longest sequence where nothing is said.
const DEFAULT_MAX_SEQ: usize = 4096;

/// A model, and how long it took to be ready.
pub struct Loaded {
    /// The model.
    pub model: CausalLm,
    /// From opening the file to the first step.
    pub load_time: Duration,
    /// What the file beside the weights says of running it.
    pub profile: Profile,
}

/// Loads the model that the arguments name; without any, `default`. `family` is the only one allowed, if given.
///
/// # Errors
/// If it cannot be fetched, opened or loaded, or is of another family.
pub fn load(
    model: &ModelArgs,
    quant: &QuantArgs,
    fetch: &FetchOptions,
    default: Option<&'static ModelSource>,
    family: Option<&str>,
    options: &LoadOptions,
    ctx: &Context<'_>,
) -> anyhow::Result<Loaded> {
    load_model(model, quant, fetch, default, family, options, false, ctx)
}

/// As [`load`], by the [`Profile`] beside the weights in what the arguments do not say.
///
/// # Errors
/// As [`load`], and if the profile is not valid.
pub fn load_with_profile(
    model: &ModelArgs,
    quant: &QuantArgs,
    fetch: &FetchOptions,
    default: Option<&'static ModelSource>,
    family: Option<&str>,
    options: &LoadOptions,
    ctx: &Context<'_>,
) -> anyhow::Result<Loaded> {
    load_model(model, quant, fetch, default, family, options, true, ctx)
}

fn load_model(
    model: &ModelArgs,
    quant: &QuantArgs,
    fetch: &FetchOptions,
    default: Option<&'static ModelSource>,
    family: Option<&str>,
    options: &LoadOptions,
    with_profile: bool,
    ctx: &Context<'_>,
) -> anyhow::Result<Loaded> {
    let start = Instant::now();
    let checkpoint = model.open(quant, fetch, default, ctx)?;
    let families = ctx.registry().families();
    let family = match family {
        Some(name) => families.expect(name, &checkpoint)?,
        None => families.find(&checkpoint)?,
    };
    // A download is not part of loading; the header read before it ends is not worth counting.
    let start = if model.weights.is_none() { Instant::now() } else { start };
    let profile = if with_profile { Profile::beside(checkpoint.path(), family.name)? } else { Profile::default() };
    let mut options = options.clone();
    profile.apply(&mut options.compile, model);
    let loaded = CausalLm::load(&checkpoint, family, &options)?;
    Ok(Loaded { model: loaded, load_time: start.elapsed(), profile })
}

impl Loaded {
    /// Session options for sequences of at least `needed` tokens: `--max-seq` if given, else as long as need be, and at
    /// least 4096, but not beyond what the model was made for.
    pub fn session_options(
        &self,
        max_seq: Option<usize>,
        needed: usize,
        kv_type: Option<KvArg>,
        ctx: &Context<'_>,
    ) -> SessionOptions {
        let defaults = SessionOptions::default();
        let context_length = self.model.info().context_length;
        if let Some(asked) = max_seq.filter(|&asked| asked > context_length) {
            ctx.note(&format!(
                "note: --max-seq {asked} is more than the {context_length} tokens the model was made for"
            ));
        }
        let max_seq = max_seq.or(self.profile.max_seq);
        let max_seq = max_seq.unwrap_or_else(|| needed.max(DEFAULT_MAX_SEQ).min(context_length));
        let kv_type = kv_type.or(self.profile.kv_type).map_or(defaults.kv_type, KvType::from);
        let prefill_chunk = self.profile.prefill_chunk.unwrap_or(defaults.prefill_chunk);
        SessionOptions { max_seq, kv_type, prefill_chunk, ..defaults }
    }

    /// Tells what becomes of `--use-mtp`: no family here runs such heads yet, and the answer is the same without.
    pub fn note_mtp(&self, asked: bool, ctx: &Context<'_>) {
        if asked {
            ctx.note(match self.model.info().mtp_tensors {
                0 => {
                    "note: --use-mtp: the checkpoint has no multi-token-prediction heads; `--draft` takes another model"
                }
                _ => {
                    "note: --use-mtp: this family does not run its multi-token-prediction heads; the answer is the same"
                }
            });
        }
    }
}
