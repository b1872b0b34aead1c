//! `similarity`: how near texts are to each other.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use rlx_cli::Context;
use rlx_cli::args::OutputArgs;
use rlx_cli::text::{columns, plain};
use rlx_vectors::{TextSource, scores};
use serde_json::json;

use super::input::{InputArgs, usage};
use super::model::{EmbedArgs, Load, MetricArg, embed_all};

/// More texts than this make a table that nobody reads, and that takes long to compute.
const MAX_TEXTS: usize = 5000;

/// Compare texts by their vectors: two texts give one number, more give a table of all with all.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run similarity \"A man is eating food.\" \"A man eats something.\"
  rlx-run similarity --input sentences.txt
  rlx-run similarity --json \"one\" \"two\" \"three\"
  rlx-run similarity --profile --explain \"one\" \"two\"")]
struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// How vectors are compared
    #[arg(long, value_enum, default_value = "cosine")]
    metric: MetricArg,
    #[command(flatten)]
    model: EmbedArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>, load: Load<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let texts = args.input.open(args.model.plan, ctx)?.map(|mut source| collect(&mut *source)).transpose()?;
    let mut model = load(&args.model, None, ctx)?;
    let Some(texts) = texts else { return args.model.plan.answer_plan(ctx, || model.plan(&[])) };
    args.model.plan.note_plan(ctx, || model.plan(&texts))?;
    let vectors = embed_all(&mut *model, &texts, ctx)?;
    args.model.note_profile(ctx, &model.profile());
    let isa = args.model.model.compile_options().isa;
    let scores = scores(&vectors, &vectors, model.dims(), args.metric.into(), isa)?;
    let scores: Vec<&[f32]> = scores.chunks_exact(texts.len()).collect();
    if args.output.json {
        ctx.print_json(&json!({ "texts": texts, "scores": scores }))?;
    } else if let [first, _] = scores.as_slice() {
        ctx.print(&format!("{:.6}\n", first[1]))?;
    } else {
        let mut table = vec![[vec![String::new()], (0..texts.len()).map(|i| i.to_string()).collect()].concat()];
        for (i, (text, scores)) in texts.iter().zip(scores).enumerate() {
            let mut row = vec![i.to_string()];
            row.extend(scores.iter().map(|score| format!("{score:.4}")));
            row.push(plain(text, 40));
            table.push(row);
        }
        ctx.print(&columns(&table, 0))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn collect(source: &mut dyn TextSource) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for text in source {
        if texts.len() == MAX_TEXTS {
            return Err(usage(&format!("more than {MAX_TEXTS} texts: embed them to a file, and use search")));
        }
        texts.push(text?.text);
    }
    if texts.len() < 2 {
        return Err(usage("at least two texts are needed"));
    }
    Ok(texts)
}
