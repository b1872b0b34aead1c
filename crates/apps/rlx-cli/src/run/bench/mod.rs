//! `bench`: tokens per second.

mod measure;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rlx_core::fetch::ModelSource;
use rlx_ir::batch;
use rlx_runtime::{Device, Executable, Isa, Limits, MemoryProbe, SessionOptions};
use serde_json::{Value, json};

use measure::median;
pub use measure::{Measurement, Test, Work, measure};

use super::args::{KvArgs, PlanArgs, load_options, merge_path};
use super::report::{explain, millis};
use super::{load, peak_rss_bytes};
use crate::args::{FetchArgs, ModelArgs, OutputArgs, PrecisionArg, QuantArgs, WeightsFormat, values};
use crate::context::Context;
use crate::interrupt::Interrupt;
use crate::text::{bytes, columns};

/// Measure prompt (pp) and generation (tg) speed in tokens per second. Each test runs once to warm up, then -r times, each
/// time on fresh sequences; neither tokenising nor sampling is counted, nor what --depth puts before.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run bench --weights model.gguf
  rlx-run bench --weights model.gguf -p 128,512 -n 64 -t 1,2 -r 5
  rlx-run bench --weights model.gguf -p 0 -n 32 -d 0,2048,8192
  rlx-run bench --weights model.gguf -p 0 --sequences 1,4,8
  rlx-run bench --weights model.gguf --isa avx2 --json
  rlx-run bench --weights model.gguf --limits
  rlx-run bench --weights model.gguf -p 512 -n 0 -r 1 --profile --explain")]
struct Args {
    /// The same as --weights PATH
    #[arg(value_name = "WEIGHTS")]
    path: Option<PathBuf>,
    /// A .gguf or .safetensors file, a directory, one shard of a split file, a name from `rlx-run fetch --list`, or
    /// hf:OWNER/NAME[:FILE][@REVISION]
    #[arg(long, visible_alias = "model", value_name = "PATH")]
    weights: Option<PathBuf>,
    /// config.json to use instead of the one beside the weights
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which of several formats in a directory
    #[arg(long, value_enum)]
    format: Option<WeightsFormat>,
    /// In a directory of GGUF files, take this quantisation, e.g. Q4_K_M
    #[arg(long, visible_alias = "prefer", value_name = "TAG")]
    prefer_quant: Option<String>,
    /// In a directory of GGUF files, take the one of this number in `rlx-run inspect`
    #[arg(long, value_name = "N", conflicts_with = "prefer_quant")]
    gguf_index: Option<usize>,
    /// Lengths of prompts; 0 leaves prompts out
    #[arg(long, short = 'p', value_name = "N,...", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,
    /// Numbers of tokens to generate; 0 leaves generation out
    #[arg(long, short = 'n', value_name = "N,...", value_delimiter = ',', default_value = "64")]
    generate: Vec<usize>,
    /// Tokens that are in the context before each test
    #[arg(long, short = 'd', value_name = "N,...", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Sequences to generate in at once; the tokens of all count
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1", value_parser = values::at_least_one)]
    sequences: Vec<usize>,
    /// Numbers of threads [default: all processors]
    #[arg(long, short = 't', value_name = "N,...", value_delimiter = ',', value_parser = values::at_least_one)]
    threads: Vec<usize>,
    /// Times that each test is measured
    #[arg(long, short = 'r', value_name = "N", default_value = "5", value_parser = values::at_least_one)]
    repeat: usize,
    /// Where to run: `rlx-run devices` lists what is built in
    #[arg(long, default_value = "cpu", value_parser = values::device)]
    device: Device,
    /// How exactly to compute
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionArg,
    /// Instruction set of the kernels: auto, scalar, neon, avx2, avx512, amx
    #[arg(long, default_value = "auto", value_parser = values::isa)]
    isa: Isa,
    #[command(flatten)]
    kv: KvArgs,
    /// Measure in the same run what the machine can do: memory bandwidth (around each repetition of a test) and arithmetic
    #[arg(long)]
    limits: bool,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// One line of the result.
struct Row {
    measurement: Measurement,
    threads: usize,
    load_ms: f64,
    peak_rss: Option<u64>,
    /// Bytes of the KV cache, which is a part of that.
    kv_bytes: usize,
    model: String,
    isa: String,
    cost: Cost,
}

/// What of a model's weights counts, in bytes as packed and in parameters.
#[derive(Clone, Copy)]
struct Cost {
    /// Bytes of all weights but tables that are looked up in.
    weight_bytes: usize,
    /// Bytes that are read for one token.
    bytes_per_token: usize,
    /// Parameters that one token is multiplied with.
    parameters_per_token: usize,
}

impl Cost {
    fn of(executable: &dyn Executable) -> Cost {
        Cost {
            weight_bytes: executable.weight_bytes(),
            bytes_per_token: executable.weight_bytes_per_token(),
            parameters_per_token: executable.graph().parameters_per_token(),
        }
    }
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let tests = tests(&args)?;
    let threads = if args.threads.is_empty() { vec![default_threads()] } else { args.threads.clone() };
    let interrupt = ctx.interrupt().ok();
    let stopped = || interrupt.is_some_and(Interrupt::is_set);
    let mut rows = Vec::new();
    for &count in &threads {
        rows.extend(measure_all(&args, &tests, count, &stopped, ctx)?);
        if stopped() {
            return Ok(ExitCode::from(130));
        }
    }
    let limits: Option<Vec<(usize, Limits)>> = args.limits.then(|| {
        let measured = threads.iter().map(|&count| {
            ctx.note(&format!("measuring the limits of {count} threads"));
            (count, limits_beside(&rows, count, Limits::measure(count)))
        });
        measured.collect()
    });
    if args.output.json {
        ctx.print_json(&result_json(&rows, limits.as_deref()))?;
    } else {
        ctx.print(&result_text(&rows, limits.as_deref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `limits` of `threads` threads, with the memory's as it was while the `rows` were measured, if it was.
fn limits_beside(rows: &[Row], threads: usize, limits: Limits) -> Limits {
    let of_threads = rows.iter().filter(|row| row.threads == threads);
    let rates: Vec<f64> = of_threads.flat_map(|row| &row.measurement.memory_gb_s).copied().collect();
    Limits { dram_read_gb_s: median(&rates).unwrap_or(limits.dram_read_gb_s), ..limits }
}

fn default_threads() -> usize {
    rlx_runtime::CompileOptions::default().threads
}

fn tests(args: &Args) -> anyhow::Result<Vec<Test>> {
    let some = |list: &[usize]| list.iter().copied().filter(|&n| n > 0).collect::<Vec<_>>();
    let mut works: Vec<Work> = some(&args.prompt).into_iter().map(Work::Prompt).collect();
    for tokens in some(&args.generate) {
        works.extend(args.sequences.iter().map(|&sequences| Work::Generate { tokens, sequences }));
    }
    let tests: Vec<Test> =
        args.depth.iter().flat_map(|&depth| works.iter().map(move |&work| Test { work, depth })).collect();
    let too_long = |test: &&Test| test.length().saturating_mul(test.sequences()) > 1 << 20;
    match tests.iter().find(too_long) {
        _ if tests.is_empty() => Err(crate::UsageError("nothing to measure: -p and -n are both 0".into()).into()),
        Some(test) => anyhow::bail!("{} is more than a test of a million tokens", test.name()),
        None => Ok(tests),
    }
}

fn measure_all(
    args: &Args,
    tests: &[Test],
    threads: usize,
    stopped: &dyn Fn() -> bool,
    ctx: &Context<'_>,
) -> anyhow::Result<Vec<Row>> {
    // Before the model, so that its bytes are in every peak of memory, and can be taken off.
    let mut probe = args.limits.then(|| MemoryProbe::new(threads));
    let probe_bytes = probe.as_ref().map_or(0, MemoryProbe::bytes) as u64;
    let (mut model_args, quant) = model_args(args, threads);
    merge_path(&mut model_args, args.path.clone())?;
    let options = load_options(&model_args, &quant, None);
    let fetch = args.fetch.options(ctx)?;
    let loaded = load(&model_args, &quant, &fetch, Some(ModelSource::default_lm()), None, &options, ctx)?;
    let longest = tests.iter().map(Test::length).max().unwrap_or(1);
    let mut session = loaded.model.session(SessionOptions {
        max_seq: longest,
        kv_type: args.kv.kv_type(),
        ..SessionOptions::default()
    })?;
    let mut rows = Vec::new();
    for test in tests {
        ctx.note(&format!("{}, {threads} threads", test.name()));
        let tokens = match test.work {
            Work::Prompt(tokens) => tokens.min(session.options().prefill_chunk),
            Work::Generate { sequences, .. } => sequences,
        };
        args.plan.note_plan(ctx, || {
            explain(&test.name(), loaded.model.executable().as_ref(), &[(batch::TOKEN_COUNT, tokens)])
        })?;
        let probe = probe.as_mut().filter(|_| matches!(test.work, Work::Generate { .. }));
        let measurement = measure(&mut session, *test, args.repeat, args.plan.profile, probe, stopped)?;
        args.plan.note_profile(ctx, &test.name(), &measurement.profile);
        if stopped() {
            break;
        }
        rows.push(Row {
            measurement,
            threads,
            load_ms: millis(loaded.load_time),
            peak_rss: peak_rss_bytes().map(|peak| peak.saturating_sub(probe_bytes)),
            kv_bytes: session.kv_bytes(),
            model: loaded.model.info().name.clone(),
            isa: args.isa.to_string(),
            cost: Cost::of(loaded.model.executable().as_ref()),
        });
    }
    Ok(rows)
}

fn model_args(args: &Args, threads: usize) -> (ModelArgs, QuantArgs) {
    let model = ModelArgs {
        weights: args.weights.clone(),
        config: args.config.clone(),
        tokenizer: None,
        format: args.format,
        device: args.device,
        threads: Some(threads),
        precision: Some(args.precision),
        isa: Some(args.isa),
        max_seq: None,
        max_memory_gb: None,
        packed: false,
        no_packed: false,
    };
    (model, QuantArgs { prefer_quant: args.prefer_quant.clone(), gguf_index: args.gguf_index })
}

/// Share of the memory bandwidth that a generation test used, by the weights alone: what is read of the KV cache comes
/// on top.
fn share(row: &Row) -> Option<f64> {
    row.measurement.share_of_memory(row.cost.bytes_per_token)
}

fn result_json(rows: &[Row], limits: Option<&[(usize, Limits)]>) -> Value {
    let tests: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut value = json!({
                "test": row.measurement.test.name(),
                "threads": row.threads,
                "tokens_per_second": row.measurement.median(),
                "samples": row.measurement.samples,
                "load_ms": row.load_ms,
                "peak_rss_bytes": row.peak_rss,
                "kv_bytes": row.kv_bytes,
                "model": row.model,
                "isa": row.isa,
            });
            if let (Some(_), Work::Generate { .. }) = (limits, row.measurement.test.work) {
                value["weight_bytes"] = row.cost.weight_bytes.into();
                value["bytes_per_token"] = row.cost.bytes_per_token.into();
                value["parameters_per_token"] = row.cost.parameters_per_token.into();
                value["share_of_bandwidth"] = json!(share(row));
                value["memory_gb_s"] = json!(row.measurement.memory_gb_s);
            }
            value
        })
        .collect();
    match limits.and_then(strongest) {
        None => Value::Array(tests),
        Some(limits) => json!({
            "tests": tests,
            "limits": {
                "dram_read_gb_s": limits.dram_read_gb_s,
                "f32_gflops": limits.f32_gflops,
                "int8_gops": limits.int8_gops,
                "amx_bf16_gflops": limits.amx_bf16_gflops,
                "amx_int8_gops": limits.amx_int8_gops,
            },
        }),
    }
}

/// The limits of the largest number of threads.
fn strongest(limits: &[(usize, Limits)]) -> Option<&Limits> {
    limits.iter().max_by_key(|(threads, _)| *threads).map(|(_, limits)| limits)
}

fn result_text(rows: &[Row], limits: Option<&[(usize, Limits)]>) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut header = vec!["test", "threads", "tokens/s", "min", "max", "load ms", "peak memory"];
    if limits.is_some() {
        header.push("share of bandwidth");
    }
    let mut table = vec![header.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for row in rows {
        let measured = &row.measurement;
        let mut line = vec![
            measured.test.name(),
            row.threads.to_string(),
            format!("{:.2}", measured.median()),
            format!("{:.2}", measured.min()),
            format!("{:.2}", measured.max()),
            format!("{:.1}", row.load_ms),
            row.peak_rss.map_or("-".to_owned(), bytes),
        ];
        if let (Some(_), Work::Generate { .. }) = (limits, measured.test.work) {
            line.push(share(row).map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0)));
        }
        table.push(line);
    }
    let mut text = format!("{}, {}\n{}", first.model, first.isa, columns(&table, 0));
    for (threads, limits) in limits.into_iter().flatten() {
        let figure = |name: &str, value: Option<f64>, unit: &str| {
            vec![name.to_owned(), value.map_or("-".to_owned(), |value| format!("{value:.1}")), unit.to_owned()]
        };
        text.push_str(&format!("limits of {threads} threads\n"));
        text.push_str(&columns(
            &[
                figure("memory read", Some(limits.dram_read_gb_s), "GB/s"),
                figure("f32", Some(limits.f32_gflops), "Gflop/s"),
                figure("int8", limits.int8_gops, "Gop/s"),
                figure("AMX bf16", limits.amx_bf16_gflops, "Gflop/s"),
                figure("AMX int8", limits.amx_int8_gops, "Gop/s"),
            ],
            2,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt() -> Test {
        Test { work: Work::Prompt(512), depth: 0 }
    }

    fn generate() -> Test {
        Test { work: Work::Generate { tokens: 64, sequences: 1 }, depth: 0 }
    }

    fn row(test: Test, threads: usize) -> Row {
        Row {
            measurement: Measurement {
                test,
                samples: vec![9.0, 10.0, 30.0],
                memory_gb_s: vec![20.0; 4],
                profile: vec![],
            },
            threads,
            load_ms: 12.5,
            peak_rss: Some(5_000_000),
            kv_bytes: 65_536,
            model: "m".into(),
            isa: "avx2".into(),
            cost: Cost {
                weight_bytes: 4_000_000_000,
                bytes_per_token: 1_000_000_000,
                parameters_per_token: 2_000_000_000,
            },
        }
    }

    #[test]
    fn json_has_exactly_these_fields() {
        let rows = [row(prompt(), 2), row(generate(), 2)];
        let value = result_json(&rows, None);
        let expected = json!({ "test": "pp512", "threads": 2, "tokens_per_second": 10.0, "samples": [9.0, 10.0, 30.0],
            "load_ms": 12.5, "peak_rss_bytes": 5_000_000, "kv_bytes": 65_536, "model": "m", "isa": "avx2" });
        assert_eq!(value[0], expected);
        assert_eq!(value[1].as_object().unwrap().len(), 9);
    }

    #[test]
    fn limits_add_the_share_of_generation() {
        let limits = Limits {
            dram_read_gb_s: 20.0,
            f32_gflops: 100.0,
            int8_gops: None,
            amx_bf16_gflops: None,
            amx_int8_gops: None,
        };
        let rows = [row(prompt(), 2), row(generate(), 2)];
        let value = result_json(&rows, Some(&[(1, limits), (2, limits)]));
        assert_eq!(value["tests"][1]["share_of_bandwidth"], 0.5);
        assert_eq!(value["tests"][1]["weight_bytes"], 4_000_000_000u64);
        assert_eq!(value["tests"][1]["bytes_per_token"], 1_000_000_000);
        assert_eq!(value["tests"][1]["parameters_per_token"], 2_000_000_000);
        assert!(value["tests"][0].get("share_of_bandwidth").is_none());
        assert_eq!(value["limits"]["dram_read_gb_s"], 20.0);
        assert!(value["limits"]["int8_gops"].is_null());
        let text = result_text(&rows, Some(&[(2, limits)]));
        assert!(text.contains("50.0 %") && text.contains("limits of 2 threads"), "{text}");
    }
}
