//! Segments and words to subtitles (openai/whisper, `utils.py`, `SubtitlesWriter`).

use crate::transcribe::{Segment, Transcript, Word};

/// A silence after which a new subtitle begins, where lines do not keep to segments; in seconds.
const LONG_PAUSE: f64 = 3.0;

/// How to lay subtitles out. All but the defaults need word timestamps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubtitleOptions {
    /// Longest line in characters.
    pub max_line_width: Option<usize>,
    /// Most lines of a subtitle. With `max_line_width`, subtitles do not keep to segments.
    pub max_line_count: Option<usize>,
    /// Most words of a line.
    pub max_words_per_line: Option<usize>,
    /// Whether each word is underlined while it is said.
    pub highlight_words: bool,
}

/// A text and when it is shown, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subtitle {
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) text: String,
}

/// `hh:mm:ss.mmm`; hours are left out where there are none, unless they are asked for.
pub fn timestamp(seconds: f64, hours: bool, decimal_mark: char) -> String {
    let ms = milliseconds(seconds);
    let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    let h = if hours || h > 0 { format!("{h:02}:") } else { String::new() };
    format!("{h}{m:02}:{s:02}{decimal_mark}{ms:03}")
}

/// Seconds to milliseconds, halves to the even neighbour.
pub(super) fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round_ties_even().max(0.0) as u64
}

pub(super) fn subtitles(transcript: &Transcript, options: &SubtitleOptions) -> Vec<Subtitle> {
    let segments = &transcript.segments;
    if segments.first().is_none_or(|s| s.words.is_none()) {
        // An arrow in the text would be read as that of the times.
        let plain = |s: &Segment| Subtitle { start: s.start, end: s.end, text: s.text.trim().replace("-->", "->") };
        return segments.iter().map(plain).collect();
    }
    group(segments, options).iter().flat_map(|words| show(words, options.highlight_words)).collect()
}

/// Words to subtitles. A word that begins a line has a line's end before it.
fn group(segments: &[Segment], options: &SubtitleOptions) -> Vec<Vec<Word>> {
    let keep_segments = options.max_line_count.is_none() || options.max_line_width.is_none();
    let max_width = options.max_line_width.unwrap_or(1000);
    let per_line = options.max_words_per_line.unwrap_or(1000).max(1);
    let mut done = Vec::new();
    let mut current: Vec<Word> = Vec::new();
    let (mut width, mut lines) = (0, 1);
    let words = |s: &Segment| s.words.clone().unwrap_or_default();
    let mut last = segments.iter().flat_map(words).next().map_or(0.0, |w| w.start);
    for segment in segments {
        for (i, mut word) in words(segment).into_iter().enumerate() {
            let length = word.word.chars().count();
            let pause = !keep_segments && word.start - last > LONG_PAUSE;
            let new_segment = i % per_line == 0 && !current.is_empty() && keep_segments;
            last = word.start;
            if width > 0 && width + length <= max_width && !pause && !new_segment {
                width += length;
                current.push(word);
                continue;
            }
            word.word = word.word.trim().to_owned();
            let full = options.max_line_count.is_some_and(|max| pause || lines >= max);
            if !current.is_empty() && full || new_segment {
                done.push(std::mem::take(&mut current));
                lines = 1;
            } else if width > 0 {
                lines += 1;
                word.word.insert(0, '\n');
            }
            width = word.word.trim().chars().count();
            current.push(word);
        }
    }
    if !current.is_empty() {
        done.push(current);
    }
    done
}

/// A subtitle; or, with the words underlined in turn, one for each of them and for the pauses between.
fn show(words: &[Word], highlight: bool) -> Vec<Subtitle> {
    let (Some(first), Some(last)) = (words.first(), words.last()) else { return Vec::new() };
    let text: String = words.iter().map(|w| w.word.as_str()).collect();
    if !highlight {
        return vec![Subtitle { start: first.start, end: last.end, text }];
    }
    let mut shown = Vec::new();
    let mut until = first.start;
    for (i, word) in words.iter().enumerate() {
        if milliseconds(until) != milliseconds(word.start) {
            shown.push(Subtitle { start: until, end: word.start, text: text.clone() });
        }
        let marked = words.iter().enumerate().map(|(j, w)| if i == j { underlined(&w.word) } else { w.word.clone() });
        shown.push(Subtitle { start: word.start, end: word.end, text: marked.collect() });
        until = word.end;
    }
    shown
}

fn underlined(word: &str) -> String {
    let text = word.trim_start();
    let (space, text) = (&word[..word.len() - text.len()], text);
    format!("{space}<u>{text}</u>")
}
