//! Word timestamps (openai/whisper, `timing.py`).

use rlx_core::CoreError;
use rlx_runtime::log_sum_exp;

use super::dtw::token_positions;
use super::types::{Segment, Word};
use crate::decode::{FRAMES_PER_SECOND, SpeechModel, WindowId};
use crate::text::WhisperText;

/// Punctuation that belongs to the word after it.
const PREPENDED: &str = "\"'“¿([{-";
/// Punctuation that belongs to the word before it.
const APPENDED: &str = "\"'.。,，!！?？:：”)]}、";
/// Marks that end sentences.
const SENTENCE_ENDS: &str = ".。!！?？";

/// A word of a window, in seconds from the window's beginning.
#[derive(Clone, Debug, PartialEq)]
struct Timing {
    word: String,
    tokens: Vec<u32>,
    start: f64,
    end: f64,
    probability: f64,
}

/// What the words of a window are found with.
pub(super) struct WordContext<'a> {
    pub(super) text: &'a WhisperText,
    pub(super) window: WindowId,
    pub(super) language: &'a str,
    /// Tokens that follow `<|startoftranscript|>`.
    pub(super) language_and_task: &'a [u32],
    /// Frames of the window that are sound, not padding.
    pub(super) frames: usize,
    /// When the last word before the window ended.
    pub(super) last_speech: f64,
}

/// Gives the segments of one window their words, and the segments' times what the words tell. The window begins at the segments'
/// `seek`.
pub(super) fn add_words<M: SpeechModel + ?Sized>(
    segments: &mut [Segment],
    model: &mut M,
    context: &WordContext<'_>,
) -> Result<(), CoreError> {
    let Some(first) = segments.first() else { return Ok(()) };
    let offset = first.seek as f64 / FRAMES_PER_SECOND;
    let is_text = |id: &&u32| **id < context.text.eot;
    let tokens: Vec<u32> = segments.iter().flat_map(|s| s.tokens.iter().filter(is_text)).copied().collect();
    let mut timings = find_words(&tokens, model, context)?;
    let median = median_duration(&timings).min(0.7);
    let max = median * 2.0;
    shorten_at_sentence_ends(&mut timings, max);
    merge_punctuation(&mut timings);

    let mut timings = timings.into_iter();
    let mut last_speech = context.last_speech;
    for segment in segments {
        let wanted = segment.tokens.iter().filter(is_text).count();
        let mut taken = 0;
        let mut words: Vec<Word> = Vec::new();
        while taken < wanted
            && let Some(timing) = timings.next()
        {
            taken += timing.tokens.len();
            if !timing.word.is_empty() {
                words.push(Word {
                    word: timing.word,
                    start: hundredths(offset + timing.start),
                    end: hundredths(offset + timing.end),
                    probability: timing.probability,
                });
            }
        }
        fit_to_segment(&mut words, segment, last_speech, median, max);
        if !words.is_empty() {
            last_speech = segment.end;
        }
        segment.words = Some(words);
    }
    Ok(())
}

/// The words of `tokens`, and when they were said.
fn find_words<M: SpeechModel + ?Sized>(
    tokens: &[u32],
    model: &mut M,
    context: &WordContext<'_>,
) -> Result<Vec<Timing>, CoreError> {
    let text = context.text;
    let facts = model.facts();
    // The head, <|startoftranscript|>, <|notimestamps|> and the end.
    let room = facts.max_tokens.saturating_sub(context.language_and_task.len() + 3);
    let tokens = &tokens[..tokens.len().min(room)];
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let head = context.language_and_task.len() + 1;
    let mut sequence = vec![text.sot];
    sequence.extend_from_slice(context.language_and_task);
    sequence.push(text.no_timestamps);
    sequence.extend_from_slice(tokens);
    sequence.push(text.eot);
    let alignment = model.align(context.window, &sequence)?;
    let sizes = [
        alignment.heads.checked_mul(alignment.tokens).and_then(|n| n.checked_mul(alignment.positions)),
        alignment.tokens.checked_mul(facts.vocab),
    ];
    if alignment.tokens != sequence.len() || sizes != [Some(alignment.weights.len()), Some(alignment.logits.len())] {
        return Err(CoreError::Config("the model's alignment is not of the size it says".into()));
    }
    // What a token attends to tells where the next one is said.
    let stride = (facts.window_frames / facts.audio_positions.max(1)).max(1);
    let positions = token_positions(&alignment, head, sequence.len() - 1, context.frames / stride);
    let precision = facts.time_precision();
    let time = |token: usize| positions.get(token).map_or(0.0, |&at| at as f64 * precision);

    let probabilities = tokens.iter().enumerate().map(|(i, &token)| {
        let row = &alignment.logits[(head + i) * facts.vocab..][..text.eot as usize];
        let max = crate::decode::max(row)?;
        Ok(f64::from(row[token as usize] - log_sum_exp(row, max)).exp())
    });
    let probabilities: Vec<f64> = probabilities.collect::<Result<_, CoreError>>()?;

    let mut at = 0;
    let words = text.split_to_words(tokens, context.language)?;
    let timings = words.into_iter().map(|word| {
        let (from, to) = (at, at + word.tokens.len());
        at = to;
        let mean = probabilities[from..to].iter().sum::<f64>() / word.tokens.len().max(1) as f64;
        Timing { word: word.word, tokens: word.tokens, start: time(from), end: time(to), probability: mean }
    });
    Ok(timings.collect())
}

/// The median of the durations that are not 0; 0 if there are none.
fn median_duration(timings: &[Timing]) -> f64 {
    let mut durations: Vec<f64> = timings.iter().map(|t| t.end - t.start).filter(|d| *d != 0.0).collect();
    durations.sort_by(f64::total_cmp);
    let n = durations.len();
    match n {
        0 => 0.0,
        _ => (durations[(n - 1) / 2] + durations[n / 2]) / 2.0,
    }
}

/// A word beside the end of a sentence is not longer than twice the median: the rest is a pause.
fn shorten_at_sentence_ends(timings: &mut [Timing], max: f64) {
    if max <= 0.0 {
        return;
    }
    for i in 1..timings.len() {
        if timings[i].end - timings[i].start > max {
            if SENTENCE_ENDS.contains(timings[i].word.as_str()) {
                timings[i].end = timings[i].start + max;
            } else if SENTENCE_ENDS.contains(timings[i - 1].word.as_str()) {
                timings[i].start = timings[i].end - max;
            }
        }
    }
}

/// Opening marks become part of the word after them, closing marks of the word before; the entries they leave are empty.
fn merge_punctuation(timings: &mut [Timing]) {
    let mut following = timings.len().saturating_sub(1);
    for i in (0..following).rev() {
        let word = &timings[i].word;
        if word.starts_with(' ') && PREPENDED.contains(word.trim()) {
            let previous = (std::mem::take(&mut timings[i].word), std::mem::take(&mut timings[i].tokens));
            timings[following].word.insert_str(0, &previous.0);
            timings[following].tokens.splice(0..0, previous.1);
        } else {
            following = i;
        }
    }
    let mut previous = 0;
    for i in 1..timings.len() {
        if !timings[previous].word.ends_with(' ') && APPENDED.contains(timings[i].word.as_str()) {
            let appended = (std::mem::take(&mut timings[i].word), std::mem::take(&mut timings[i].tokens));
            timings[previous].word.push_str(&appended.0);
            timings[previous].tokens.extend(appended.1);
        } else {
            previous = i;
        }
    }
}

/// Reconciles the times of a segment and of its first and last words: after a pause the first words are not overlong, and
/// where word and segment disagree by much, the segment is believed.
fn fit_to_segment(words: &mut [Word], segment: &mut Segment, last_speech: f64, median: f64, max: f64) {
    let Some(first) = words.first().cloned() else { return };
    let overlong = first.end - first.start > max || words.get(1).is_some_and(|w| w.end - first.start > max * 2.0);
    if first.end - last_speech > median * 4.0 && overlong {
        if let Some(second) = words.get_mut(1).filter(|w| w.end - w.start > max) {
            let boundary = (second.end / 2.0).max(second.end - max);
            second.start = boundary;
            words[0].end = boundary;
        }
        words[0].start = (words[0].end - max).max(0.0);
    }
    let first = &mut words[0];
    if segment.start < first.end && segment.start - 0.5 > first.start {
        first.start = (first.end - median).min(segment.start).max(0.0);
    } else {
        segment.start = first.start;
    }
    if let Some(last) = words.last_mut() {
        if segment.end > last.start && segment.end + 0.5 < last.end {
            last.end = (last.start + median).max(segment.end);
        } else {
            segment.end = last.end;
        }
    }
}

/// Seconds rounded to hundredths.
fn hundredths(seconds: f64) -> f64 {
    (seconds * 100.0).round_ties_even() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(word: &str, start: f64, end: f64) -> Timing {
        Timing { word: word.into(), tokens: vec![1], start, end, probability: 1.0 }
    }

    fn merged(words: &[&str]) -> Vec<String> {
        let mut timings: Vec<Timing> = words.iter().map(|w| timing(w, 0.0, 1.0)).collect();
        merge_punctuation(&mut timings);
        assert_eq!(timings.iter().map(|t| t.tokens.len()).sum::<usize>(), words.len(), "no token is lost");
        timings.into_iter().map(|t| t.word).filter(|w| !w.is_empty()).collect()
    }

    #[test]
    fn punctuation_joins_its_word() {
        assert_eq!(merged(&[" He", " said", ",", " \"", "Yes", "!", "\"", " ("]), [" He", " said,", " \"Yes!\"", " ("]);
        assert_eq!(merged(&[" (", " [", " a"]), [" ( [ a"]);
        assert_eq!(merged(&["."]), ["."]);
        assert!(merged(&[]).is_empty());
    }

    #[test]
    fn the_median_ignores_words_without_duration() {
        let timings = [timing("a", 0.0, 0.2), timing("b", 0.2, 0.2), timing("c", 0.2, 0.6)];
        assert!((median_duration(&timings) - 0.3).abs() < 1e-9);
        assert_eq!(median_duration(&timings[1..2]), 0.0);
    }

    #[test]
    fn a_pause_is_not_part_of_a_word() {
        let mut timings = [timing(" a", 0.0, 0.2), timing(".", 0.2, 3.0), timing(" b", 3.0, 8.0)];
        shorten_at_sentence_ends(&mut timings, 0.5);
        assert_eq!((timings[1].end, timings[2].start), (0.7, 7.5));
    }

    #[test]
    fn segments_take_the_times_of_their_words() {
        let word = |start, end| Word { word: " a".into(), start, end, probability: 1.0 };
        let mut segment = Segment {
            id: 0,
            seek: 0,
            start: 10.0,
            end: 12.0,
            text: String::new(),
            tokens: Vec::new(),
            temperature: 0.0,
            avg_logprob: 0.0,
            compression_ratio: 1.0,
            no_speech_prob: 0.0,
            words: None,
        };
        let mut words = [word(10.2, 10.6), word(10.6, 11.9)];
        fit_to_segment(&mut words, &mut segment, 10.0, 0.3, 0.6);
        assert_eq!((segment.start, segment.end), (10.2, 11.9));
        // A first word of many seconds is cut to what the segment says.
        let mut words = [word(2.0, 10.6)];
        segment.start = 10.0;
        fit_to_segment(&mut words, &mut segment, 10.5, 0.3, 0.6);
        assert_eq!((words[0].start, segment.start), (10.0, 10.0));
    }

    #[test]
    fn hundredths_go_to_the_even_neighbour() {
        assert_eq!([hundredths(1.234), hundredths(0.125), hundredths(29.98)], [1.23, 0.12, 29.98]);
    }
}
