//! A window's tokens to segments, by their timestamps.

use crate::text::WhisperText;

/// Tokens between two timestamps, in seconds from the beginning of the window.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) tokens: Vec<u32>,
}

/// The segments of a window.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pieces {
    pub(super) pieces: Vec<Piece>,
    /// What follows the last closed segment, if there is one: its beginning is known, not its end.
    pub(super) tail: Option<Piece>,
    /// Where the next window begins: after the last closed segment if something follows it, else at the end of this one.
    /// Seconds from the beginning of the window.
    pub(super) next: f64,
    /// The text ends with a single timestamp: nobody speaks after it.
    pub(super) complete: bool,
}

impl Pieces {
    /// Splits `tokens` of a window that is `duration` seconds long. Timestamps are `precision` seconds apart (openai/whisper,
    /// `transcribe.py`).
    pub(super) fn split(text: &WhisperText, tokens: &[u32], duration: f64, precision: f64) -> Pieces {
        let is_time = |id: &u32| text.is_timestamp(*id);
        let time = |id: u32| f64::from(id.saturating_sub(text.timestamp_begin)) * precision;
        let complete = matches!(tokens, [.., a, b] if !is_time(a) && is_time(b));
        let mut ends: Vec<usize> =
            (1..tokens.len()).filter(|&i| is_time(&tokens[i]) && is_time(&tokens[i - 1])).collect();
        if ends.is_empty() {
            // One segment. If it has a timestamp other than the first, the last one ends it.
            let last = tokens.iter().rev().find(|id| is_time(id)).filter(|&&id| id != text.timestamp_begin);
            let end = last.map_or(duration, |&id| time(id));
            let piece = Piece { start: 0.0, end, tokens: tokens.to_vec() };
            return Pieces { pieces: vec![piece], tail: None, next: duration, complete };
        }
        if complete {
            ends.push(tokens.len());
        }
        let mut pieces = Vec::with_capacity(ends.len());
        let mut begin = 0;
        for end in ends {
            let slice = &tokens[begin..end];
            let (Some(&first), Some(&last)) = (slice.first(), slice.last()) else { continue };
            pieces.push(Piece { start: time(first), end: time(last), tokens: slice.to_vec() });
            begin = end;
        }
        let rest = &tokens[begin..];
        let has_text = rest.iter().any(|&id| id < text.eot);
        let tail = has_text.then(|| Piece { start: time(rest[0]), end: duration, tokens: rest.to_vec() });
        let next = if complete { duration } else { tokens.get(begin.wrapping_sub(1)).map_or(duration, |&id| time(id)) };
        Pieces { pieces, tail, next, complete }
    }
}
