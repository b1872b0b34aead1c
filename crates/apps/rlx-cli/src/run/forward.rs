//! `forward`: one run on named tensors.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use rlx_core::{ForwardOptions, forward, read_tensors, write_tensors};
use rlx_weights::Checkpoint;
use serde_json::json;

use super::args::{ExactArgs, PlanArgs};
use crate::args::{FetchArgs, OutputArgs, QuantArgs, WeightsRef};
use crate::context::Context;

/// Run a model once on named tensors of a safetensors file (in.input_ids ...) and write its outputs (out.logits,
/// out.hidden.N ...) to another. Everything is computed in F32 unless told otherwise.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run forward --model DIR --inputs in.safetensors --outputs out.safetensors
  rlx-run forward --model model.gguf --inputs in.safetensors --outputs out.safetensors --greedy 7
  rlx-run forward --model DIR --inputs in.safetensors --outputs out.safetensors --profile --explain")]
struct Args {
    /// A .gguf or .safetensors file, a directory, one shard of a split file, a name from `rlx-run fetch --list`, or
    /// hf:OWNER/NAME[:FILE][@REVISION]
    #[arg(long, visible_alias = "weights", value_name = "PATH")]
    model: PathBuf,
    /// config.json to use instead of the one beside the weights
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Tensors to read: in.input_ids I64 [batch, tokens], and in.attention_mask where rows have padding
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// Where to write the outputs
    #[arg(long, value_name = "FILE")]
    outputs: PathBuf,
    /// Pick N more tokens greedily: out.greedy_ids, out.greedy_step_logits
    #[arg(long, value_name = "N", default_value_t = 0)]
    greedy: usize,
    #[command(flatten)]
    quant: QuantArgs,
    #[command(flatten)]
    exact: ExactArgs,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let path = WeightsRef::parse(args.model.as_os_str())?.resolve(&args.fetch.options(ctx)?, ctx)?;
    let mut checkpoint = Checkpoint::open(&path, &args.quant.open_options())?;
    if let Some(file) = &args.config {
        checkpoint = checkpoint.with_config(read_config(file)?);
    }
    let inputs = read_tensors(&args.inputs)?;
    let options = ForwardOptions { greedy: args.greedy, kv_type: args.exact.kv_type.into() };
    let families = ctx.registry().families();
    let mut trace = args.plan.trace();
    let outputs = forward(&checkpoint, families, &args.exact.load_options(), &inputs, &options, &mut trace)?;
    args.plan.note_trace(ctx, &trace);
    write_tensors(&args.outputs, &outputs)?;
    let shapes = outputs.iter().map(|(name, tensor)| (name.clone(), json!(tensor.shape)));
    if args.output.json {
        ctx.print_json(&json!({ "outputs": args.outputs, "tensors": shapes.collect::<serde_json::Map<_, _>>() }))?;
    } else {
        let rows: Vec<Vec<String>> =
            outputs.iter().map(|(name, tensor)| vec![name.clone(), format!("{:?}", tensor.shape)]).collect();
        ctx.print(&crate::text::columns(&rows, 0))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read_config(file: &Path) -> anyhow::Result<serde_json::Value> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: bad JSON", file.display()))
}
