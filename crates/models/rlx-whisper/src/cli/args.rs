//! Arguments of `whisper` and `transcribe`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use rlx_cli::UsageError;
use rlx_cli::args::{FetchArgs, ModelArgs, OutputArgs, QuantArgs, values};
use rlx_cli::run::args::PlanArgs;

use crate::decode::{DecodeOptions, Suppress};
use crate::output::{OutputFormat, SubtitleOptions};
use crate::text::{Task, language_code};
use crate::transcribe::TranscribeOptions;

/// Windows that are encoded and decoded at once with --vad, where nothing is said.
const DEFAULT_REGION_BATCH: usize = 8;

/// Turn speech into text. Sound files may be WAV, FLAC, MP3, OGG Vorbis or M4A, of any sample rate and number of
/// channels. The text comes line by line while the sound is read; without --weights the default model is fetched once and
/// used.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run transcribe interview.mp3
  rlx-run transcribe a.wav b.flac --output texts/ --output-format srt
  rlx-run whisper --weights whisper-small/ --wav talk.wav --language de --translate
  rlx-run whisper --wav talk.wav --timestamps --word-align dtw -o talk.vtt
  rlx-run transcribe meeting.m4a --vad --beam-size 1 --json
  rlx-run transcribe interview.mp3 --profile
  rlx-run transcribe --explain
  arecord -f S16_LE -r 16000 -t raw | rlx-run transcribe --stream -")]
pub(super) struct Args {
    /// Sound files; - is standard input (with --stream)
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The same as FILE
    #[arg(long, value_name = "FILE")]
    pub(super) wav: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) quant: QuantArgs,
    /// Accepted for older scripts: --precision says how to compute
    #[arg(long, help_heading = "Model")]
    pub(super) f16: bool,
    #[command(flatten)]
    pub(super) speech: SpeechArgs,
    #[command(flatten)]
    pub(super) decode: DecodeArgs,
    #[command(flatten)]
    pub(super) regions: RegionArgs,
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    #[command(flatten)]
    pub(super) write: WriteArgs,
    #[command(flatten)]
    pub(super) plan: PlanArgs,
    #[command(flatten)]
    pub(super) fetch: FetchArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    /// Check model, options and sound files, and stop before any work
    #[arg(long, alias = "dry-run")]
    pub(super) dry: bool,
}

/// Whether to find out when words were said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WordAlign {
    /// Segments only
    Off,
    /// By what the model attends to, with dynamic time warping
    Dtw,
}

/// What is said, and what to write of it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Speech")]
pub(super) struct SpeechArgs {
    /// Language spoken: a code such as de, or its English name [default: found out from the first 30 s]
    #[arg(long, visible_alias = "lang", value_name = "LANGUAGE", value_parser = language)]
    language: Option<String>,
    /// Write a translation into English
    #[arg(long)]
    translate: bool,
    /// Text that the first window is read on from: names and words to expect, and the style of writing
    #[arg(long, visible_alias = "initial-prompt", value_name = "TEXT")]
    prompt: Option<String>,
    /// Words to expect, told to every window
    #[arg(long, value_name = "TEXT")]
    hotwords: Option<String>,
    /// Read each window without regard to the text before it
    #[arg(long)]
    no_condition_on_previous_text: bool,
    /// Whether to find out when each word was said
    #[arg(long, value_enum, value_name = "HOW", default_value = "off")]
    word_align: WordAlign,
    /// With --word-align dtw: skip silence longer than this around words that look made up, in seconds
    #[arg(long, value_name = "S", value_parser = values::positive)]
    hallucination_silence_threshold: Option<f32>,
}

/// How to decode.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Decoding")]
pub(super) struct DecodeArgs {
    /// Beams at temperature 0; 1 is greedy and fastest
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = values::at_least_one)]
    pub(super) beam_size: usize,
    /// Texts that are drawn at temperatures above 0
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = values::at_least_one)]
    best_of: usize,
    /// A beam search ends when beam size times this texts are finished
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = values::positive)]
    patience: f32,
    /// Rank texts by log probability / ((5 + length) / 6)^X [default: by log probability / length]
    #[arg(long, value_name = "X", value_parser = values::share)]
    length_penalty: Option<f32>,
    /// First temperature
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = values::non_negative)]
    temperature: f32,
    /// What the temperature grows by, up to 1, while a text is not good enough; 0 tries the first one only
    #[arg(long, value_name = "T", default_value_t = 0.2, value_parser = values::non_negative)]
    temperature_increment: f32,
    /// A text that zlib makes smaller by more than this repeats itself and is tried again
    #[arg(long, value_name = "X", default_value_t = 2.4, value_parser = values::positive)]
    compression_ratio_threshold: f32,
    /// A text of a mean log probability below this is tried again
    #[arg(long, value_name = "X", default_value_t = -1.0, allow_hyphen_values = true)]
    logprob_threshold: f32,
    /// A window is silent if this is more probable than the text is good
    #[arg(long, value_name = "P", default_value_t = 0.6, value_parser = values::share)]
    no_speech_threshold: f32,
    /// Tokens never to write, by id; -1 stands for symbols of no speech: brackets, notes
    #[arg(long, value_name = "IDS", default_value = "-1", allow_hyphen_values = true, value_parser = suppress)]
    suppress_tokens: Suppress,
    /// Write no timestamps: each window of 30 s is one segment
    #[arg(long)]
    no_timestamps: bool,
    /// Latest time of a window's first word, in seconds
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = values::non_negative)]
    max_initial_timestamp: f32,
    /// Most tokens of a window [default: half of what the model can read]
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    max_tokens: Option<usize>,
    /// Seed of the draws at temperatures above 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Where there is speech.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Voice activity")]
pub(super) struct RegionArgs {
    /// Find speech first, leave silence out, and read windows of speech side by side
    #[arg(long)]
    pub(super) vad: bool,
    /// Read windows in which nothing like speech is heard, too; the model may make words up there
    #[arg(long, conflicts_with = "vad")]
    pub(super) no_speech_check: bool,
    /// Windows that are read at once with --vad
    #[arg(long, value_name = "N", default_value_t = DEFAULT_REGION_BATCH, value_parser = values::at_least_one)]
    pub(super) max_region_batch: usize,
    /// Least probability of speech
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = values::share)]
    pub(super) vad_threshold: f32,
}

/// Sound that is still arriving.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Streaming")]
pub(super) struct StreamArgs {
    /// Read the sound as it arrives: WAV, or samples of 16 bits (little-endian)
    #[arg(long, conflicts_with_all = ["vad", "dry"])]
    pub(super) stream: bool,
    /// Seconds of new sound after which what is there is read again
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = values::positive)]
    pub(super) stream_interval: f32,
    /// Sample rate of samples without a header, in Hz
    #[arg(long, value_name = "HZ", default_value_t = 16_000)]
    pub(super) stream_rate: u32,
    /// Channels of samples without a header
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::at_least_one)]
    pub(super) stream_channels: usize,
}

/// What to write, and where.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct WriteArgs {
    /// Print the times of each segment before its text
    #[arg(long)]
    pub(super) timestamps: bool,
    /// File to write, or directory for one file per sound
    #[arg(long, short = 'o', visible_alias = "output-dir", value_name = "PATH")]
    pub(super) output: Option<PathBuf>,
    /// srt, vtt, tsv, json or txt; several may be given, separated by commas [default: by the ending of --output, or txt]
    #[arg(long, value_name = "FORMAT", value_delimiter = ',')]
    pub(super) output_format: Vec<OutputFormat>,
    /// Longest line of subtitles in characters; needs --word-align dtw
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    max_line_width: Option<usize>,
    /// Most lines of a subtitle; needs --word-align dtw and --max-line-width
    #[arg(long, value_name = "N", requires = "max_line_width", value_parser = values::at_least_one)]
    max_line_count: Option<usize>,
    /// Most words of a line of subtitles; needs --word-align dtw
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    max_words_per_line: Option<usize>,
    /// Underline each word of subtitles while it is said; needs --word-align dtw
    #[arg(long)]
    highlight_words: bool,
}

impl Args {
    /// All sounds.
    pub(super) fn sounds(&self) -> Vec<PathBuf> {
        self.wav.iter().chain(&self.files).cloned().collect()
    }

    /// How to transcribe.
    ///
    /// # Errors
    /// If options do not go together.
    pub(super) fn transcribe_options(&self) -> anyhow::Result<TranscribeOptions> {
        let speech = &self.speech;
        let words = speech.word_align == WordAlign::Dtw;
        let subtitles = self.write.subtitle_options();
        if !words && (subtitles != SubtitleOptions::default() || speech.hallucination_silence_threshold.is_some()) {
            let text = "line layout, --highlight-words and --hallucination-silence-threshold need --word-align dtw";
            return Err(UsageError(text.to_owned()).into());
        }
        Ok(TranscribeOptions {
            decode: self.decode.options(),
            language: speech.language.clone(),
            task: if speech.translate { Task::Translate } else { Task::Transcribe },
            initial_prompt: speech.prompt.clone(),
            hotwords: speech.hotwords.clone(),
            condition_on_previous_text: !speech.no_condition_on_previous_text,
            word_timestamps: words,
            hallucination_silence_threshold: speech.hallucination_silence_threshold.map(f64::from),
        })
    }
}

impl DecodeArgs {
    fn options(&self) -> DecodeOptions {
        DecodeOptions {
            beam_size: self.beam_size,
            patience: self.patience,
            best_of: self.best_of,
            length_penalty: self.length_penalty,
            max_tokens: self.max_tokens,
            suppress: self.suppress_tokens.clone(),
            suppress_blank: true,
            timestamps: !self.no_timestamps,
            max_initial_timestamp: Some(self.max_initial_timestamp),
            temperatures: temperatures(self.temperature, self.temperature_increment),
            compression_ratio_threshold: Some(self.compression_ratio_threshold),
            logprob_threshold: Some(self.logprob_threshold),
            no_speech_threshold: Some(self.no_speech_threshold),
            seed: self.seed,
        }
    }
}

impl WriteArgs {
    /// How to lay subtitles out.
    pub(super) fn subtitle_options(&self) -> SubtitleOptions {
        SubtitleOptions {
            max_line_width: self.max_line_width,
            max_line_count: self.max_line_count,
            max_words_per_line: self.max_words_per_line,
            highlight_words: self.highlight_words,
        }
    }
}

/// From the first temperature up to 1.
fn temperatures(first: f32, increment: f32) -> Vec<f32> {
    // Finer steps than a hundredth only cost time.
    let increment = if increment < 0.01 { return vec![first] } else { increment };
    // Rounded, so that three times 0.2 are 0.6.
    let steps = (0u8..).map(|i| ((first + f32::from(i) * increment) * 1000.0).round() / 1000.0);
    let more = steps.skip(1).take_while(|t| *t <= 1.0).take(100);
    std::iter::once(first).chain(more).collect()
}

fn language(name: &str) -> Result<String, String> {
    match language_code(name) {
        Some(code) => Ok(code.to_owned()),
        None => Err("expected a language code such as de, or its English name".to_owned()),
    }
}

fn suppress(text: &str) -> Result<Suppress, String> {
    let mut suppress = Suppress { non_speech: false, tokens: Vec::new() };
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part {
            "-1" => suppress.non_speech = true,
            id => suppress.tokens.push(id.parse().map_err(|_| format!("`{id}` is no token id"))?),
        }
    }
    Ok(suppress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_grow_to_one() {
        assert_eq!(temperatures(0.0, 0.2), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(temperatures(0.5, 0.3), [0.5, 0.8]);
        assert_eq!(temperatures(0.3, 0.0), [0.3]);
        assert_eq!(temperatures(2.0, 0.2), [2.0]);
        assert_eq!(temperatures(0.0, 1e-9), [0.0]);
    }

    #[test]
    fn defaults_are_those_of_the_library_with_five_beams() {
        let args = Args::try_parse_from(["x", "a.wav"]).unwrap();
        let options = args.transcribe_options().unwrap();
        let mut want = TranscribeOptions::default();
        want.decode.beam_size = 5;
        assert_eq!(options, want);
    }

    #[test]
    fn published_flags_mean_what_they_did() {
        let line = "x --weights m --config c --tokenizer t --wav a.wav --device cpu --lang German --translate \
                    --beam-size 2 --f16 --vad --max-region-batch 3 --timestamps --word-align dtw -o out \
                    --output-format srt --dry";
        let args = Args::try_parse_from(line.split_whitespace()).unwrap();
        let options = args.transcribe_options().unwrap();
        assert_eq!(options.language.as_deref(), Some("de"));
        assert!(options.word_timestamps && options.task == Task::Translate && args.dry && args.regions.vad);
        assert_eq!((options.decode.beam_size, args.regions.max_region_batch), (2, 3));
        assert_eq!(args.write.output_format, [OutputFormat::Srt]);
    }

    #[test]
    fn wrong_usage_is_told() {
        for bad in
            ["--beam-size 0", "--language klingon", "--suppress-tokens x", "--output-format pdf", "--stream --vad"]
        {
            let line = format!("x a.wav {bad}");
            assert!(Args::try_parse_from(line.split_whitespace()).is_err(), "{bad}");
        }
        let args = Args::try_parse_from(["x", "a.wav", "--highlight-words"]).unwrap();
        assert!(args.transcribe_options().unwrap_err().to_string().contains("--word-align dtw"));
        assert_eq!(suppress("-1, 7,8").unwrap(), Suppress { non_speech: true, tokens: vec![7, 8] });
        assert_eq!(suppress("").unwrap(), Suppress { non_speech: false, tokens: vec![] });
    }
}
