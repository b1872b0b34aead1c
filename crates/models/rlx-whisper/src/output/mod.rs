//! Transcriptions as files: text, subtitles, tables and JSON, each as openai/whisper writes it.

mod json;
mod subtitles;

use std::fmt::Write as _;
use std::str::FromStr;

use crate::transcribe::Transcript;

pub use subtitles::{SubtitleOptions, timestamp};

/// A format of transcriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputFormat {
    /// The text of each segment, line by line.
    Txt,
    /// SubRip subtitles.
    Srt,
    /// WebVTT subtitles.
    Vtt,
    /// Start and end in milliseconds, and text, separated by tabs.
    Tsv,
    /// All that is known of each segment.
    Json,
}

impl OutputFormat {
    /// All formats.
    pub const ALL: [OutputFormat; 5] =
        [OutputFormat::Txt, OutputFormat::Srt, OutputFormat::Vtt, OutputFormat::Tsv, OutputFormat::Json];

    /// Name, and ending of file names.
    pub fn name(self) -> &'static str {
        match self {
            OutputFormat::Txt => "txt",
            OutputFormat::Srt => "srt",
            OutputFormat::Vtt => "vtt",
            OutputFormat::Tsv => "tsv",
            OutputFormat::Json => "json",
        }
    }

    /// A transcription in this format.
    ///
    /// ```
    /// use rlx_whisper::output::{OutputFormat, SubtitleOptions};
    /// use rlx_whisper::transcribe::Transcript;
    /// let nothing = Transcript::new(Vec::new(), "en".into());
    /// assert_eq!(OutputFormat::Vtt.render(&nothing, &SubtitleOptions::default()), "WEBVTT\n\n");
    /// ```
    pub fn render(self, transcript: &Transcript, options: &SubtitleOptions) -> String {
        match self {
            OutputFormat::Txt => transcript.segments.iter().map(|s| format!("{}\n", s.text.trim())).collect(),
            OutputFormat::Srt => {
                let mut out = String::new();
                for (i, s) in subtitles::subtitles(transcript, options).iter().enumerate() {
                    let (start, end) = (timestamp(s.start, true, ','), timestamp(s.end, true, ','));
                    // Writing to a String cannot fail.
                    let _ = write!(out, "{}\n{start} --> {end}\n{}\n\n", i + 1, s.text);
                }
                out
            }
            OutputFormat::Vtt => {
                let mut out = String::from("WEBVTT\n\n");
                for s in subtitles::subtitles(transcript, options) {
                    let (start, end) = (timestamp(s.start, false, '.'), timestamp(s.end, false, '.'));
                    let _ = write!(out, "{start} --> {end}\n{}\n\n", s.text);
                }
                out
            }
            OutputFormat::Tsv => {
                let mut out = String::from("start\tend\ttext\n");
                for s in &transcript.segments {
                    let (start, end) = (subtitles::milliseconds(s.start), subtitles::milliseconds(s.end));
                    let _ = writeln!(out, "{start}\t{end}\t{}", s.text.trim().replace('\t', " "));
                }
                out
            }
            OutputFormat::Json => json::render(transcript),
        }
    }
}

impl FromStr for OutputFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<OutputFormat, String> {
        let found = OutputFormat::ALL.into_iter().find(|f| name.eq_ignore_ascii_case(f.name()));
        found.ok_or_else(|| format!("expected one of {}", OutputFormat::ALL.map(OutputFormat::name).join(", ")))
    }
}
