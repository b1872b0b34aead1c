//! `quantize`: a GGUF file with weights of other types. What it shares with `convert` stands here too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use rlx_core::ConvertOptions;
use rlx_ir::DType;
use rlx_runtime::CompileOptions;
use rlx_weights::Checkpoint;
use rlx_weights::quantize::{FileType, Imatrix, Plan, QuantizeOptions, Summary, TensorType};
use serde_json::{Map, Value, json};

use crate::args::{FetchArgs, OutputArgs, QuantArgs, WeightsRef, values};
use crate::context::Context;
use crate::progress::FileProgress;
use crate::text::{bytes, columns};

/// Write a GGUF file with smaller weights, from a GGUF file or a Hugging Face checkpoint. Types are mixed as
/// llama.cpp's quantiser mixes them, and the blocks are the same to the last bit. The file appears when it is complete.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run quantize model-f16.gguf model-q4_k_m.gguf --type Q4_K_M
  rlx-run quantize Qwen3-0.6B/ qwen3-q8_0.gguf --type Q8_0
  rlx-run quantize in.gguf out.gguf --type Q4_K_S --imatrix in.imatrix.gguf
  rlx-run quantize in.gguf out.gguf --type Q4_K_M --tensor-type 'blk\\.[0-3]\\.ffn_down=Q8_0' --dry-run")]
struct Args {
    /// A .gguf or .safetensors file, a directory, the name of a known model, or hf:OWNER/NAME
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    output_file: PathBuf,
    /// Kind of file: one type, or a mix
    #[arg(long = "type", value_name = "TYPE", value_parser = values::file_type(), ignore_case = true, default_value = "Q4_K_M")]
    file_type: FileType,
    /// Importance matrix of llama.cpp: its GGUF or .dat file
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Type of output.weight (and of the embedding table where it stands for it)
    #[arg(long, value_name = "TYPE", value_parser = values::dtype)]
    output_type: Option<DType>,
    /// Type of the embedding table
    #[arg(long, value_name = "TYPE", value_parser = values::dtype)]
    token_embedding_type: Option<DType>,
    /// Type of the tensors whose names match a regular expression; may be given several times, the first match counts
    #[arg(long, value_name = "PATTERN=TYPE", value_parser = values::tensor_type)]
    tensor_type: Vec<TensorType>,
    /// The same type for all matrices, no mix
    #[arg(long)]
    pure: bool,
    /// Leave output.weight as it is
    #[arg(long)]
    leave_output_tensor: bool,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    quant: QuantArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// How to write a file.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct WriteArgs {
    /// Replace the file if it is there
    #[arg(long)]
    pub(super) force: bool,
    /// Only tell what would be written
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Threads [default: all processors]
    #[arg(long, short = 't', value_name = "N", value_parser = values::at_least_one)]
    pub(super) threads: Option<usize>,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let start = Instant::now();
    let path = WeightsRef::parse(args.input.as_os_str())?.resolve(&args.fetch.options(ctx)?, ctx)?;
    let checkpoint = Checkpoint::open(&path, &args.quant.open_options())?;
    let (source, mut notes) =
        rlx_core::gguf_source(&checkpoint, ctx.registry().families(), &ConvertOptions::default())?;
    let options = QuantizeOptions {
        file_type: args.file_type,
        output_type: args.output_type,
        token_embedding_type: args.token_embedding_type,
        pure: args.pure,
        leave_output: args.leave_output_tensor,
        tensor_types: args.tensor_type,
    };
    let imatrix = args.imatrix.as_deref().map(Imatrix::open).transpose()?;
    let mut plan = Plan::new(source, &options, imatrix.as_ref())?;
    if let (Some(imatrix), Some(file)) = (&imatrix, &args.imatrix) {
        imatrix.note_in(file, plan.metadata_mut());
    }
    let summary = plan.summary(imatrix.as_ref());
    if summary.requantized > 0 {
        notes.push(format!(
            "{} tensors are quantised already: what they have lost stays lost; start from F16 or BF16 if you can",
            summary.requantized
        ));
    }
    if let Some(first) = summary.without_importance.first() {
        notes.push(format!(
            "the importance matrix says nothing of {} tensors (first {first})",
            summary.without_importance.len()
        ));
    }
    write(&plan, &summary, &args.output_file, args.file_type, args.write, notes, start, ctx)
}

/// Carries a plan out and tells of it.
pub(super) fn write(
    plan: &Plan,
    summary: &Summary,
    path: &Path,
    file_type: FileType,
    args: WriteArgs,
    mut notes: Vec<String>,
    start: Instant,
    ctx: &Context<'_>,
) -> anyhow::Result<ExitCode> {
    if summary.fallbacks > 0 {
        notes.push(format!(
            "{} tensors have rows that are no whole blocks of the type chosen for them and get a larger one",
            summary.fallbacks
        ));
    }
    for note in &notes {
        ctx.note(&format!("note: {note}"));
    }
    let length = if args.dry_run {
        None
    } else {
        let threads = args.threads.unwrap_or_else(|| CompileOptions::default().threads);
        let mut progress = FileProgress::new(ctx, "writing");
        Some(plan.write(path, args.force, threads, &mut |done, total| progress.advance(done, total))?)
    };
    let (before, after) = (summary.bytes_before(), summary.bytes_after());
    let (bits_before, bits_after) = (summary.bits_per_weight(before), summary.bits_per_weight(after));
    let seconds = start.elapsed().as_secs_f64();
    if ctx.mode().json {
        let types = |types: &std::collections::BTreeMap<DType, (usize, u64)>| -> Map<String, Value> {
            let of = |(dtype, (tensors, bytes)): (&DType, &(usize, u64))| {
                (dtype.to_string(), json!({ "tensors": tensors, "bytes": bytes }))
            };
            types.iter().map(of).collect()
        };
        ctx.print_json(&json!({
            "path": path.to_string_lossy(),
            "type": file_type.name(),
            "dry_run": args.dry_run,
            "file_bytes": length,
            "parameters": summary.parameters,
            "tensors": plan.tensors().len(),
            "before": { "bytes": before, "bits_per_weight": bits_before, "types": types(&summary.before) },
            "after": { "bytes": after, "bits_per_weight": bits_after, "types": types(&summary.after) },
            "fallbacks": summary.fallbacks,
            "requantized": summary.requantized,
            "without_importance": summary.without_importance,
            "notes": notes,
            "seconds": seconds,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows =
        vec![["type", "tensors before", "size before", "tensors after", "size after"].map(str::to_owned).to_vec()];
    let mut names: Vec<DType> = summary.before.keys().chain(summary.after.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    for dtype in names {
        let cells = [&summary.before, &summary.after].map(|types| match types.get(&dtype) {
            Some((tensors, size)) => [tensors.to_string(), bytes(*size)],
            None => ["-".to_owned(), "-".to_owned()],
        });
        rows.push([vec![dtype.to_string()], cells.concat()].concat());
    }
    let bits = |bits: f64| format!("{bits:.2} bits");
    rows.push(vec!["all".into(), bits(bits_before), bytes(before), bits(bits_after), bytes(after)]);
    ctx.print(&columns(&rows, 0))?;
    match length {
        Some(length) => ctx.print(&format!("{}: {}, {seconds:.1} s\n", path.display(), bytes(length)))?,
        None => ctx.print(&format!("{}: not written (--dry-run)\n", path.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}
