//! `--stream`: sound that is still arriving.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use rlx_cli::{Context, UsageError};

use super::args::Args;
use super::pcm::PcmStream;
use super::show::Show;
use super::write::Plan;
use super::{INTERRUPTED, answer};
use crate::decode::SpeechModel;
use crate::transcribe::{StreamOptions, Transcriber};

/// Transcribes standard input, or a file as if it arrived.
pub(super) fn run<M: SpeechModel>(
    transcriber: &mut Transcriber<M>,
    args: &Args,
    sounds: &[PathBuf],
    plan: &Plan,
    ctx: &Context<'_>,
) -> anyhow::Result<ExitCode> {
    let [path] = sounds else {
        return Err(UsageError("--stream reads one sound: - for standard input, or a file".to_owned()).into());
    };
    let (reader, name): (Box<dyn Read>, &Path) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), Path::new("stdin"))
    } else {
        (Box::new(File::open(path).with_context(|| path.display().to_string())?), path)
    };
    let mut pcm = PcmStream::new(reader, args.stream.stream_rate, args.stream.stream_channels)?;
    let mut show = Show::new(ctx, name, args.write.timestamps, plan.prints_text());
    let start = Instant::now();
    let mut stream = transcriber.stream(StreamOptions { interval: f64::from(args.stream.stream_interval) })?;
    let mut samples = Vec::new();
    let mut count = 0;
    while pcm.next(&mut samples)? {
        count += samples.len();
        if stream.push(&samples, &mut |event| show.event(event))?.is_break() {
            break;
        }
    }
    let transcript = stream.finish(&mut |event| show.event(event))?;
    show.end()?;
    plan.write(name, &transcript, ctx)?;
    if ctx.mode().json {
        let duration = count as f64 / f64::from(rlx_audio::WhisperMel::SAMPLE_RATE);
        ctx.print_json(&answer(name, &transcript, duration, start.elapsed().as_secs_f64())?)?;
    }
    Ok(if show.is_stopped() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}
