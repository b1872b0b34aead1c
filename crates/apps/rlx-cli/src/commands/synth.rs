//! `synth`: write a GGUF file of a published shape with random weights.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::json;

use crate::args::{OutputArgs, values};
use crate::context::Context;
use crate::error::UsageError;
use crate::synth::{FileType, SHAPES, Shape, write};
use crate::text::bytes;

/// Write a GGUF file with the shape of a published model and random weights, for benchmarks and tests. llama.cpp loads
/// it too: metadata, mix of tensor types and vocabulary size are those of a converted model; the vocabulary itself is a
/// dummy. Weights are normal, scaled so that activations stay of order one; each row is put together from random
/// chunks of 256, quantised as ggml's reference quantiser does it. The same shape and seed give the same model in
/// every type.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run synth qwen3-0.6b --type Q4_K_M --out qwen3-0.6b-q4_k_m.gguf
  rlx-run synth llama-3.2-1b --type F16 --layers 2 --out small.gguf")]
struct Args {
    /// Published model whose shape the file gets
    #[arg(value_parser = shape_parser(), ignore_case = true)]
    shape: Shape,
    /// Type of the file
    #[arg(long = "type", value_name = "TYPE", value_parser = values::file_type(), ignore_case = true, default_value = "Q4_K_M")]
    file_type: FileType,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Fewer layers than the published model has
    #[arg(long)]
    layers: Option<usize>,
    #[command(flatten)]
    output: OutputArgs,
}

fn shape_parser() -> impl TypedValueParser<Value = Shape> {
    let values = SHAPES.iter().map(|shape| PossibleValue::new(shape.name).help(shape.title));
    PossibleValuesParser::new(values).try_map(|name| Shape::named(&name).cloned().ok_or("no such shape"))
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let mut args: Args = ctx.parse(args)?;
    if let Some(layers) = args.layers {
        let published = args.shape.num_hidden_layers;
        if layers == 0 || layers > published {
            let name = args.shape.name;
            return Err(UsageError(format!("--layers {layers}: {name} has 1 to {published} layers")).into());
        }
        args.shape = args.shape.with_layers(layers);
    }
    let summary = write(&args.shape, args.file_type, args.seed, &args.out)?;
    if args.output.json {
        let types: serde_json::Map<_, _> =
            summary.types.iter().map(|(dtype, count)| (dtype.to_string(), (*count).into())).collect();
        ctx.print_json(&json!({
            "path": args.out.to_string_lossy(),
            "shape": args.shape.name,
            "type": args.file_type.name(),
            "seed": args.seed,
            "bytes": summary.bytes,
            "parameters": summary.parameters,
            "tensors": summary.tensors,
            "types": types,
        }))?;
    } else {
        let types: Vec<String> = summary.types.iter().map(|(dtype, count)| format!("{dtype} {count}")).collect();
        ctx.note(&format!(
            "{}, {} parameters; tensors: {}",
            bytes(summary.bytes),
            summary.parameters,
            types.join(", ")
        ));
        ctx.print(&format!("{}\n", args.out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
