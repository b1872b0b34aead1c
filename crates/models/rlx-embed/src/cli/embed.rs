//! `embed`: texts in, vectors out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rlx_cli::args::OutputArgs;
use rlx_cli::text::bytes;
use rlx_cli::{Context, StreamProgress};
use rlx_vectors::{
    ChunkLimits, Outcome, SinkOptions, Text, VectorFormat, VectorSink, VectorsError, create_sink, embed_stream,
    jsonl_sink,
};
use serde_json::json;

use super::input::{InputArgs, usage};
use super::model::{EmbedArgs, Load, TextModel, note_truncated};

/// Turn texts into vectors. Texts are arguments, lines of stdin, or a file; vectors are JSON lines on stdout, or a file. Any number of
/// texts streams through in bounded memory, in order.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run embed \"A man is eating food.\"
  rlx-run embed --input docs.txt --output docs.npy
  rlx-run embed --input docs.jsonl --column body.text --with-text --output docs.safetensors
  zcat docs.gz | rlx-run embed --output docs.parquet
  rlx-run embed --input docs.txt --output docs.npy --profile
  rlx-run embed --weights nomic-embed-text-v1.5.gguf --prompt \"search_document: \" --dims 256 --input docs.csv")]
struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// File to write; without it JSON lines go to stdout
    #[arg(long = "output", short = 'o', value_name = "FILE", help_heading = "Output")]
    output_file: Option<PathBuf>,
    /// Format of the vectors: jsonl, npy, safetensors, parquet [default: what the name says]
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    output_format: Option<VectorFormat>,
    /// Write the texts beside their vectors (jsonl, safetensors, parquet)
    #[arg(long, help_heading = "Output")]
    with_text: bool,
    /// Replace the file if it is there
    #[arg(long, help_heading = "Output")]
    force: bool,
    #[command(flatten)]
    model: EmbedArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>, load: Load<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let format = args.format()?;
    // What is wrong with the input shows before a model is fetched.
    let source = args.input.open(args.model.plan, ctx)?;
    let mut model = load(&args.model, None, ctx)?;
    let Some(mut source) = source else { return args.model.plan.answer_plan(ctx, || model.plan(&[])) };
    // Of texts that stream in nobody knows the longest.
    args.model.plan.note_plan(ctx, || model.plan(args.input.given()))?;
    let options =
        SinkOptions { dims: model.dims(), texts: args.with_text, metadata: model.metadata(), overwrite: args.force };
    let mut collected = Collected { dims: options.dims, with_text: args.with_text, rows: Vec::new() };
    let mut sink: Box<dyn VectorSink + '_> = match &args.output_file {
        Some(path) => create_sink(path, format, &options)?,
        None if args.output.json => Box::new(&mut collected),
        None => jsonl_sink(std::io::stdout().lock(), "stdout", &options),
    };
    let mut progress = StreamProgress::new(ctx, "embedding", "texts");
    let outcome = embed_stream(
        &mut *source,
        &mut *sink,
        ChunkLimits::default(),
        |texts, vectors| model.embed_into(texts, vectors),
        |read, texts| progress.advance(texts, read.done, read.total),
    )?;
    sink.finish()?;
    let seconds = progress.elapsed().as_secs_f64();
    drop(progress);
    args.model.note_profile(ctx, &model.profile());
    args.report(&outcome, &*model, format, seconds, &collected, ctx)?;
    Ok(if outcome.stopped { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

impl Args {
    fn format(&self) -> anyhow::Result<VectorFormat> {
        let Some(path) = &self.output_file else {
            return match self.output_format {
                None | Some(VectorFormat::Jsonl) => Ok(VectorFormat::Jsonl),
                Some(format) => Err(usage(&format!("{} needs a file to write: --output FILE", format.name()))),
            };
        };
        self.output_format.or_else(|| VectorFormat::of_path(path)).ok_or_else(|| {
            let names = VectorFormat::ALL.map(VectorFormat::name).join(", ");
            usage(&format!("{}: its name tells no format: --output-format is one of {names}", path.display()))
        })
    }

    /// Tells what was done.
    fn report(
        &self,
        outcome: &Outcome,
        model: &dyn TextModel,
        format: VectorFormat,
        seconds: f64,
        collected: &Collected,
        ctx: &Context<'_>,
    ) -> anyhow::Result<()> {
        let size = self.output_file.as_ref().and_then(|path| std::fs::metadata(path).ok()).map(|found| found.len());
        let rate = outcome.rows as f64 / seconds.max(1e-9);
        if self.output.json {
            let mut value = json!({
                "model": model.name(),
                "dims": model.dims(),
                "rows": outcome.rows,
                "truncated": model.truncated(),
                "seconds": seconds,
                "stopped": outcome.stopped,
            });
            match &self.output_file {
                Some(path) => {
                    value["output"] = path.to_string_lossy().into();
                    value["format"] = format.name().into();
                    value["bytes"] = size.into();
                }
                None => value["embeddings"] = json!(collected.rows),
            }
            return ctx.print_json(&value);
        }
        note_truncated(model, ctx);
        let place = match (&self.output_file, size) {
            (Some(path), Some(size)) => format!("; {}: {}", path.display(), bytes(size)),
            _ => String::new(),
        };
        let stopped = if outcome.stopped { "stopped after " } else { "" };
        let texts = if outcome.rows == 1 { "1 text".to_owned() } else { format!("{} texts", outcome.rows) };
        ctx.note(&format!("{stopped}{texts} in {seconds:.1} s, {rate:.0}/s{place}"));
        Ok(())
    }
}

/// One vector of the answer in JSON.
#[derive(serde::Serialize)]
struct Row {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    embedding: Vec<f32>,
}

/// All vectors, for one JSON value.
struct Collected {
    dims: usize,
    with_text: bool,
    rows: Vec<Row>,
}

impl VectorSink for &mut Collected {
    fn write(&mut self, texts: &[Text], vectors: &[f32]) -> Result<(), VectorsError> {
        for (text, embedding) in texts.iter().zip(vectors.chunks_exact(self.dims)) {
            let shown = self.with_text.then(|| text.text.clone());
            self.rows.push(Row { index: text.row, text: shown, embedding: embedding.to_vec() });
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), VectorsError> {
        Ok(())
    }
}
