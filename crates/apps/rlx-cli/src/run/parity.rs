//! `parity`: a model's outputs against recorded ones.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rlx_core::ForwardOptions;
use rlx_core::parity::{ParityCase, ParityReport, ParityRow, compare};
use serde_json::{Value, json};

use super::args::{ExactArgs, PlanArgs};
use crate::args::OutputArgs;
use crate::context::Context;
use crate::text::columns;

/// Compare a model's outputs with those that a reference implementation gave. Each DIR holds a checkpoint,
/// expected.safetensors (in.* and out.*) and meta.json (tolerances); config.hub.json and model.f32.gguf are tried too.
/// Everything is computed in F32 unless told otherwise. The exit code is 1 if anything misses its tolerance.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run parity fixtures/llama32 fixtures/smollm2
  rlx-run parity fixtures/* --isa scalar --threads 1
  rlx-run parity fixtures/llama32 --json
  rlx-run parity fixtures/llama32 --profile --explain")]
struct Args {
    /// Fixture directories
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    exact: ExactArgs,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let load = args.exact.load_options();
    let forward = ForwardOptions { kv_type: args.exact.kv_type.into(), ..ForwardOptions::default() };
    let mut passed = true;
    let mut reports = Vec::new();
    for dir in &args.dirs {
        let mut trace = args.plan.trace();
        let report = match compare(dir, ctx.registry().families(), &load, &forward, &mut trace) {
            Ok(report) => report,
            // A fixture that cannot be read is a miss; the others are still compared.
            Err(error) => {
                let case = ParityCase { name: "expected.safetensors".into(), rows: Err(error.to_string()) };
                ParityReport { dir: dir.clone(), cases: vec![case] }
            }
        };
        args.plan.note_trace(ctx, &trace);
        passed &= report.passed();
        if args.output.json {
            reports.push(report_json(&report));
        } else {
            ctx.print(&report_text(&report, ctx))?;
        }
    }
    if args.output.json {
        ctx.print_json(&reports)?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report_text(report: &ParityReport, ctx: &Context<'_>) -> String {
    let verdict = |passed: bool| if passed { "PASS" } else { "FAIL" };
    let mut text = format!("{}  {}\n", ctx.bold(&report.dir.display().to_string()), verdict(report.passed()));
    for case in &report.cases {
        text.push_str(&format!("  {}  {}\n", case.name, verdict(case.passed())));
        let rows = match &case.rows {
            Ok(rows) => rows,
            Err(error) => {
                text.push_str(&format!("    {error}\n"));
                continue;
            }
        };
        let header = ["tensor", "shape", "max abs error", "tolerance", "NMSE", "cosine", ""];
        let mut table = vec![header.map(str::to_owned).to_vec()];
        table.extend(rows.iter().map(row_text));
        text.push_str(&columns(&table, 4));
    }
    text
}

fn row_text(row: &ParityRow) -> Vec<String> {
    let figure = |get: fn(&rlx_core::parity::Errors) -> f64, digits: usize| {
        row.errors.as_ref().map_or("-".to_owned(), |errors| match digits {
            0 => format!("{:.3e}", get(errors)),
            _ => format!("{:.digits$}", get(errors)),
        })
    };
    vec![
        row.tensor.clone(),
        format!("{:?}", row.shape),
        figure(|e| e.max_abs, 0),
        format!("{:.3e}", row.tolerance),
        figure(|e| e.nmse, 0),
        figure(|e| e.cosine, 9),
        row.miss.as_ref().map_or("PASS".to_owned(), |miss| format!("FAIL: {miss}")),
    ]
}

fn report_json(report: &ParityReport) -> Value {
    let row = |row: &ParityRow| {
        json!({
            "tensor": row.tensor,
            "shape": row.shape,
            "max_abs_error": row.errors.map(|e| e.max_abs),
            "nmse": row.errors.map(|e| e.nmse),
            "cosine": row.errors.map(|e| e.cosine),
            "tolerance": row.tolerance,
            "passed": row.miss.is_none(),
            "miss": row.miss,
        })
    };
    let cases: Vec<Value> = report
        .cases
        .iter()
        .map(|case| {
            json!({
                "case": case.name,
                "passed": case.passed(),
                "error": case.rows.as_ref().err(),
                "tensors": case.rows.as_ref().map_or(vec![], |rows| rows.iter().map(row).collect()),
            })
        })
        .collect();
    json!({ "dir": report.dir, "passed": report.passed(), "cases": cases })
}
