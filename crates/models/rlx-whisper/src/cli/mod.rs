//! The commands `whisper` and `transcribe`.

mod args;
mod live;
mod pcm;
mod show;
mod sound;
mod write;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use rlx_cli::run::args::load_options;
use rlx_cli::run::report::explain;
use rlx_cli::{Context, Runner, UsageError};
use rlx_core::fetch::ModelSource;
use rlx_ir::batch;
use serde_json::{Value, json};

use crate::builder::FRAME_COUNT;
use crate::decode::SpeechModel;
use crate::text::MULTILINGUAL_VOCAB;
use crate::transcribe::{LogMel, Transcriber, Transcript};
use crate::{FAMILY, Heard, WhisperConfig, WhisperModel, WhisperRunner};
use args::Args;
use show::Show;
use sound::Sound;

/// Exit code of a command that Ctrl-C stopped.
const INTERRUPTED: u8 = 130;

/// The model that is used where none is named.
const DEFAULT_MODEL: &str = "whisper-tiny.en";

/// The command of the family.
pub const RUNNER: Runner = Runner::new("whisper", "Turn speech into text with a Whisper model", run);

/// The command of the task.
pub const TRANSCRIBE: Runner = Runner::new("transcribe", "Turn sound files into text, subtitles or JSON", run);

fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let mut args: Args = ctx.parse(args)?;
    let sounds = args.sounds();
    let options = args.transcribe_options()?;
    if sounds.is_empty() && !args.dry && !args.plan.explain {
        return Err(UsageError("a sound file is needed: FILE or --wav FILE".to_owned()).into());
    }
    let plan = write::Plan::new(&args.write, &sounds)?;
    if args.f16 {
        args.model.precision = args.model.precision.or(Some(rlx_cli::args::PrecisionArg::Auto));
    }
    let default = if args.model.weights.is_none() { Some(ModelSource::named(DEFAULT_MODEL)?) } else { None };
    let checkpoint = args.model.open(&args.quant, &args.fetch.options(ctx)?, default, ctx)?;
    ctx.registry().families().expect(FAMILY.name, &checkpoint)?;
    let load = load_options(&args.model, &args.quant, None);
    if args.dry {
        let config = WhisperConfig::from_checkpoint(&checkpoint)?;
        let code = dry(&args, &sounds, &config, ctx)?;
        args.plan.note_plan(ctx, || explain_networks(&WhisperModel::load(&checkpoint, &load)?, &args))?;
        return Ok(code);
    }
    let mut transcriber = WhisperRunner::load(&checkpoint, &load, options)?;
    if sounds.is_empty() {
        return args.plan.answer_plan(ctx, || explain_networks(transcriber.model(), &args));
    }
    args.plan.note_plan(ctx, || explain_networks(transcriber.model(), &args))?;
    transcriber.model_mut().set_profiling(args.plan.profile);
    let code = if args.stream.stream {
        live::run(&mut transcriber, &args, &sounds, &plan, ctx)?
    } else {
        transcribe_all(&mut transcriber, &args, &sounds, &plan, ctx)?
    };
    for (name, steps) in ["encoder", "decoder"].into_iter().zip(transcriber.model().profile()) {
        args.plan.note_profile(ctx, name, &steps);
    }
    Ok(code)
}

/// The plans of the encoder for a window of sound, and of the decoder for a token of each beam: sizes that no sound changes.
fn explain_networks(model: &WhisperModel, args: &Args) -> anyhow::Result<String> {
    let [encoder, decoder] = model.executables();
    let frames = model.config().window_frames();
    let beams = args.decode.beam_size;
    let encoder =
        explain(&format!("encoder: a window of {frames} frames"), encoder.as_ref(), &[(FRAME_COUNT, frames)])?;
    let symbols = [(batch::TOKEN_COUNT, beams), (batch::LOGIT_COUNT, beams), (batch::CROSS_WEIGHT_COUNT, 0)];
    let decoder = explain(&format!("decoder: a token of each of {beams} beams"), decoder.as_ref(), &symbols)?;
    Ok(encoder + &decoder)
}

/// Transcribes files one after the other. A file that cannot be read is told and does not keep the others from being read.
fn transcribe_all<M: SpeechModel>(
    transcriber: &mut Transcriber<M>,
    args: &Args,
    sounds: &[PathBuf],
    plan: &write::Plan,
    ctx: &Context<'_>,
) -> anyhow::Result<ExitCode> {
    let mut answers: Vec<Value> = Vec::new();
    let mut failed = None;
    for path in sounds {
        let mut show = Show::new(ctx, path, args.write.timestamps, plan.prints_text());
        match transcribe_file(transcriber, args, path, plan, &mut show, ctx) {
            Ok(answer) => answers.push(answer),
            Err(error) if sounds.len() == 1 => return Err(error),
            Err(error) => {
                // One line per file; the exit code tells that there was one.
                ctx.note(&format!("error: {error:#}"));
                answers.push(json!({ "file": path.to_string_lossy(), "error": format!("{error:#}") }));
                failed = Some(error);
            }
        }
        if show.is_stopped() {
            print_answers(answers, sounds, ctx)?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    print_answers(answers, sounds, ctx)?;
    Ok(if failed.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// With `--json`: an object for one file, an array for several.
fn print_answers(mut answers: Vec<Value>, sounds: &[PathBuf], ctx: &Context<'_>) -> anyhow::Result<()> {
    match (ctx.mode().json, sounds.len()) {
        (false, _) => Ok(()),
        (true, 1) => ctx.print_json(&answers.pop()),
        (true, _) => ctx.print_json(&answers),
    }
}

fn transcribe_file<M: SpeechModel>(
    transcriber: &mut Transcriber<M>,
    args: &Args,
    path: &std::path::Path,
    plan: &write::Plan,
    show: &mut Show<'_>,
    ctx: &Context<'_>,
) -> anyhow::Result<Value> {
    let start = Instant::now();
    let sound = Sound::read(path, ctx)?;
    let n_mels = transcriber.model().facts().n_mels;
    let mel = LogMel::of(&sound.samples, n_mels)?;
    let transcript = if args.regions.vad {
        let spans = sound.speech(&args.regions)?;
        drop(sound.samples);
        transcriber.transcribe_spans(&mel, &spans, args.regions.max_region_batch, &mut |event| show.event(event))?
    } else {
        let mut heard = Heard::new(&sound.samples)?;
        let mut any = false;
        let mut is_heard = |frames| {
            let is_heard = args.regions.no_speech_check || heard.reaches_into(frames);
            any |= is_heard;
            is_heard
        };
        let transcript = transcriber.transcribe_where(&mel, &mut is_heard, &mut |event| show.event(event))?;
        if !any {
            ctx.note(&format!(
                "note: no speech is heard in {}; --no-speech-check reads it all the same",
                path.display()
            ));
        }
        transcript
    };
    show.end()?;
    plan.write(path, &transcript, ctx)?;
    let duration = mel.frames() as f64 / crate::decode::FRAMES_PER_SECOND;
    let elapsed = start.elapsed().as_secs_f64();
    ctx.note(&format!(
        "{}: {duration:.1} s of sound in {elapsed:.2} s, {:.1} times real time",
        path.display(),
        duration / elapsed
    ));
    answer(path, &transcript, duration, elapsed)
}

/// What `--json` tells of a file.
fn answer(path: &std::path::Path, transcript: &Transcript, duration: f64, elapsed: f64) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(transcript)?;
    value["file"] = path.to_string_lossy().into();
    value["duration"] = duration.into();
    value["elapsed"] = elapsed.into();
    Ok(value)
}

/// Tells what would be done.
fn dry(args: &Args, sounds: &[PathBuf], config: &WhisperConfig, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in sounds {
        let seconds = Sound::check(path)?;
        files.push(json!({ "file": path.to_string_lossy(), "seconds": seconds }));
    }
    let multilingual = config.vocab_size >= MULTILINGUAL_VOCAB;
    let model = json!({
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "d_model": config.d_model,
        "vocab_size": config.vocab_size,
        "num_mel_bins": config.num_mel_bins,
        "multilingual": multilingual,
    });
    if args.output.json {
        ctx.print_json(&json!({ "model": model, "files": files }))?;
    } else {
        let mut out = format!(
            "model: {} encoder and {} decoder layers of {}, {} tokens, {} mel bands, {}\n",
            config.encoder_layers,
            config.decoder_layers,
            config.d_model,
            config.vocab_size,
            config.num_mel_bins,
            if multilingual { "multilingual" } else { "English alone" }
        );
        for file in &files {
            let length = file["seconds"].as_f64().map_or("of unknown length".to_owned(), |s| format!("{s:.1} s"));
            out.push_str(&format!("sound: {}, {length}\n", file["file"].as_str().unwrap_or_default()));
        }
        ctx.print(&out)?;
    }
    Ok(ExitCode::SUCCESS)
}
