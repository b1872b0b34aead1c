//! `wer`: word error rate.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use rlx_text::wer::{ErrorCounts, Normalization, Unit, error_counts};
use serde_json::json;

use crate::args::OutputArgs;
use crate::context::Context;

/// Count the errors of a transcription: the words that are replaced, missing or too many, per word of the reference.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run wer reference.txt hypothesis.txt
  rlx-run wer reference.txt hypothesis.txt --normalize english --json
  rlx-run wer reference.txt hypothesis.txt --lines            line by line, added up
  rlx-run wer --text 'ask not what' 'ask what'
  rlx-run transcribe a.wav | rlx-run wer a.txt - --normalize basic")]
struct Args {
    /// File with what was said; - is standard input
    #[arg(value_name = "REF")]
    reference: PathBuf,
    /// File with the transcription; - is standard input
    #[arg(value_name = "HYP")]
    hypothesis: PathBuf,
    /// REF and HYP are the texts themselves
    #[arg(long)]
    text: bool,
    /// Make texts alike first: none; basic (lower case, no punctuation, any language); english (also contractions,
    /// numbers, fillers and British spelling, as openai/whisper)
    #[arg(long, value_name = "HOW", default_value = "none")]
    normalize: Normalization,
    /// What errors are counted in: words or characters
    #[arg(long, value_name = "UNIT", default_value = "words")]
    unit: Unit,
    /// Compare line by line; both must have the same number of lines
    #[arg(long)]
    lines: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let read = |path: &Path| {
        if args.text { Ok(path.to_string_lossy().into_owned()) } else { read_text(path) }
    };
    let (reference, hypothesis) = (read(&args.reference)?, read(&args.hypothesis)?);
    let pairs: Vec<(&str, &str)> = if args.lines {
        let (a, b) = (reference.lines().count(), hypothesis.lines().count());
        if a != b {
            bail!("--lines: the reference has {a} lines, the transcription {b}");
        }
        reference.lines().zip(hypothesis.lines()).collect()
    } else {
        vec![(&reference, &hypothesis)]
    };
    let counts = pairs.into_iter().fold(ErrorCounts::default(), |sum, (reference, hypothesis)| {
        sum.plus(error_counts(reference, hypothesis, args.unit, args.normalize))
    });
    // JSON has no infinity.
    let rate = Some(counts.rate()).filter(|rate| rate.is_finite());
    if args.output.json {
        ctx.print_json(&json!({
            "rate": rate,
            "reference": counts.reference,
            "substitutions": counts.substitutions,
            "deletions": counts.deletions,
            "insertions": counts.insertions,
        }))?;
    } else {
        let ErrorCounts { reference, substitutions, deletions, insertions } = counts;
        let rate = rate.map_or("no reference".to_owned(), |rate| format!("{:.2} %", rate * 100.0));
        let unit = if args.unit == Unit::Words { "words" } else { "characters" };
        ctx.print(&format!(
            "{rate}  ({reference} {unit}: {substitutions} substitutions, {deletions} deletions, {insertions} insertions)\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("standard input");
    }
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
