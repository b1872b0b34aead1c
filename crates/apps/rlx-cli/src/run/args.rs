//! Arguments of commands that run models, beside those of [`crate::args`].

use std::path::PathBuf;
use std::process::ExitCode;

use rlx_core::{LoadOptions, Trace};
use rlx_runtime::{CompileOptions, Device, Isa, KvType, SessionOptions, StepProfile};
use serde_json::json;

use super::report::{profile_table, titled};
use crate::args::{ModelArgs, PrecisionArg, QuantArgs, values};
use crate::context::Context;

/// Element type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KvArg {
    /// Exact
    F32,
    /// Half the size
    F16,
    /// A quarter of the size, slightly less exact
    Q8,
}

impl From<KvArg> for KvType {
    fn from(arg: KvArg) -> KvType {
        match arg {
            KvArg::F32 => KvType::F32,
            KvArg::F16 => KvType::F16,
            KvArg::Q8 => KvType::Q8,
        }
    }
}

/// How sequences are kept.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct KvArgs {
    /// Element type of the KV cache [default: f16]
    #[arg(long, value_enum)]
    pub kv_type: Option<KvArg>,
}

impl KvArgs {
    /// The element type.
    pub fn kv_type(&self) -> KvType {
        self.kv_type.map_or(SessionOptions::default().kv_type, KvType::from)
    }
}

/// What to tell of the networks that a command runs, in every command that runs one; on stderr, so that the result can be piped on.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct PlanArgs {
    /// Tell on stderr where the time went, per op, for each network of the model
    #[arg(long)]
    pub profile: bool,
    /// Tell on stderr the compiled plan: steps, kernels, buffers, bytes; where no input is given, as the answer
    #[arg(long)]
    pub explain: bool,
}

impl PlanArgs {
    /// Tells a plan that [`explain`](super::report::explain) makes, if it is asked for.
    ///
    /// # Errors
    /// Those of `plan`.
    pub fn note_plan(&self, ctx: &Context<'_>, plan: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
        if self.explain {
            ctx.note(plan()?.trim_end());
        }
        Ok(())
    }

    /// Gives a plan as the answer of a command that has nothing to run.
    ///
    /// # Errors
    /// Those of `plan`, and as [`Context::print`].
    pub fn answer_plan(
        &self,
        ctx: &Context<'_>,
        plan: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<ExitCode> {
        let plan = plan()?;
        match ctx.mode().json {
            true => ctx.print_json(&json!({ "plan": plan }))?,
            false => ctx.print(&plan)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Tells where the time of a network went, if it is asked for.
    pub fn note_profile(&self, ctx: &Context<'_>, title: &str, steps: &[StepProfile]) {
        if self.profile {
            ctx.note(profile_table(title, steps).trim_end());
        }
    }

    /// What a forward pass is to record.
    pub fn trace(&self) -> Trace {
        Trace { profile: self.profile, explain: self.explain, networks: vec![] }
    }

    /// Tells what a forward pass has recorded.
    pub fn note_trace(&self, ctx: &Context<'_>, trace: &Trace) {
        for network in &trace.networks {
            if let Some(plan) = &network.plan {
                ctx.note(titled(&network.name, plan).trim_end());
            }
            self.note_profile(ctx, &network.name, &network.profile);
        }
    }
}

/// What to tell of the run of a language model besides its result; all of it on stderr.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct ReportArgs {
    /// Tell times, rates and memory
    #[arg(long)]
    pub timing: bool,
    /// What to tell of its networks.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// How to run a model whose numbers are compared: exactly, unless told otherwise.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ExactArgs {
    /// Where to run: `rlx-run devices` lists what is built in
    #[arg(long, default_value = "cpu", value_parser = values::device)]
    pub device: Device,
    /// Threads [default: all processors]
    #[arg(long, short = 't', value_name = "N", value_parser = values::at_least_one)]
    pub threads: Option<usize>,
    /// How exactly to compute
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionArg,
    /// Instruction set of the kernels: auto, scalar, neon, avx2, avx512, amx
    #[arg(long, default_value = "auto", value_parser = values::isa)]
    pub isa: Isa,
    /// Element type of the KV cache
    #[arg(long, value_enum, default_value = "f32")]
    pub kv_type: KvArg,
}

impl ExactArgs {
    /// Device, threads, kernels.
    pub fn load_options(&self) -> LoadOptions {
        let precision = self.precision.into();
        let threads = self.threads.unwrap_or(CompileOptions::default().threads);
        let compile = CompileOptions { device: self.device, threads, isa: self.isa, precision };
        LoadOptions { compile, ..LoadOptions::default() }
    }
}

/// How to load a language model, from the arguments that say so.
pub fn load_options(model: &ModelArgs, quant: &QuantArgs, chat_template: Option<String>) -> LoadOptions {
    LoadOptions {
        open: quant.open_options(),
        compile: model.compile_options(),
        tokenizer: model.tokenizer.clone(),
        chat_template,
        ..LoadOptions::default()
    }
}

/// `--weights PATH`, or PATH on its own.
///
/// # Errors
/// If both are given.
pub fn merge_path(model: &mut ModelArgs, path: Option<PathBuf>) -> anyhow::Result<()> {
    match (path, &model.weights) {
        (Some(_), Some(_)) => Err(crate::UsageError("the weights are given twice".to_owned()).into()),
        (Some(path), None) => {
            model.weights = Some(path);
            Ok(())
        }
        (None, _) => Ok(()),
    }
}
