//! `devices`: where models can run.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use rlx_runtime::{Device, Isa};
use serde_json::json;

use crate::args::OutputArgs;
use crate::context::Context;
use crate::text::columns;

/// Names that `--device` knows, each with its other names.
const NAMES: &[(&str, &[&str])] = &[
    ("cpu", &[]),
    ("metal", &["mps"]),
    ("mlx", &[]),
    ("cuda", &[]),
    ("rocm", &["hip"]),
    ("gpu", &["wgpu"]),
    ("vulkan", &[]),
];

/// List the devices, and the instruction sets of the processor.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run devices
  rlx-run devices --json")]
struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let built_in = |name: &str| Device::built_in().iter().any(|device| device.to_string() == name);
    let levels: Vec<String> = Isa::available().iter().map(Isa::to_string).collect();
    let threads = rlx_runtime::CompileOptions::default().threads;
    if args.output.json {
        let device = |(name, aliases): &(&str, &[&str])| {
            let mut value = json!({ "name": name, "aliases": aliases, "built_in": built_in(name) });
            if *name == "cpu" {
                value["isa"] = json!(levels);
                value["default_isa"] = Isa::detect().to_string().into();
                value["threads"] = threads.into();
            }
            value
        };
        ctx.print_json(&NAMES.iter().map(device).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = NAMES
        .iter()
        .map(|(name, aliases)| {
            let names = std::iter::once(name).chain(*aliases).copied().collect::<Vec<_>>().join(", ");
            let facts = match (built_in(name), *name) {
                (true, "cpu") => {
                    format!("{threads} threads; instruction sets: {} (default {})", levels.join(", "), Isa::detect())
                }
                (true, _) => "built in".to_owned(),
                (false, _) => "not built into this binary".to_owned(),
            };
            vec![names, facts]
        })
        .collect();
    ctx.print(&columns(&rows, 0))?;
    Ok(ExitCode::SUCCESS)
}
