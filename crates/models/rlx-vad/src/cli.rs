//! `vad`: where somebody speaks in a sound file.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use rlx_audio::{AudioReader, MonoReader};
use rlx_cli::args::{OutputArgs, values};
use rlx_cli::{Context, Runner, SoundProgress, UsageError};
use rlx_runtime::Device;
use rlx_weights::{Checkpoint, OpenOptions};
use serde_json::json;

use crate::{Backend, Plot, Segment, SegmentOptions, SileroWeights, VadBuilder, VadRunner};

/// The command.
pub const RUNNER: Runner = Runner::new("vad", "Find the speech in a sound file", run);

/// Samples are counted at this rate, whatever the file's.
const COUNT_RATE: u32 = 16_000;
/// Exit code of a run that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Find the speech in a sound file (WAV, FLAC, MP3, OGG Vorbis, M4A): prints `start end` of each piece, in samples at 16 kHz or in seconds.
///
/// Both models are a few small layers that run by themselves, on one thread, without a compiled graph: so there are no --isa and
/// --precision to choose here, no steps to --profile and no plan to --explain.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run vad talk.wav --seconds
  rlx-run vad --backend silero --wav talk.mp3 --threshold 0.6 --json
  rlx-run vad talk.flac --plot talk.png
  rlx-run vad meeting.m4a --format rttm > meeting.rttm
  rlx-run vad talk.wav --probs | head")]
struct Args {
    /// The sound file
    #[arg(long, value_name = "FILE", required_unless_present = "file")]
    wav: Option<PathBuf>,
    /// The sound file, the same as --wav
    #[arg(conflicts_with = "wav")]
    file: Option<PathBuf>,
    /// Which model listens [default: earshot, or silero if --weights are given]
    #[arg(long, value_enum)]
    backend: Option<BackendArg>,
    /// Other weights for Silero: a safetensors file or directory [default: those inside]
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    /// Where to run; both models are small and run on the CPU
    #[arg(long, default_value = "cpu", value_parser = values::device)]
    device: Device,
    #[command(flatten)]
    rules: RuleArgs,
    /// Print seconds, not samples
    #[arg(long)]
    seconds: bool,
    /// Print the probability of speech of each window: its start in seconds, and the probability
    #[arg(long)]
    probs: bool,
    /// How to print the pieces
    #[arg(long, value_enum, default_value = "text", conflicts_with = "probs")]
    format: Format,
    /// Draw the waveform with the speech marked, as .svg or .png
    #[arg(long, value_name = "FILE", value_parser = picture)]
    plot: Option<Picture>,
    #[command(flatten)]
    output: OutputArgs,
}

/// When speech begins and ends.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Speech")]
struct RuleArgs {
    /// Speech begins at this probability
    #[arg(long, default_value_t = 0.5, value_name = "P", value_parser = values::share)]
    threshold: f32,
    /// Speech ends below this probability [default: threshold - 0.15]
    #[arg(long, value_name = "P", value_parser = values::share)]
    neg_threshold: Option<f32>,
    /// Leave shorter speech out
    #[arg(long, default_value_t = 250, value_name = "MS")]
    min_speech_ms: u32,
    /// Shorter silence does not end speech
    #[arg(long, default_value_t = 100, value_name = "MS")]
    min_silence_ms: u32,
    /// Cut longer speech, at its longest silence if it has one [default: no limit]
    #[arg(long, value_name = "S", value_parser = values::positive)]
    max_speech_s: Option<f32>,
    /// Let the pieces grow on both sides
    #[arg(long, default_value_t = 30, value_name = "MS")]
    speech_pad_ms: u32,
}

impl RuleArgs {
    fn options(&self) -> SegmentOptions {
        SegmentOptions {
            threshold: self.threshold,
            neg_threshold: self.neg_threshold,
            min_speech_ms: self.min_speech_ms,
            min_silence_ms: self.min_silence_ms,
            max_speech_s: self.max_speech_s.map_or(f64::INFINITY, f64::from),
            speech_pad_ms: self.speech_pad_ms,
            ..SegmentOptions::default()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BackendArg {
    /// 16 ms windows, the faster
    Earshot,
    /// Silero VAD v6, 32 ms windows
    Silero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// `start end`, one piece a line
    Text,
    /// NIST Rich Transcription Time Marked
    Rttm,
}

/// A picture to be written.
#[derive(Debug, Clone)]
struct Picture {
    path: PathBuf,
    svg: bool,
}

fn picture(text: &str) -> Result<Picture, String> {
    let path = PathBuf::from(text);
    let extension = path.extension().map(|e| e.to_ascii_lowercase());
    match extension.as_deref().and_then(|e| e.to_str()) {
        Some("svg") => Ok(Picture { path, svg: true }),
        Some("png") => Ok(Picture { path, svg: false }),
        _ => Err("expected a file named .svg or .png".to_owned()),
    }
}

/// What was found.
struct Found {
    segments: Vec<Segment>,
    probabilities: Vec<f32>,
    plot: Option<Plot>,
    samples: u64,
}

fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let path = args.wav.as_deref().or(args.file.as_deref()).context("no sound file")?;
    let started = Instant::now();
    let source = AudioReader::open(path)?;
    let vad = builder(&args, source.spec().sample_rate)?.build()?;
    let (rate, window) = (vad.sample_rate(), vad.window());
    let backend = if args.backend == Some(BackendArg::Silero) || args.weights.is_some() {
        Backend::Silero
    } else {
        Backend::Earshot
    };
    let mut reader = MonoReader::new(source, rate)?;
    let Some(found) = listen(vad, &mut reader, &args, ctx)? else {
        ctx.note("interrupted");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let took = started.elapsed().as_secs_f64();
    let report = reader.report();
    if !report.is_clean() {
        ctx.note(&format!("note: {}: {report}", path.display()));
    }
    if let (Some(Picture { path, svg }), Some(plot)) = (&args.plot, &found.plot) {
        let bytes = if *svg { plot.svg(&found.segments).into_bytes() } else { plot.png(&found.segments)? };
        std::fs::write(path, bytes).with_context(|| path.display().to_string())?;
    }
    let seconds = found.samples as f64 / f64::from(rate);
    let speech: u64 = found.segments.iter().map(|s| s.end - s.start).sum();
    let speech = speech as f64 / f64::from(rate);
    let window = window as f64 / f64::from(rate);
    if args.output.json {
        let segments = found.segments.iter().map(|segment| {
            let (start, end) = segment.seconds(rate);
            json!({ "start": thousandths(start), "end": thousandths(end) })
        });
        let mut value = json!({
            "file": path.to_string_lossy(),
            "backend": backend.name(),
            "seconds": thousandths(seconds),
            "speech_seconds": thousandths(speech),
            "segments": segments.collect::<Vec<_>>(),
            "truncated": report.truncated,
            "bad_packets": report.bad_packets,
            "bad_samples": report.bad_samples,
        });
        if args.probs {
            value["window_seconds"] = window.into();
            value["probabilities"] = found.probabilities.into();
        }
        ctx.print_json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let lines: String = if args.probs {
        let line = |(i, p): (usize, &f32)| format!("{:.3} {p:.4}\n", i as f64 * window);
        found.probabilities.iter().enumerate().map(line).collect()
    } else {
        found.segments.iter().map(|segment| line(*segment, rate, path, &args)).collect()
    };
    ctx.print(&lines)?;
    ctx.note(&format!(
        "{} pieces, {speech:.2} s of speech in {seconds:.2} s ({}, {:.0} times real time)",
        found.segments.len(),
        backend.name(),
        seconds / took.max(1e-6),
    ));
    Ok(ExitCode::SUCCESS)
}

/// The model, for a file of this rate.
fn builder(args: &Args, file_rate: u32) -> anyhow::Result<VadBuilder> {
    let builder = VadRunner::builder().options(args.rules.options());
    match (&args.weights, args.backend) {
        (Some(_), Some(BackendArg::Earshot)) => {
            Err(UsageError("--weights are for --backend silero; Earshot's are inside it".to_owned()).into())
        }
        (Some(path), _) => {
            let checkpoint = Checkpoint::open(path, &OpenOptions::default())?;
            Ok(builder.weights(SileroWeights::from_checkpoint(&checkpoint)?))
        }
        // A telephone recording has nothing for the 16 kHz model that the 8 kHz one lacks.
        (None, Some(BackendArg::Silero)) => {
            Ok(builder.backend(Backend::Silero).sample_rate(if file_rate <= 8000 { 8000 } else { 16_000 }))
        }
        (None, _) => Ok(builder),
    }
}

/// Runs the file through the model; `None` if Ctrl-C ended it.
fn listen(vad: VadRunner, reader: &mut MonoReader, args: &Args, ctx: &Context<'_>) -> anyhow::Result<Option<Found>> {
    let (mut detector, mut segmenter) = vad.into_parts();
    let rate = detector.sample_rate();
    let plot = args.plot.as_ref().map(|_| Plot::new(rate));
    let mut found = Found { segments: Vec::new(), probabilities: Vec::new(), plot, samples: 0 };
    let mut progress = SoundProgress::new(ctx, "listening");
    let total = reader.expected_samples().map(|samples| samples as f64 / f64::from(rate));
    let mut fresh = Vec::new();
    loop {
        fresh.clear();
        let chunk = reader.next_chunk()?;
        match chunk {
            Some(samples) => {
                detector.push(samples, &mut fresh);
                found.samples += samples.len() as u64;
                if let Some(plot) = &mut found.plot {
                    plot.push_samples(samples);
                }
            }
            None => detector.finish(&mut fresh),
        }
        for &probability in &fresh {
            segmenter.push(probability, &mut found.segments);
        }
        if let Some(plot) = &mut found.plot {
            plot.push_probabilities(&fresh);
        }
        if args.probs {
            found.probabilities.extend_from_slice(&fresh);
        }
        if chunk.is_none() {
            segmenter.finish(found.samples, &mut found.segments);
            return Ok(Some(found));
        }
        if progress.advance(found.samples as f64 / f64::from(rate), total) == ControlFlow::Break(()) {
            return Ok(None);
        }
    }
}

/// One piece as text.
fn line(segment: Segment, rate: u32, path: &Path, args: &Args) -> String {
    let (start, end) = segment.seconds(rate);
    match args.format {
        Format::Rttm => {
            // Fields are separated by spaces.
            let name = path.file_stem().unwrap_or_default().to_string_lossy().replace(char::is_whitespace, "_");
            format!("SPEAKER {name} 1 {start:.3} {:.3} <NA> <NA> speech <NA> <NA>\n", end - start)
        }
        Format::Text if args.seconds => format!("{start:.3} {end:.3}\n"),
        Format::Text => {
            let scale = u64::from(COUNT_RATE / rate);
            format!("{} {}\n", segment.start * scale, segment.end * scale)
        }
    }
}

fn thousandths(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
