//! A program with all commands of `rlx-run` and one of its own.
//!
//! ```text
//! cargo run --release -p rlx-models --example register_custom_runner -- largest model.gguf --count 3
//! ```

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rlx_cli::{Context, Runner, dispatch};
use rlx_weights::{Checkpoint, OpenOptions};

/// List the largest tensors of a checkpoint.
#[derive(Parser)]
struct Args {
    /// The checkpoint.
    path: PathBuf,
    /// How many tensors.
    #[arg(long, default_value_t = 10)]
    count: usize,
}

fn largest(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let checkpoint = Checkpoint::open(&args.path, &OpenOptions::default())?;
    let mut tensors: Vec<_> = checkpoint.tensors().collect();
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.data.len()));
    for tensor in tensors.iter().take(args.count) {
        ctx.print(&format!("{:>12}  {:6}  {}\n", tensor.data.len(), tensor.dtype, tensor.name))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let mut registry = rlx_models::registry();
    registry.register(Runner::new("largest", "List the largest tensors of a checkpoint", largest));
    dispatch(&registry, std::env::args_os())
}
