//! `rerank`: which documents answer a query, by a cross-encoder.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use rlx_cli::args::OutputArgs;
use rlx_cli::text::{columns, plain};
use rlx_cli::{Context, Interrupted, StreamProgress};
use serde_json::{Value, json};

use super::input::{InputArgs, usage};
use super::model::{EmbedArgs, plan};

/// Documents that are scored between two looks at Ctrl-C.
const CHUNK: usize = 32;

/// Order documents by how well they answer a query. A cross-encoder reads query and document together, which is slower than search and
/// better: find the best hundred by search, then rerank them.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run rerank --weights DIR --query \"what do pandas eat\" \"bamboo\" \"the sky is blue\"
  rlx-run rerank --weights DIR --query \"what do pandas eat\" --input found.jsonl -k 3
  rlx-run rerank --weights DIR --query \"what do pandas eat\" --input found.jsonl --profile")]
struct Args {
    /// What the documents should answer
    #[arg(long, short = 'q', value_name = "TEXT", required_unless_present = "explain")]
    query: Option<String>,
    /// Print only the best N
    #[arg(long, short = 'k', visible_alias = "top", value_name = "N")]
    k: Option<usize>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    model: EmbedArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let Some((query, documents)) = args.pairs(ctx)? else {
        let model = args.model.open(None, ctx)?;
        return args.model.plan.answer_plan(ctx, || plan(&model, model.max_length()));
    };
    let model = args.model.open(None, ctx)?;
    args.model.plan.note_plan(ctx, || {
        let mut longest = 1;
        for document in &documents {
            longest = longest.max(model.pair_tokens_at_once(query, document)?);
        }
        plan(&model, longest)
    })?;
    let mut scores = Vec::with_capacity(documents.len());
    let mut progress = StreamProgress::new(ctx, "scoring", "documents");
    for chunk in documents.chunks(CHUNK) {
        scores.extend(model.rerank(query, chunk)?);
        let done = scores.len() as u64;
        if progress.advance(done, done, Some(documents.len() as u64)).is_break() {
            return Err(Interrupted.into());
        }
    }
    drop(progress);
    args.model.note_profile(ctx, &model.profile());
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(args.k.unwrap_or(usize::MAX));
    if args.output.json {
        let row = |&i: &usize| json!({ "index": i, "score": scores[i], "text": documents[i] });
        ctx.print_json(&order.iter().map(row).collect::<Vec<Value>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |&i: &usize| vec![format!("{:.4}", scores[i]), i.to_string(), plain(&documents[i], 100)];
    ctx.print(&columns(&order.iter().map(row).collect::<Vec<_>>(), 0))?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// The query and the documents; none if the plan is all that is asked for.
    fn pairs(&self, ctx: &Context<'_>) -> anyhow::Result<Option<(&str, Vec<String>)>> {
        let Some(query) = &self.query else { return Ok(None) };
        let Some(source) = self.input.open(self.model.plan, ctx)? else { return Ok(None) };
        let documents: Vec<String> = source.map(|text| text.map(|text| text.text)).collect::<Result<_, _>>()?;
        if documents.is_empty() {
            return Err(usage("there are no documents"));
        }
        Ok(Some((query, documents)))
    }
}
