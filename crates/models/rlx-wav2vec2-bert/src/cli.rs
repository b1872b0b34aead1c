//! `rlx-run wav2vec2-bert`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rlx_audio::KaldiFbank;
use rlx_cli::args::values::at_least_one;
use rlx_cli::args::{FetchArgs, ModelArgs, OutputArgs, QuantArgs};
use rlx_cli::run::args::PlanArgs;
use rlx_cli::run::report::explain;
use rlx_cli::{Context, Runner, UsageError, text};
use rlx_core::{NamedTensor, NamedTensors, write_tensors};
use rlx_vectors::{SinkOptions, Text, VectorFormat, create_sink};
use serde_json::{Value, json};

use crate::runner::{Inputs, MAX_ROWS, longest_piece};
use crate::{FAMILY, Hidden, Wav2Vec2BertConfig, Wav2Vec2BertRunner};

/// The command.
pub const RUNNER: Runner = Runner::new(FAMILY.name, FAMILY.about, run);

/// Exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Turn sound into words with a CTC checkpoint, or into hidden states with any. Without --wav the model runs on generated
/// features, to see its shapes and speed.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run wav2vec2-bert --weights DIR --wav speech.wav
  rlx-run wav2vec2-bert --weights DIR --wav a.wav --wav b.flac --batch 2 --json
  rlx-run wav2vec2-bert --weights DIR --wav speech.wav --out hidden.npy
  rlx-run wav2vec2-bert --weights DIR --batch 4 --seq 500
  rlx-run wav2vec2-bert --weights DIR --wav speech.wav --profile --explain
  rlx-run wav2vec2-bert --weights DIR --dry")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A sound: WAV, FLAC, MP3, Ogg Vorbis or M4A, of any rate and number of channels; may be given several times
    #[arg(long, value_name = "FILE")]
    wav: Vec<PathBuf>,
    /// Sounds that run at once; without --wav, sequences of generated features
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    batch: usize,
    /// Without --wav: rows of features (20 ms each) in each sequence
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    seq: usize,
    /// Write the last hidden states here instead of recognising words: .safetensors, or .npy for a single sound
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file of --out
    #[arg(long)]
    force: bool,
    /// Load the model and print its sizes, but run nothing
    #[arg(long)]
    dry: bool,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let out = args.out.as_deref().map(|path| OutFile::new(path, &args)).transpose()?;
    let checkpoint = args.model.open(&QuantArgs::default(), &args.fetch.options(ctx)?, None, ctx)?;
    let mut runner = Wav2Vec2BertRunner::from_checkpoint(&checkpoint, &args.model.compile_options())?;
    let mut sounds = Vec::with_capacity(args.wav.len());
    for path in args.wav.iter().filter(|_| !args.dry) {
        sounds.push(load(path, ctx)?);
    }
    let words = out.is_none() && runner.config().vocab_size.is_some();
    args.plan.note_plan(ctx, || {
        let rows = match sounds.iter().map(|samples| KaldiFbank::frames(samples.len()) / 2).max() {
            Some(rows) if words => longest_piece(rows),
            Some(rows) => rows,
            None => args.seq,
        };
        // What is longer does not run.
        let rows = rows.clamp(1, MAX_ROWS);
        let symbols = Inputs::new(runner.config(), &[rows]).symbols();
        explain(&format!("encoder: {rows} rows of features"), runner.network().executable().as_ref(), &symbols)
    })?;
    if args.dry {
        return dry(&runner, ctx);
    }
    runner.network().set_profiling(args.plan.profile);
    let code = if sounds.is_empty() {
        generated(&mut runner, &args, out, ctx)?
    } else {
        let mut work = Work { runner: &mut runner, args: &args, sounds: &sounds, ctx, start: Instant::now() };
        if words { work.words()? } else { work.hidden(out)? }
    };
    args.plan.note_profile(ctx, "encoder", &runner.network().profile());
    Ok(code)
}

/// The samples of a file at 16 kHz.
fn load(path: &Path, ctx: &Context<'_>) -> anyhow::Result<Vec<f32>> {
    let sound = rlx_audio::load(path, KaldiFbank::SAMPLE_RATE)?;
    if !sound.report.is_clean() {
        ctx.note(&format!("{}: {}", path.display(), sound.report));
    }
    Ok(sound.samples)
}

/// Sounds on their way through the model.
struct Work<'a> {
    runner: &'a mut Wav2Vec2BertRunner,
    args: &'a Args,
    sounds: &'a [Vec<f32>],
    ctx: &'a Context<'a>,
    start: Instant,
}

impl Work<'_> {
    /// Seconds of sound in all, and of work so far.
    fn seconds(&self) -> (f64, f64) {
        let samples: usize = self.sounds.iter().map(Vec::len).sum();
        (samples as f64 / f64::from(KaldiFbank::SAMPLE_RATE), self.start.elapsed().as_secs_f64())
    }

    fn words(&mut self) -> anyhow::Result<ExitCode> {
        let bar = bar(self.ctx, "recognising");
        let interrupt = self.ctx.interrupt()?;
        let mut texts = Vec::with_capacity(self.sounds.len());
        for batch in self.sounds.chunks(self.args.batch) {
            let batch: Vec<&[f32]> = batch.iter().map(Vec::as_slice).collect();
            texts.extend(self.runner.transcribe_batch(&batch, &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                !interrupt.is_set()
            })?);
            if interrupt.is_set() {
                break;
            }
        }
        bar.finish_and_clear();
        let (sound, took) = self.seconds();
        let named = self.args.wav.iter().zip(&texts);
        if self.args.output.json {
            let results: Vec<Value> = named.map(|(path, text)| json!({ "wav": path, "text": text })).collect();
            self.ctx.print_json(&json!({ "results": results, "audio_seconds": sound, "seconds": took }))?;
        } else {
            for (path, text) in named {
                match self.args.wav.len() {
                    1 => self.ctx.print(&format!("{text}\n"))?,
                    _ => self.ctx.print(&format!("{}\t{text}\n", path.display()))?,
                }
            }
            self.ctx.note(&format!("{sound:.1} s of sound in {took:.2} s"));
        }
        Ok(if interrupt.is_set() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
    }

    fn hidden(&mut self, out: Option<OutFile<'_>>) -> anyhow::Result<ExitCode> {
        let bar = bar(self.ctx, "running");
        bar.set_length(self.sounds.len() as u64);
        let interrupt = self.ctx.interrupt()?;
        let mut all = Vec::with_capacity(self.sounds.len());
        for batch in self.sounds.chunks(self.args.batch) {
            let batch: Vec<&[f32]> = batch.iter().map(Vec::as_slice).collect();
            all.extend(self.runner.features_batch(&batch)?);
            bar.set_position(all.len() as u64);
            if interrupt.is_set() {
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
        bar.finish_and_clear();
        if let Some(out) = &out {
            out.write(&all)?;
        }
        let (sound, took) = self.seconds();
        let named = self.args.wav.iter().zip(&all);
        if self.args.output.json {
            let results: Vec<Value> = named
                .map(|(path, hidden)| json!({ "wav": path, "rows": hidden.rows, "width": hidden.width }))
                .collect();
            let report = json!({ "results": results, "out": self.args.out, "audio_seconds": sound, "seconds": took });
            self.ctx.print_json(&report)?;
        } else {
            for (path, hidden) in named {
                self.ctx.print(&format!("{}\t{} x {}\n", path.display(), hidden.rows, hidden.width))?;
            }
            self.ctx.note(&format!("{sound:.1} s of sound in {took:.2} s"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A run on generated features.
fn generated(
    runner: &mut Wav2Vec2BertRunner,
    args: &Args,
    out: Option<OutFile<'_>>,
    ctx: &Context<'_>,
) -> anyhow::Result<ExitCode> {
    let width = runner.config().feature_projection_input_dim;
    let too_many = || UsageError(format!("--batch {} --seq {}: more features than fit", args.batch, args.seq));
    let count = args.seq.checked_mul(width).filter(|n| n.checked_mul(args.batch).is_some_and(|all| all < 1 << 32));
    let features: Vec<f32> = (0..count.ok_or_else(too_many)?).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
    let start = Instant::now();
    let hidden = runner.run_features(&vec![features.as_slice(); args.batch])?;
    let seconds = start.elapsed().as_secs_f64();
    if let Some(out) = &out {
        out.write(&hidden)?;
    }
    let rows = hidden.first().map_or(0, |hidden| hidden.rows);
    let width = runner.config().output_width();
    if args.output.json {
        ctx.print_json(&json!({ "shape": [args.batch, rows, width], "seconds": seconds }))?;
    } else {
        ctx.print(&format!("{} x {rows} x {width}\n", args.batch))?;
        ctx.note(&format!("{} x {} rows of generated features in {seconds:.3} s", args.batch, args.seq));
    }
    Ok(ExitCode::SUCCESS)
}

/// The sizes of a loaded model.
fn dry(runner: &Wav2Vec2BertRunner, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let Wav2Vec2BertConfig { hidden_size, num_hidden_layers, num_attention_heads, .. } = *runner.config();
    let config = runner.config();
    let weights = runner.weight_bytes() as u64;
    if ctx.mode().json {
        ctx.print_json(&json!({
            "features": config.feature_projection_input_dim,
            "hidden_size": hidden_size,
            "num_hidden_layers": num_hidden_layers,
            "num_attention_heads": num_attention_heads,
            "output_width": config.output_width(),
            "rows_per_second": 50.0 * config.output_len(1 << 20) as f64 / f64::from(1 << 20),
            "vocab_size": config.vocab_size,
            "weight_bytes": weights,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |name: &str, value: String| vec![name.to_string(), value];
    let mut rows = vec![
        row("features", config.feature_projection_input_dim.to_string()),
        row("blocks", format!("{num_hidden_layers} of {hidden_size}, {num_attention_heads} heads")),
        row("positions", format!("{:.60}", format!("{:?}", config.position_embeddings))),
        row("output", format!("{} wide", config.output_width())),
    ];
    rows.extend(config.adapter.map(|adapter| row("adapter", format!("{} layers", adapter.num_adapter_layers))));
    rows.extend(config.vocab_size.map(|size| row("CTC head", format!("{size} tokens"))));
    rows.push(row("weights", text::bytes(weights)));
    ctx.print(&text::columns(&rows, 0))?;
    Ok(ExitCode::SUCCESS)
}

/// Where hidden states go.
struct OutFile<'a> {
    path: &'a Path,
    npy: bool,
    force: bool,
}

impl<'a> OutFile<'a> {
    fn new(path: &'a Path, args: &Args) -> anyhow::Result<OutFile<'a>> {
        let usage = |what: &str| UsageError(format!("--out {}: {what}", path.display()));
        let npy = match VectorFormat::of_path(path) {
            Some(VectorFormat::Npy) => true,
            Some(VectorFormat::Safetensors) => false,
            _ => return Err(usage("expected a name that ends in .safetensors or .npy").into()),
        };
        let sounds = if args.wav.is_empty() { args.batch } else { args.wav.len() };
        if npy && sounds > 1 {
            return Err(usage("an .npy file holds one sound; .safetensors holds several").into());
        }
        if !args.force && path.exists() {
            return Err(usage("there is such a file; --force replaces it").into());
        }
        Ok(OutFile { path, npy, force: args.force })
    }

    /// `hidden_states` `[rows, width]`; of several sounds `hidden_states.N`.
    fn write(&self, all: &[Hidden]) -> anyhow::Result<()> {
        let what = || self.path.display().to_string();
        if let (true, [hidden]) = (self.npy, all) {
            let options = SinkOptions { dims: hidden.width, overwrite: self.force, ..SinkOptions::default() };
            let rows: Vec<Text> = (0..hidden.rows).map(|row| Text { row: row as u64, text: String::new() }).collect();
            let mut sink = create_sink(self.path, VectorFormat::Npy, &options)?;
            sink.write(&rows, &hidden.data)?;
            return Ok(sink.finish()?);
        }
        let mut tensors = NamedTensors::new();
        for (index, hidden) in all.iter().enumerate() {
            let name = if all.len() == 1 { "hidden_states".into() } else { format!("hidden_states.{index}") };
            tensors.insert(name, NamedTensor::f32(&[hidden.rows, hidden.width], hidden.data.clone()));
        }
        write_tensors(self.path, &tensors).with_context(what)
    }
}

/// A bar on stderr that nobody sees if nothing is to be shown.
fn bar(ctx: &Context<'_>, what: &'static str) -> ProgressBar {
    let target = if ctx.mode().quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {percent} % {eta}");
    ProgressBar::with_draw_target(None, target)
        .with_message(what)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
