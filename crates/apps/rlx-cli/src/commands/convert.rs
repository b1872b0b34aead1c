//! `convert`: a Hugging Face checkpoint as a GGUF file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use clap::Parser;
use rlx_core::ConvertOptions;
use rlx_ir::DType;
use rlx_weights::Checkpoint;
use rlx_weights::quantize::{FileType, Plan, QuantizeOptions, Source};

use super::quantize::{WriteArgs, write};
use crate::args::{FetchArgs, OutputArgs, QuantArgs, WeightsRef, values};
use crate::context::Context;

/// Write a GGUF file of a Hugging Face checkpoint (config.json, safetensors, tokenizer): metadata, names and contents
/// of tensors and vocabulary as llama.cpp has them. The file appears when it is complete.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run convert SmolLM2-135M-Instruct/ --out smollm2-bf16.gguf
  rlx-run convert Qwen3-0.6B/ --out qwen3-q8_0.gguf --type Q8_0
  rlx-run convert my-model/ --out my-model.gguf --type F16 --name 'My model' --pre qwen2

For mixes with an importance matrix see `rlx-run quantize`, which takes Hugging Face checkpoints too.")]
struct Args {
    /// A directory, a .safetensors file or index, the name of a known model, or hf:OWNER/NAME
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write
    #[arg(long, short = 'o', value_name = "FILE")]
    out: PathBuf,
    /// Kind of file [default: the type that most weights have: F32, F16 or BF16]
    #[arg(long = "type", value_name = "TYPE", value_parser = values::file_type(), ignore_case = true)]
    file_type: Option<FileType>,
    /// Name of the model in the file [default: that of the directory]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Name of the pre-tokenizer, where it is not recognised (qwen2, llama-bpe, gpt-2 ...)
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
    /// Leave the tokenizer out
    #[arg(long)]
    no_tokenizer: bool,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let start = Instant::now();
    let path = WeightsRef::parse(args.input.as_os_str())?.resolve(&args.fetch.options(ctx)?, ctx)?;
    let checkpoint = Checkpoint::open(&path, &QuantArgs::default().open_options())?;
    if checkpoint.gguf().is_some() {
        bail!("{} is a GGUF file already: `rlx-run quantize` changes the types of its weights", path.display());
    }
    let options =
        ConvertOptions { name: args.name.as_deref(), pre: args.pre.as_deref(), no_tokenizer: args.no_tokenizer };
    let (source, notes) = rlx_core::gguf_source(&checkpoint, ctx.registry().families(), &options)?;
    let file_type = args.file_type.unwrap_or_else(|| usual_type(&source));
    let plan = Plan::new(source, &QuantizeOptions::new(file_type), None)?;
    write(&plan, &plan.summary(None), &args.out, file_type, args.write, notes, start, ctx)
}

/// The type of most of the bytes.
fn usual_type(source: &Source) -> FileType {
    let bytes_of = |dtype: DType| -> usize {
        source.tensors.iter().filter(|tensor| tensor.dtype == dtype).map(|tensor| tensor.bytes()).sum()
    };
    let kinds = [(FileType::F32, DType::F32), (FileType::F16, DType::F16), (FileType::BF16, DType::BF16)];
    kinds.into_iter().max_by_key(|&(_, dtype)| bytes_of(dtype)).map_or(FileType::F32, |(kind, _)| kind)
}
