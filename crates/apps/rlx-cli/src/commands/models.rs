//! `models`: the supported families.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::args::OutputArgs;
use crate::context::Context;
use crate::text::columns;

/// List the supported model families.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run models
  rlx-run models --json")]
struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let families = ctx.registry().families();
    if args.output.json {
        let list: Vec<_> = families
            .iter()
            .map(|family| {
                json!({
                    "name": family.name,
                    "about": family.about,
                    "gguf_architectures": family.gguf_architectures,
                    "hf_model_types": family.hf_model_types,
                })
            })
            .collect();
        ctx.print_json(&list)?;
    } else {
        let rows: Vec<Vec<String>> = families
            .iter()
            .map(|family| {
                let gguf = format!("gguf: {}", family.gguf_architectures.join(", "));
                let hf = format!("safetensors: {}", family.hf_model_types.join(", "));
                vec![family.name.to_owned(), family.about.to_owned(), gguf, hf]
            })
            .collect();
        ctx.print(&columns(&rows, 0))?;
    }
    Ok(ExitCode::SUCCESS)
}
