//! `search`: the texts whose vectors are nearest to that of a query.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use clap::Parser;
use rlx_cli::Context;
use rlx_cli::args::OutputArgs;
use rlx_cli::text::{bytes, columns, plain};
use rlx_runtime::CompileOptions;
use rlx_vectors::{Hit, SearchOptions, TextSource, VectorIndex, open_source};
use serde_json::{Value, json};

use super::input::{FormatArgs, usage};
use super::model::{EmbedArgs, Load, MetricArg, embed_all};

/// Find the vectors of a file that are nearest to a query's: exactly, by comparing all of them. The file is one that `embed` wrote
/// (or NumPy, or safetensors) with the same model.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run embed --input docs.jsonl --column body --with-text --output docs.safetensors
  rlx-run search --index docs.safetensors --query \"how do I reset my password\" -k 3
  rlx-run search --index docs.npy --texts docs.txt --query \"first\" --query \"second\" --json
  rlx-run search --index docs.npy --query \"first\" --profile --explain")]
struct Args {
    /// Vectors: .npy or .safetensors
    #[arg(long, value_name = "FILE", required_unless_present = "explain")]
    index: Option<PathBuf>,
    /// What to look for; may be given more than once
    #[arg(long, short = 'q', value_name = "TEXT", required_unless_present_any = ["queries", "explain"])]
    query: Vec<String>,
    /// File of queries: lines, or .jsonl, .csv, .tsv, .parquet with a column `text`
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// How many to find for each query
    #[arg(long, short = 'k', visible_alias = "top", value_name = "N", default_value_t = 5)]
    k: usize,
    /// How vectors are compared
    #[arg(long, value_enum, default_value = "cosine")]
    metric: MetricArg,
    /// The texts that the vectors were made of, to be shown; an index written with --with-text has its own
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    model: EmbedArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>, load: Load<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let asked = !args.query.is_empty() || args.queries.is_some();
    let Some(path) = args.index.as_deref().filter(|_| asked) else {
        let model = load(&args.model, Some(QUERY_PROMPT), ctx)?;
        return args.model.plan.answer_plan(ctx, || model.plan(&args.query));
    };
    let index = VectorIndex::open(path)?;
    let mut queries = args.query;
    if let Some(path) = &args.queries {
        for text in open_source(path, &Default::default())? {
            queries.push(text?.text);
        }
    }
    if queries.is_empty() {
        return Err(usage("the file of queries is empty"));
    }
    let mut model = load(&args.model, Some(QUERY_PROMPT), ctx)?;
    if model.dims() != index.dims() {
        bail!(
            "{}: vectors of {} dimensions, but this model makes {}: use the model (and --dims) that made them{}",
            path.display(),
            index.dims(),
            model.dims(),
            index.metadata().get("model").map_or_else(String::new, |name| format!(", {}", plain(name, 80)))
        );
    }
    if let Some(made_by) = index.metadata().get("model")
        && made_by != model.name()
    {
        ctx.note(&format!("note: the vectors were made by {}, the query's by {}", plain(made_by, 80), model.name()));
    }
    args.model.plan.note_plan(ctx, || model.plan(&queries))?;
    let vectors = embed_all(&mut *model, &queries, ctx)?;
    args.model.note_profile(ctx, &model.profile());
    let CompileOptions { threads, isa, .. } = args.model.model.compile_options();
    let start = Instant::now();
    let found = index.search(&vectors, &SearchOptions { k: args.k, metric: args.metric.into(), threads, isa })?;
    let seconds = start.elapsed().as_secs_f64();
    let texts = match &args.texts {
        Some(path) => read_rows(&mut *args.format.open(path)?, &found, index.rows())?,
        None => stored_rows(&index, &found)?,
    };
    ctx.note(&format!(
        "compared {} with {} vectors of {} dimensions in {:.1} ms ({}/s)",
        if queries.len() == 1 { "1 query".to_owned() } else { format!("{} queries", queries.len()) },
        index.rows(),
        index.dims(),
        seconds * 1e3,
        bytes((index.bytes() as f64 / seconds.max(1e-9)) as u64),
    ));
    if args.output.json {
        let hits = |found: &[Hit]| -> Vec<Value> {
            let hit = |hit: &Hit| {
                let mut value = json!({ "row": hit.row, "score": hit.score });
                if let Some(text) = texts.get(&hit.row) {
                    value["text"] = text.as_str().into();
                }
                value
            };
            found.iter().map(hit).collect()
        };
        let answers: Vec<Value> =
            queries.iter().zip(&found).map(|(query, found)| json!({ "query": query, "hits": hits(found) })).collect();
        ctx.print_json(&answers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for (query, found) in queries.iter().zip(&found) {
        if queries.len() > 1 {
            text.push_str(&format!("{}\n", ctx.bold(&plain(query, 100))));
        }
        let row = |hit: &Hit| {
            let shown = texts.get(&hit.row).map(|text| plain(text, 100));
            [vec![format!("{:.4}", hit.score), hit.row.to_string()], shown.into_iter().collect()].concat()
        };
        let rows: Vec<Vec<String>> = found.iter().map(row).collect();
        text.push_str(&columns(&rows, if queries.len() > 1 { 2 } else { 0 }));
    }
    ctx.print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The prompt that a checkpoint has for texts that are looked for.
const QUERY_PROMPT: &str = "query";

/// The texts of the rows found, from the file that they were made of.
fn read_rows(source: &mut dyn TextSource, found: &[Vec<Hit>], rows: usize) -> anyhow::Result<BTreeMap<usize, String>> {
    let wanted: std::collections::BTreeSet<usize> = found.iter().flatten().map(|hit| hit.row).collect();
    let mut texts = BTreeMap::new();
    let Some(&last) = wanted.last() else { return Ok(texts) };
    for (row, text) in source.enumerate() {
        let text = text?;
        if wanted.contains(&row) {
            texts.insert(row, text.text);
        }
        if row == last {
            return Ok(texts);
        }
    }
    bail!("--texts has fewer texts than the {rows} vectors of the index: is it the file they were made of?")
}

/// The texts of the rows found, from the index itself.
fn stored_rows(index: &VectorIndex, found: &[Vec<Hit>]) -> anyhow::Result<BTreeMap<usize, String>> {
    let mut texts = BTreeMap::new();
    for hit in found.iter().flatten() {
        if let Some(text) = index.text(hit.row)? {
            texts.insert(hit.row, text);
        }
    }
    Ok(texts)
}
