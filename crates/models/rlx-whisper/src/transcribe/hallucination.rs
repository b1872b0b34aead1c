//! Silence around words that were hardly said (openai/whisper, `transcribe.py`, `hallucination_silence_threshold`).

use super::types::{Segment, Word};

/// Marks that do not count as words.
const PUNCTUATION: &str = "\"'“¿([{-\"'.。,，!！?？:：”)]}、";

/// The window that segments were read from, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: f64,
    /// End of the sound in it.
    pub(super) end: f64,
    /// End of the window with its padding.
    pub(super) padded_end: f64,
    /// End of the whole sound.
    pub(super) content_end: f64,
    /// End of the last word before.
    pub(super) last_speech: f64,
}

/// What to do about a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// Forget the segments and read on from here.
    Skip(f64),
    /// Forget the segments from this one on, and read on from here.
    Cut(usize, f64),
}

/// Looks for segments that are surrounded by silence longer than `threshold` and look made up.
pub(super) fn judge(segments: &[Segment], span: Span, threshold: f64) -> Verdict {
    let next_with_words = |from: usize| segments[from..].iter().find(|s| !words(s).is_empty());
    if let Some(first) = next_with_words(0).filter(|s| is_anomalous(s)) {
        let gap = first.start - span.start;
        if gap > threshold {
            return Verdict::Skip(first.start);
        }
    }
    let mut last_end = span.last_speech;
    for (i, segment) in segments.iter().enumerate() {
        if words(segment).is_empty() {
            continue;
        }
        if is_anomalous(segment) {
            let next = next_with_words(i + 1);
            let next_start = next.and_then(|s| words(s).first()).map_or(span.end, |word| word.start);
            let before =
                segment.start - last_end > threshold || segment.start < threshold || segment.start - span.start < 2.0;
            let after = next_start - segment.end > threshold
                || next.is_some_and(is_anomalous)
                || span.padded_end - segment.end < 2.0;
            if before && after {
                let at_end = span.content_end - segment.end < threshold;
                let from = if at_end { span.content_end } else { segment.start.max(span.start + 1.0) };
                return Verdict::Cut(i, from);
            }
        }
        last_end = segment.end;
    }
    Verdict::Keep
}

fn words(segment: &Segment) -> &[Word] {
    segment.words.as_deref().unwrap_or_default()
}

/// Whether the first words are improbable, very short or very long.
fn is_anomalous(segment: &Segment) -> bool {
    let words = words(segment).iter().filter(|w| !PUNCTUATION.contains(w.word.as_str())).take(8);
    let scores: Vec<f64> = words.map(anomaly).collect();
    let score: f64 = scores.iter().sum();
    score >= 3.0 || score + 0.01 >= scores.len() as f64
}

fn anomaly(word: &Word) -> f64 {
    let duration = word.end - word.start;
    let improbable = if word.probability < 0.15 { 1.0 } else { 0.0 };
    improbable + (0.133 - duration).max(0.0) * 15.0 + (duration - 2.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: f64, end: f64, probability: f64) -> Segment {
        let word = Word { word: " word".into(), start, end, probability };
        Segment {
            id: 0,
            seek: 0,
            start,
            end,
            text: " word".into(),
            tokens: vec![1],
            temperature: 0.0,
            avg_logprob: -0.5,
            compression_ratio: 1.0,
            no_speech_prob: 0.1,
            words: Some(vec![word]),
        }
    }

    const SPAN: Span = Span { start: 30.0, end: 60.0, padded_end: 60.0, content_end: 300.0, last_speech: 29.0 };

    #[test]
    fn likely_words_are_kept() {
        assert_eq!(judge(&[segment(45.0, 46.0, 0.9)], SPAN, 2.0), Verdict::Keep);
        assert_eq!(judge(&[], SPAN, 2.0), Verdict::Keep);
    }

    #[test]
    fn silence_before_a_made_up_beginning_is_skipped() {
        assert_eq!(judge(&[segment(45.0, 46.0, 0.05)], SPAN, 2.0), Verdict::Skip(45.0));
    }

    #[test]
    fn made_up_words_in_silence_are_cut() {
        let segments = [segment(31.0, 32.0, 0.9), segment(50.0, 50.05, 0.05), segment(58.0, 59.0, 0.9)];
        assert_eq!(judge(&segments, SPAN, 2.0), Verdict::Cut(1, 50.0));
        let last = Span { content_end: 51.0, ..SPAN };
        assert_eq!(judge(&segments[..2], last, 2.0), Verdict::Cut(1, 51.0), "nothing comes after the end");
    }
}
