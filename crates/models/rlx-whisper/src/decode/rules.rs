//! What may be written next.

use rlx_core::CoreError;
use rlx_runtime::log_sum_exp;
use rlx_text::{TextError, logits};

use super::DecodeOptions;
use crate::text::WhisperText;

const NEVER: f32 = f32::NEG_INFINITY;

/// The rules that a window's tokens keep (openai/whisper, `decoding.py`: `SuppressBlank`, `SuppressTokens`,
/// `ApplyTimestampRules`).
#[derive(Debug)]
pub(super) struct Rules {
    suppress: Vec<u32>,
    /// Forbidden as the first token.
    blank: Vec<u32>,
    timestamps: Option<TimestampRules>,
}

#[derive(Debug)]
struct TimestampRules {
    begin: usize,
    eot: usize,
    no_timestamps: u32,
    /// Of the first timestamp, counted from `begin`.
    max_initial: Option<usize>,
}

impl Rules {
    /// `precision` is the time between two timestamps in seconds.
    pub(super) fn new(text: &WhisperText, options: &DecodeOptions, precision: f64) -> Result<Rules, CoreError> {
        let mut suppress = options.suppress.tokens.clone();
        if options.suppress.non_speech {
            suppress.extend(text.non_speech_tokens()?);
        }
        let specials =
            [text.transcribe, text.translate, Some(text.sot), Some(text.sot_prev), text.sot_lm, text.no_speech];
        suppress.extend(specials.into_iter().flatten());
        suppress.sort_unstable();
        suppress.dedup();
        let mut blank = Vec::new();
        if options.suppress_blank {
            blank = text.encode(" ")?;
            blank.push(text.eot);
        }
        let timestamps = options.timestamps.then(|| TimestampRules {
            begin: text.timestamp_begin as usize,
            eot: text.eot as usize,
            no_timestamps: text.no_timestamps,
            max_initial: options.max_initial_timestamp.map(|t| (f64::from(t) / precision).round() as usize),
        });
        Ok(Rules { suppress, blank, timestamps })
    }

    /// Makes the logits of what may not follow `written` minus infinity, and gives the largest of the others.
    ///
    /// # Errors
    /// If a logit is NaN.
    pub(super) fn apply(&self, row: &mut [f32], written: &[u32]) -> Result<f32, CoreError> {
        for &id in &self.suppress {
            forbid(row, id);
        }
        if written.is_empty() {
            for &id in &self.blank {
                forbid(row, id);
            }
        }
        match &self.timestamps {
            Some(rules) => rules.apply(row, written),
            None => max(row),
        }
    }
}

impl TimestampRules {
    fn apply(&self, row: &mut [f32], written: &[u32]) -> Result<f32, CoreError> {
        forbid(row, self.no_timestamps);
        let begin = self.begin.min(row.len());
        let is_timestamp = |id: &u32| *id as usize >= self.begin;
        let last = written.last().is_some_and(is_timestamp);
        let before_last = written.len() < 2 || is_timestamp(&written[written.len() - 2]);
        // Timestamps come in pairs, the end of a segment and the beginning of the next, except directly before the end.
        if last {
            if before_last {
                row[begin..].fill(NEVER);
            } else {
                row[..self.eot.min(begin)].fill(NEVER);
            }
        }
        // They do not go back, and a segment is not empty, lest the text go round in circles.
        if let Some(&latest) = written.iter().rev().find(|id| is_timestamp(id)) {
            let from = latest as usize + usize::from(!last || before_last);
            let from = from.clamp(begin, row.len());
            row[begin..from].fill(NEVER);
        }
        if written.is_empty() {
            row[..begin].fill(NEVER);
            if let Some(max) = self.max_initial {
                let after = begin.saturating_add(max).saturating_add(1).min(row.len());
                row[after..].fill(NEVER);
            }
        }
        // If all timestamps together are more probable than any text, one of them is written.
        let (text, times) = row.split_at_mut(begin);
        let best_text = max(text)?;
        let best_time = max(times)?;
        if log_sum_exp(times, best_time) > best_text {
            text.fill(NEVER);
            return Ok(best_time);
        }
        Ok(best_text.max(best_time))
    }
}

fn forbid(row: &mut [f32], id: u32) {
    if let Some(logit) = row.get_mut(id as usize) {
        *logit = NEVER;
    }
}

/// The largest logit.
///
/// # Errors
/// If one is NaN.
pub(crate) fn max(row: &[f32]) -> Result<f32, CoreError> {
    let nan = || TextError::Logits("a logit is NaN; the model's computation went wrong (broken weights?)".into());
    Ok(logits::max(row).ok_or_else(nan)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Suppress;
    use crate::support::*;

    /// What may follow `written` where every logit is 0 but those of `likely`.
    fn allowed(options: &DecodeOptions, written: &[u32], likely: &[(u32, f32)]) -> Vec<u32> {
        let rules = Rules::new(&text(true), options, 0.02).unwrap();
        // So low that all timestamps together weigh less than a letter.
        let mut row = vec![-1.0; VOCAB];
        row[at(0) as usize..].fill(-20.0);
        likely.iter().for_each(|&(id, logit)| row[id as usize] = logit);
        let best = rules.apply(&mut row, written).unwrap();
        assert_eq!(Some(best), logits::max(&row));
        (0u32..).zip(row).filter(|(_, logit)| *logit > NEVER).map(|(id, _)| id).collect()
    }

    fn times(ids: &[u32]) -> Vec<u32> {
        ids.iter().copied().filter(|&id| id >= TIME_0).collect()
    }

    fn letters(ids: &[u32]) -> usize {
        ids.iter().filter(|&&id| id < EOT).count()
    }

    #[test]
    fn a_text_begins_with_a_timestamp_of_its_first_second() {
        let found = allowed(&DecodeOptions::default(), &[], &[]);
        assert_eq!(found, (at(0)..=at(100)).collect::<Vec<_>>());
        let any = DecodeOptions { max_initial_timestamp: None, ..DecodeOptions::default() };
        assert_eq!(allowed(&any, &[], &[]).len(), 1501);
        let zero = DecodeOptions { max_initial_timestamp: Some(0.0), ..DecodeOptions::default() };
        assert_eq!(allowed(&zero, &[], &[]), [at(0)]);
    }

    #[test]
    fn timestamps_come_in_pairs_and_go_forward() {
        let options = DecodeOptions::default();
        // Text follows the first one.
        let found = allowed(&options, &[at(50)], &[]);
        assert!(times(&found).is_empty() && letters(&found) > 200 && found.contains(&EOT));
        // After text, later timestamps may follow, or more text.
        let found = allowed(&options, &[at(50), 97], &[]);
        assert_eq!(times(&found), (at(52)..TIME_0 + 1501).collect::<Vec<_>>());
        assert!(letters(&found) > 200);
        // After the end of a segment comes the beginning of the next, not before it, or the end.
        let found = allowed(&options, &[at(50), 97, at(200)], &[]);
        assert_eq!(times(&found), (at(200)..TIME_0 + 1501).collect::<Vec<_>>());
        assert!(letters(&found) == 0 && found.contains(&EOT));
        // Then text.
        let found = allowed(&options, &[at(50), 97, at(200), at(200)], &[]);
        assert!(times(&found).is_empty() && letters(&found) > 200);
        // The last timestamp of all leaves nothing but text and the end.
        let found = allowed(&options, &[at(0), 97, at(3000), at(3000), 97], &[]);
        assert!(times(&found).is_empty() && found.contains(&EOT));
    }

    #[test]
    fn timestamps_that_are_likelier_together_than_any_text_win() {
        let likely: Vec<(u32, f32)> = (0..100).map(|i| (at(100) + i, -2.0)).collect();
        let found = allowed(&DecodeOptions::default(), &[at(0), 97], &likely);
        assert!(letters(&found) == 0 && found.len() > 100, "100 e^-2 are more than e^-1");
        let found = allowed(&DecodeOptions::default(), &[at(0), 97], &likely[..2]);
        assert!(letters(&found) > 200);
    }

    #[test]
    fn symbols_and_control_tokens_are_never_written() {
        let found = allowed(&DecodeOptions::default(), &[at(0), 97], &[]);
        for forbidden in ["(", "[", "{", "#", "~"].map(|s| bytes(s)[0]).into_iter().chain([
            SOT,
            EN - 1,
            TRANSLATE,
            TRANSCRIBE,
            SOT_PREV,
            NO_SPEECH,
            NO_TIMESTAMPS,
        ]) {
            assert!(!found.contains(&forbidden), "{forbidden}");
        }
        for fine in [",", ".", "?", "a", "-", "'"].map(|s| bytes(s)[0]) {
            assert!(found.contains(&fine), "{fine}");
        }
        let none = DecodeOptions {
            suppress: Suppress { non_speech: false, tokens: vec![97] },
            timestamps: false,
            ..DecodeOptions::default()
        };
        let found = allowed(&none, &[98], &[]);
        assert!(found.contains(&bytes("(")[0]) && !found.contains(&97));
        // A text may not begin with a space, or be empty; later both are fine.
        let first = allowed(&none, &[], &[]);
        for id in [32, EOT] {
            assert!(!first.contains(&id) && found.contains(&id));
        }
    }
}
