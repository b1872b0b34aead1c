//! `check`: whether a checkpoint can be run here.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use rlx_weights::check::Verdict;

use crate::args::{FetchArgs, OutputArgs, QuantArgs, WeightsRef};
use crate::check::check_path;
use crate::context::Context;

/// Tell whether a checkpoint can be run here: SUPPORTED, KnownUnimplemented(WHAT), MissingMetadata(KEYS) or
/// Unknown(WHAT). The exit code is 0 for SUPPORTED and 1 for the others.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run check model.gguf
  rlx-run check models/ --prefer Q8_0 --json
  rlx-run check OWNER/NAME      (a hub repository; needs a build with the feature compat-net)")]
struct Args {
    /// A file or directory, the name of a known model, or a hub repository
    path_or_repo: OsString,
    #[command(flatten)]
    quant: QuantArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let verdict = verdict(&args, ctx)?;
    if args.output.json {
        let mut value = serde_json::to_value(&verdict)?;
        value["path"] = args.path_or_repo.to_string_lossy().into();
        ctx.print_json(&value)?;
    } else {
        ctx.print(&format!("{verdict}\n"))?;
    }
    Ok(if matches!(verdict, Verdict::Supported { .. }) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(args: &Args, ctx: &Context<'_>) -> anyhow::Result<Verdict> {
    let options = args.fetch.options(ctx)?;
    let families = ctx.registry().families();
    let reference = match WeightsRef::parse(&args.path_or_repo)? {
        // What is no file but could be a repository is meant as one.
        WeightsRef::Path(path) if !path.exists() => match path.to_str().and_then(|text| text.parse().ok()) {
            Some(repo) => WeightsRef::Hub(repo),
            None => WeightsRef::Path(path),
        },
        other => other,
    };
    match reference {
        WeightsRef::Hub(repo) => hub_verdict(repo, &options, ctx),
        local => Ok(check_path(&local.resolve(&options, ctx)?, &args.quant.open_options(), families)?),
    }
}

#[cfg(feature = "compat-net")]
fn hub_verdict(
    mut repo: rlx_core::fetch::HubRef,
    options: &rlx_core::fetch::FetchOptions,
    ctx: &Context<'_>,
) -> anyhow::Result<Verdict> {
    use anyhow::Context as _;

    let families = ctx.registry().families();
    // Only a file of a repository can be told by its own header; a repository is told by its configuration.
    if repo.file.is_some() {
        let path = WeightsRef::Hub(repo).resolve(options, ctx)?;
        return Ok(check_path(&path, &rlx_weights::OpenOptions::default(), families)?);
    }
    repo.file = Some("config.json".to_owned());
    let path = WeightsRef::Hub(repo).resolve(options, ctx)?;
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let config = serde_json::from_slice(&text).with_context(|| format!("{}: bad JSON", path.display()))?;
    Ok(crate::check::check_config(&config, families))
}

#[cfg(not(feature = "compat-net"))]
fn hub_verdict(
    repo: rlx_core::fetch::HubRef,
    _options: &rlx_core::fetch::FetchOptions,
    _ctx: &Context<'_>,
) -> anyhow::Result<Verdict> {
    anyhow::bail!(
        "{repo}: no such file or directory; to check a hub repository, build with the feature compat-net \
         (cargo run --release -p rlx-models --features compat-net --bin rlx-run -- check {repo})"
    )
}
