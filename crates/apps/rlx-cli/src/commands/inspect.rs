//! `inspect`: what a checkpoint is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rlx_weights::{Checkpoint, OpenOptions, list_formats};
use serde_json::Value;

use rlx_weights::inspect::{InspectReport, inspect};
use serde::Serialize;

use crate::args::{FetchArgs, OutputArgs, QuantArgs, WeightsRef, values};
use crate::context::Context;
use crate::memory::{DEFAULT_CONTEXT, MemoryEstimate, context_length};
use crate::text::{bytes, columns, count, plain};

/// Longest value of the metadata that is shown.
const SHOWN_CHARS: usize = 100;

/// Describe a checkpoint: format, tensors, metadata, tokenizer, memory, and which runner takes it.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run inspect model.gguf
  rlx-run inspect model-00001-of-00003.safetensors --json
  rlx-run inspect models/ --prefer Q4_K_M
  rlx-run inspect smollm2-135m-instruct --context 8192
  rlx-run inspect --list-formats")]
struct Args {
    /// A .gguf or .safetensors file, a directory, one part of a split file, or the name of a known model
    #[arg(required_unless_present = "list_formats")]
    path: Option<PathBuf>,
    /// Show the memory for sequences of this many tokens
    #[arg(long, visible_alias = "ctx", value_name = "N", value_parser = values::at_least_one)]
    context: Option<usize>,
    /// Show all metadata
    #[arg(long)]
    metadata: bool,
    /// List the weight formats that can be opened
    #[arg(long)]
    list_formats: bool,
    #[command(flatten)]
    quant: QuantArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let Some(path) = args.path.filter(|_| !args.list_formats) else {
        print_formats(ctx, args.output.json)?;
        return Ok(ExitCode::SUCCESS);
    };
    let path = WeightsRef::parse(path.as_os_str())?.resolve(&args.fetch.options(ctx)?, ctx)?;
    let report = report(&path, &args.quant.open_options(), args.context.map(|n| n as u64), ctx)?;
    if args.output.json {
        ctx.print_json(&report)?;
    } else {
        ctx.print(&human(&report, args.metadata, ctx))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the weights crate tells of the files, and what this program can do with them.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    facts: InspectReport,
    /// Subcommand that runs it.
    runner: Option<&'static str>,
    context_length: Option<u64>,
    memory: Vec<MemoryEstimate>,
}

fn report(path: &Path, options: &OpenOptions, context: Option<u64>, ctx: &Context<'_>) -> anyhow::Result<Report> {
    let facts = inspect(path, options)?;
    let options = OpenOptions { allow_missing_parts: true, ..options.clone() };
    let checkpoint = Checkpoint::open(path, &options)?;
    let longest = context_length(&checkpoint);
    let mut lengths = match (context, longest) {
        (Some(context), _) => vec![context],
        (None, Some(longest)) => vec![longest.min(DEFAULT_CONTEXT), longest],
        (None, None) => Vec::new(),
    };
    lengths.dedup();
    Ok(Report {
        facts,
        runner: ctx.registry().families().find(&checkpoint).ok().map(|family| family.name),
        context_length: longest,
        memory: lengths.into_iter().map(|length| MemoryEstimate::new(&checkpoint, length)).collect(),
    })
}

fn print_formats(ctx: &Context<'_>, json: bool) -> anyhow::Result<()> {
    let formats = list_formats();
    if json {
        let list: Vec<Value> =
            formats.iter().map(|(name, ext)| serde_json::json!({ "name": name, "extensions": ext })).collect();
        return ctx.print_json(&list);
    }
    let row = |(name, extensions): &(String, Vec<String>)| {
        vec![name.clone(), extensions.iter().map(|e| format!(".{e}")).collect::<Vec<_>>().join(" ")]
    };
    ctx.print(&columns(&formats.iter().map(row).collect::<Vec<_>>(), 0))
}

fn human(report: &Report, all_metadata: bool, ctx: &Context<'_>) -> String {
    let mut out = columns(&facts(report), 0);
    let mut section = |title: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            out.push_str(&format!("\n{}\n{}", ctx.bold(title), columns(&rows, 2)));
        }
    };
    let dtypes = &report.facts.dtypes;
    let row = |tensors: usize| format!("{tensors} tensor{}", if tensors == 1 { "" } else { "s" });
    section("element types", dtypes.iter().map(|d| vec![d.dtype.clone(), row(d.tensors), bytes(d.bytes)]).collect());
    let memory = report.memory.iter().map(|m| {
        let parts = format!("({} weights, {} KV cache)", bytes(m.weights), bytes(m.kv_cache));
        vec![format!("{} tokens", m.context), bytes(m.total), parts]
    });
    section("memory for one sequence", memory.collect());
    let files = report.facts.directory.iter().map(|file| {
        let note = match (file.missing.len(), file.companion) {
            (0, false) => String::new(),
            (0, true) => "companion".to_owned(),
            (n, _) => format!("{n} parts missing"),
        };
        let quant = file.quant.clone().unwrap_or_default();
        vec![file.index.to_string(), plain(&file.name, SHOWN_CHARS), quant, bytes(file.bytes), note]
    });
    section("GGUF files (--gguf-index N takes one)", files.collect());
    let metadata = report.facts.metadata.as_object();
    match metadata {
        Some(map) if all_metadata => {
            let row =
                |(key, value): (&String, &Value)| vec![plain(key, SHOWN_CHARS), plain(&shown(value), SHOWN_CHARS)];
            section("metadata", map.iter().map(row).collect());
        }
        Some(map) => out.push_str(&format!("\n{} metadata keys; --metadata shows them\n", map.len())),
        None => {}
    }
    out
}

/// The first block: one fact per row.
fn facts(report: &Report) -> Vec<Vec<String>> {
    let r = &report.facts;
    let mut rows = Vec::new();
    let mut fact = |key: &str, value: String| rows.push(vec![key.to_owned(), value]);
    fact("path", r.path.display().to_string());
    let split = r.split.as_ref().map(|s| format!(", {} parts", s.parts)).unwrap_or_default();
    fact("format", format!("{}{split}, {}", r.format, bytes(r.file_bytes)));
    for missing in r.split.iter().flat_map(|split| &split.missing) {
        fact("missing part", missing.display().to_string());
    }
    fact("architecture", r.architecture.as_ref().map_or("not said".to_owned(), |a| plain(a, SHOWN_CHARS)));
    if let Some(name) = &r.name {
        fact("name", plain(name, SHOWN_CHARS));
    }
    if let Some(quant) = &r.quant {
        fact("quantisation", quant.clone());
    }
    let bits = if r.parameters == 0 { 0.0 } else { r.tensor_bytes as f64 * 8.0 / r.parameters as f64 };
    fact("parameters", format!("{} ({bits:.2} bits each)", count(r.parameters)));
    fact("tensors", r.tensors.to_string());
    if let Some(length) = report.context_length {
        fact("context length", format!("{length} tokens"));
    }
    let tokenizer = r.tokenizer.as_ref().map_or("none".to_owned(), |t| {
        let size = t.vocab_size.map(|n| format!("{n} tokens"));
        let pre = t.pre.as_ref().map(|pre| format!("pre {pre}"));
        let parts = [Some(t.source.clone()), t.kind.clone(), pre, size];
        parts.into_iter().flatten().map(|part| plain(&part, SHOWN_CHARS)).collect::<Vec<_>>().join(", ")
    });
    fact("tokenizer", tokenizer);
    fact("chat template", if r.chat_template { "yes" } else { "no" }.to_owned());
    if let Some(mtp) = &r.mtp {
        let size = format!("{} tensors, {} parameters, {}", mtp.tensors, count(mtp.parameters), bytes(mtp.bytes));
        fact("MTP heads", format!("{size}; apart from the model, not used"));
    }
    let path = report.facts.path.display();
    fact(
        "runner",
        match report.runner {
            Some(name) => format!("{name}: rlx-run {name} --weights {path}"),
            None => "none; `rlx-run models` lists what is supported".to_owned(),
        },
    );
    rows
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
