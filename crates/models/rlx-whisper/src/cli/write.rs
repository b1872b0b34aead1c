//! Transcriptions into files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rlx_cli::{Context, UsageError};

use super::args::WriteArgs;
use crate::output::{OutputFormat, SubtitleOptions};
use crate::transcribe::Transcript;

/// Which files are written.
#[derive(Debug)]
pub(super) struct Plan {
    formats: Vec<OutputFormat>,
    target: Target,
    subtitles: SubtitleOptions,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// Text as it comes.
    Text,
    /// The whole in a format.
    Stdout,
    File(PathBuf),
    Directory(PathBuf),
}

impl Plan {
    /// # Errors
    /// If files would be written twice.
    pub(super) fn new(args: &WriteArgs, sounds: &[PathBuf]) -> anyhow::Result<Plan> {
        let mut formats = args.output_format.clone();
        let target = match &args.output {
            None if formats.is_empty() => Target::Text,
            None if formats.len() == 1 => Target::Stdout,
            None => return Err(UsageError("several formats need a directory: --output DIR".to_owned()).into()),
            Some(path) => {
                let by_ending = path.extension().and_then(|e| e.to_str()).and_then(|e| e.parse::<OutputFormat>().ok());
                let is_directory = path.is_dir() || path.as_os_str().to_string_lossy().ends_with(['/', '\\']);
                let several = sounds.len() > 1 || formats.len() > 1;
                if is_directory || several || by_ending.is_none() && path.extension().is_none() {
                    if path.is_file() {
                        bail!("{}: is a file, but a directory is needed", path.display());
                    }
                    Target::Directory(path.clone())
                } else {
                    if formats.is_empty() {
                        formats.extend(by_ending);
                    }
                    Target::File(path.clone())
                }
            }
        };
        if formats.is_empty() {
            formats.push(OutputFormat::Txt);
        }
        let plan = Plan { formats, target, subtitles: args.subtitle_options() };
        if let Target::Directory(_) = plan.target {
            let mut seen = BTreeSet::new();
            if let Some(twice) = sounds.iter().find(|s| !seen.insert(s.file_stem().unwrap_or_default())) {
                let text =
                    format!("{}: another sound has the same name, and so would have the same output", twice.display());
                return Err(UsageError(text).into());
            }
        }
        Ok(plan)
    }

    /// Whether text is printed while it is found: unless a format is printed at the end.
    pub(super) fn prints_text(&self) -> bool {
        self.target != Target::Stdout
    }

    /// Writes the transcription of `sound`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn write(&self, sound: &Path, transcript: &Transcript, ctx: &Context<'_>) -> anyhow::Result<()> {
        for &format in &self.formats {
            let path = match &self.target {
                Target::Text => return Ok(()),
                Target::Stdout if ctx.mode().json => return Ok(()),
                Target::Stdout => return ctx.print(&format.render(transcript, &self.subtitles)),
                Target::File(path) => path.clone(),
                Target::Directory(dir) => {
                    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
                    let mut name = sound.file_stem().unwrap_or_default().to_owned();
                    name.push(".");
                    name.push(format.name());
                    dir.join(name)
                }
            };
            write_whole(&path, &format.render(transcript, &self.subtitles))?;
            ctx.note(&format!("wrote {}", path.display()));
        }
        Ok(())
    }
}

/// Writes a file so that it is there as a whole or not at all.
fn write_whole(path: &Path, content: &str) -> anyhow::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = fs::write(&part, content).and_then(|()| fs::rename(&part, path));
    written.inspect_err(|_| drop(fs::remove_file(&part))).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        write: WriteArgs,
    }

    fn plan(line: &str, sounds: &[&str]) -> anyhow::Result<Plan> {
        let args = Line::try_parse_from(std::iter::once("x").chain(line.split_whitespace()))?;
        Plan::new(&args.write, &sounds.iter().map(PathBuf::from).collect::<Vec<_>>())
    }

    #[test]
    fn targets() {
        let found = |line: &str, sounds: &[&str]| plan(line, sounds).map(|p| (p.target, p.formats));
        assert_eq!(found("", &["a.wav"]).unwrap(), (Target::Text, vec![OutputFormat::Txt]));
        assert_eq!(found("--output-format vtt", &["a.wav"]).unwrap(), (Target::Stdout, vec![OutputFormat::Vtt]));
        assert_eq!(found("-o a.srt", &["a.wav"]).unwrap(), (Target::File("a.srt".into()), vec![OutputFormat::Srt]));
        let given = (Target::File("a.srt".into()), vec![OutputFormat::Json]);
        assert_eq!(
            found("-o a.srt --output-format json", &["a.wav"]).unwrap(),
            given,
            "the format that is given counts"
        );
        for (line, sounds) in
            [("-o out", ["a.wav"].as_slice()), ("-o out/", &["a.wav"]), ("-o out", &["a.wav", "b.wav"])]
        {
            assert!(matches!(found(line, sounds).unwrap().0, Target::Directory(_)), "{line}");
        }
        assert_eq!(found("-o out --output-format srt,json", &["a.wav"]).unwrap().1.len(), 2);
    }

    #[test]
    fn nothing_is_written_twice() {
        assert!(plan("-o out", &["x/a.wav", "y/a.mp3"]).unwrap_err().to_string().contains("same name"));
        assert!(plan("--output-format srt,vtt", &["a.wav"]).is_err());
    }
}
