//! Windows to texts: all windows of a batch at once, temperature after temperature.

use std::io::Write;
use std::ops::ControlFlow;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rlx_core::CoreError;
use rlx_runtime::log_sum_exp;

use super::rules::{Rules, max};
use super::search::{Grown, Search, Track};
use super::{DecodeOptions, Feed, SequenceId, SpeechFacts, SpeechModel, WindowId};
use crate::text::WhisperText;

/// A window to decode, and what goes before its text.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The window.
    pub window: WindowId,
    /// Text before the window's own, which sets style and spelling. Its last `max_tokens / 2 - 1` tokens are read.
    pub prompt: &'a [u32],
    /// Given by [`WhisperText::language_and_task`].
    pub language_and_task: &'a [u32],
}

/// The text of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Tokens, timestamps among them.
    pub tokens: Vec<u32>,
    /// Text without the spaces around it.
    pub text: String,
    /// Mean log probability of the tokens and the end.
    pub avg_logprob: f64,
    /// Probability of the no-speech token at the beginning; 0 for vocabularies that have none.
    pub no_speech_prob: f32,
    /// Temperature that the text was found at.
    pub temperature: f32,
    /// Length of the text over that of its zlib stream.
    pub compression_ratio: f64,
}

/// Probability of a language.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LanguageProb {
    /// Code: `en`.
    pub code: &'static str,
    /// From 0 to 1.
    pub probability: f32,
}

/// Decodes windows by fixed options.
#[derive(Debug)]
pub struct Decoder {
    options: DecodeOptions,
    facts: SpeechFacts,
    rules: Rules,
    text: WhisperText,
}

/// A window whose prompt has run.
struct Base {
    sequence: SequenceId,
    /// Tokens of the prompt.
    len: usize,
    /// The logits after it.
    row: Vec<f32>,
    no_speech_prob: f32,
}

/// A search that is going on.
struct Active {
    /// Index of the window.
    window: usize,
    search: Search,
    tracks: Vec<Track>,
    sequences: Vec<SequenceId>,
}

/// Sequences that have not been removed yet.
#[derive(Default)]
struct Live(Vec<SequenceId>);

impl Live {
    fn add<M: SpeechModel + ?Sized>(&mut self, model: &mut M, window: WindowId) -> Result<SequenceId, CoreError> {
        let id = model.add_sequence(window)?;
        self.0.push(id);
        Ok(id)
    }

    fn fork<M: SpeechModel + ?Sized>(&mut self, model: &mut M, of: SequenceId) -> Result<SequenceId, CoreError> {
        let id = model.fork(of)?;
        self.0.push(id);
        Ok(id)
    }

    fn remove<M: SpeechModel + ?Sized>(&mut self, model: &mut M, id: SequenceId) -> Result<(), CoreError> {
        self.0.retain(|&live| live != id);
        model.remove(id)
    }
}

impl Decoder {
    /// # Errors
    /// If an option is out of range, or the model and its vocabulary do not fit.
    pub fn new(facts: SpeechFacts, text: &WhisperText, options: DecodeOptions) -> Result<Decoder, CoreError> {
        options.validate()?;
        if facts.window_frames == 0 || facts.audio_positions == 0 || facts.vocab == 0 || facts.n_mels == 0 {
            return Err(CoreError::Config("a model of speech with a size of 0".into()));
        }
        if text.timestamp_begin as usize > facts.vocab {
            let what = format!(
                "the tokenizer has {} tokens before the timestamps, but the model's vocabulary is {}",
                text.timestamp_begin, facts.vocab
            );
            return Err(CoreError::Config(what));
        }
        let rules = Rules::new(text, &options, facts.time_precision())?;
        Ok(Decoder { options, facts, rules, text: text.clone() })
    }

    /// The options.
    pub fn options(&self) -> &DecodeOptions {
        &self.options
    }

    /// The languages by their probability in a window, the most probable first.
    ///
    /// # Errors
    /// If the model cannot tell languages apart, or fails.
    pub fn detect_language<M: SpeechModel + ?Sized>(
        &self,
        model: &mut M,
        window: WindowId,
    ) -> Result<Vec<LanguageProb>, CoreError> {
        let languages = self.text.languages();
        if languages.is_empty() {
            return Err(CoreError::Config("this model knows English alone: it cannot tell languages apart".into()));
        }
        let sequence = model.add_sequence(window)?;
        let row = model.step(&[Feed { sequence, tokens: &[self.text.sot] }]).map(|row| row.to_vec());
        model.remove(sequence)?;
        let row = row?;
        let logit = |id: u32| row.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let chosen: Vec<f32> = languages.iter().map(|&(id, _)| logit(id)).collect();
        let norm = log_sum_exp(&chosen, max(&chosen)?);
        let mut found: Vec<LanguageProb> = languages
            .iter()
            .zip(&chosen)
            .map(|(&(_, code), logit)| LanguageProb { code, probability: (logit - norm).exp() })
            .collect();
        found.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Ok(found)
    }

    /// Decodes windows side by side. `poll` is asked after each step of the model and may stop: then there is no answer.
    ///
    /// # Errors
    /// If the model fails.
    pub fn decode<M: SpeechModel + ?Sized>(
        &self,
        model: &mut M,
        requests: &[Request<'_>],
        poll: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<Decoded>>, CoreError> {
        let mut live = Live::default();
        let decoded = self.decode_all(model, requests, &mut live, poll);
        for id in live.0 {
            model.remove(id)?;
        }
        decoded
    }

    fn decode_all<M: SpeechModel + ?Sized>(
        &self,
        model: &mut M,
        requests: &[Request<'_>],
        live: &mut Live,
        poll: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<Decoded>>, CoreError> {
        let bases = self.prefill(model, requests, live)?;
        let mut answers: Vec<Vec<Decoded>> = vec![Vec::new(); bases.len()];
        let mut chosen: Vec<Option<Decoded>> = vec![None; bases.len()];
        for (attempt, &temperature) in self.options.temperatures.iter().enumerate() {
            let pending: Vec<usize> = (0..bases.len()).filter(|&i| chosen[i].is_none()).collect();
            let seed = self.options.seed.wrapping_add(attempt as u64);
            let Some(tracks) = self.search(model, &bases, &pending, temperature, seed, live, poll)? else {
                return Ok(None);
            };
            for (&i, track) in pending.iter().zip(tracks) {
                let answer = self.answer(track, temperature, bases[i].no_speech_prob)?;
                if self.is_good(&answer) {
                    chosen[i] = Some(answer);
                } else {
                    answers[i].push(answer);
                }
            }
            if chosen.iter().all(Option::is_some) {
                break;
            }
        }
        let found = chosen.into_iter().zip(answers).map(|(good, bad)| match good {
            Some(good) => good,
            None => self.least_bad(bad),
        });
        Ok(Some(found.collect()))
    }

    /// Runs what goes before the texts.
    fn prefill<M: SpeechModel + ?Sized>(
        &self,
        model: &mut M,
        requests: &[Request<'_>],
        live: &mut Live,
    ) -> Result<Vec<Base>, CoreError> {
        let text = &self.text;
        let mut bases = Vec::with_capacity(requests.len());
        let mut begins = Vec::with_capacity(requests.len());
        for request in requests {
            let sequence = live.add(model, request.window)?;
            let keep = (self.facts.max_tokens / 2).saturating_sub(1);
            let prompt = &request.prompt[request.prompt.len().saturating_sub(keep)..];
            let mut begin = Vec::with_capacity(prompt.len() + 2);
            if !prompt.is_empty() {
                begin.push(text.sot_prev);
                begin.extend_from_slice(prompt);
            }
            begin.push(text.sot);
            begins.push(begin);
            bases.push(Base { sequence, len: 0, row: Vec::new(), no_speech_prob: 0.0 });
        }
        // The logits after <|startoftranscript|> tell whether there is speech.
        self.feed(model, &mut bases, &begins)?;
        if let Some(no_speech) = text.no_speech {
            for base in &mut bases {
                let norm = log_sum_exp(&base.row, max(&base.row)?);
                base.no_speech_prob = base.row.get(no_speech as usize).map_or(0.0, |logit| (logit - norm).exp());
            }
        }
        let without_timestamps = (!self.options.timestamps).then_some(text.no_timestamps);
        let heads = requests.iter().map(|r| r.language_and_task.iter().copied().chain(without_timestamps).collect());
        self.feed(model, &mut bases, &heads.collect::<Vec<Vec<u32>>>())?;
        Ok(bases)
    }

    /// Appends tokens to the prompts, where there are any.
    fn feed<M: SpeechModel + ?Sized>(
        &self,
        model: &mut M,
        bases: &mut [Base],
        tokens: &[Vec<u32>],
    ) -> Result<(), CoreError> {
        let fed = || bases.iter().zip(tokens).filter(|(_, tokens)| !tokens.is_empty());
        let feeds: Vec<Feed<'_>> = fed().map(|(base, tokens)| Feed { sequence: base.sequence, tokens }).collect();
        if feeds.is_empty() {
            return Ok(());
        }
        let rows = model.step(&feeds)?;
        let fed = bases.iter_mut().zip(tokens).filter(|(_, tokens)| !tokens.is_empty());
        for ((base, tokens), row) in fed.zip(rows.chunks_exact(self.facts.vocab)) {
            base.len += tokens.len();
            base.row = row.to_vec();
        }
        Ok(())
    }

    /// What grows out of the tracks of each search, given the logits after them, one search after the other.
    fn grow(&self, active: &mut [Active], rows: &mut [f32]) -> Result<Vec<Vec<Grown>>, CoreError> {
        let vocab = self.facts.vocab;
        let tracks: usize = active.iter().map(|a| a.tracks.len()).sum();
        if rows.len() != tracks * vocab {
            return Err(CoreError::Config(format!("{} logits for {tracks} tokens of {vocab}", rows.len())));
        }
        let mut rest = rows;
        let mut grown = Vec::with_capacity(active.len());
        for a in active {
            let (rows, after) = rest.split_at_mut(a.tracks.len() * vocab);
            grown.push(a.search.grow(&a.tracks, rows, &self.rules, self.text.eot)?);
            rest = after;
        }
        Ok(grown)
    }

    /// The best texts of the windows `pending` at one temperature, in that order.
    #[allow(clippy::too_many_lines)]
    fn search<M: SpeechModel + ?Sized>(
        &self,
        model: &mut M,
        bases: &[Base],
        pending: &[usize],
        temperature: f32,
        seed: u64,
        live: &mut Live,
        poll: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<Track>>, CoreError> {
        let limit = self.options.max_tokens.unwrap_or(self.facts.max_tokens / 2).max(1);
        let mut found: Vec<(usize, Track)> = Vec::with_capacity(pending.len());
        let mut active = Vec::with_capacity(pending.len());
        let mut rows: Vec<f32> = Vec::new();
        for &window in pending {
            let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(window as u64);
            let search = Search::new(&self.options, temperature, seed)?;
            active.push(Active { window, search, tracks: vec![Track::default()], sequences: Vec::new() });
            rows.extend_from_slice(&bases[window].row);
        }
        let mut grown = self.grow(&mut active, &mut rows)?;
        loop {
            let mut going = Vec::with_capacity(active.len());
            for (mut a, grown) in active.into_iter().zip(grown) {
                let base = &bases[a.window];
                let written = grown.first().map_or(0, |g| g.track.tokens.len());
                let over = a.search.is_over() || written >= limit || base.len + written > self.facts.max_tokens;
                let parents = std::mem::take(&mut a.sequences);
                if over || grown.is_empty() {
                    for id in parents {
                        live.remove(model, id)?;
                    }
                    let unfinished = grown.into_iter().map(|g| g.track).collect();
                    found.push((a.window, a.search.finish(unfinished, self.options.length_penalty)));
                    continue;
                }
                // The first child of a track goes on with its sequence, others with copies; the prompt's own is kept.
                let mut taken = vec![false; parents.len()];
                a.tracks = Vec::with_capacity(grown.len());
                for g in grown {
                    let sequence = match (parents.get(g.parent), taken.get_mut(g.parent)) {
                        (Some(&parent), Some(taken)) if !*taken => {
                            *taken = true;
                            parent
                        }
                        // A copy of a sequence has to be made before anything is appended to it.
                        (Some(&parent), _) => live.fork(model, parent)?,
                        _ => live.fork(model, base.sequence)?,
                    };
                    a.sequences.push(sequence);
                    a.tracks.push(g.track);
                }
                for (id, _) in parents.iter().zip(&taken).filter(|(_, taken)| !**taken) {
                    live.remove(model, *id)?;
                }
                going.push(a);
            }
            active = going;
            let feeds: Vec<Feed<'_>> = active
                .iter()
                .flat_map(|a| a.sequences.iter().zip(&a.tracks))
                .map(|(&sequence, track)| Feed { sequence, tokens: &track.tokens[track.tokens.len() - 1..] })
                .collect();
            if feeds.is_empty() {
                break;
            }
            if poll().is_break() {
                return Ok(None);
            }
            let rows = model.step(&feeds)?;
            grown = self.grow(&mut active, rows)?;
        }
        found.sort_by_key(|(window, _)| *window);
        Ok(Some(found.into_iter().map(|(_, track)| track).collect()))
    }

    fn answer(&self, track: Track, temperature: f32, no_speech_prob: f32) -> Result<Decoded, CoreError> {
        let text = self.text.decode(&track.tokens)?.trim().to_owned();
        Ok(Decoded {
            avg_logprob: f64::from(track.sum) / (track.tokens.len() + 1) as f64,
            compression_ratio: compression_ratio(&text),
            text,
            tokens: track.tokens,
            no_speech_prob,
            temperature,
        })
    }

    /// Whether no other temperature need be tried.
    fn is_good(&self, answer: &Decoded) -> bool {
        let repetitive =
            self.options.compression_ratio_threshold.is_some_and(|t| answer.compression_ratio > f64::from(t));
        let improbable = self.options.logprob_threshold.is_some_and(|t| answer.avg_logprob < f64::from(t));
        // Nothing better comes of silence.
        let silent = improbable && self.options.no_speech_threshold.is_some_and(|t| answer.no_speech_prob > t);
        silent || !(repetitive || improbable)
    }

    /// Of texts that are not good: the most probable of those that do not repeat themselves, or of all. It counts as found at
    /// the last temperature, so that nothing goes on from it.
    fn least_bad(&self, answers: Vec<Decoded>) -> Decoded {
        let limit = self.options.compression_ratio_threshold.map_or(f64::INFINITY, f64::from);
        let varied = answers.iter().any(|a| a.compression_ratio <= limit);
        let temperature = self.options.temperatures.last().copied().unwrap_or_default();
        let candidates = answers.into_iter().filter(|a| !varied || a.compression_ratio <= limit);
        // Of equals the one found first.
        let best = candidates.reduce(|best, a| if a.avg_logprob > best.avg_logprob { a } else { best });
        let empty = Decoded {
            tokens: Vec::new(),
            text: String::new(),
            avg_logprob: 0.0,
            no_speech_prob: 0.0,
            temperature,
            compression_ratio: compression_ratio(""),
        };
        Decoded { temperature, ..best.unwrap_or(empty) }
    }
}

/// Length of `text` in bytes over that of its zlib stream: large for text that repeats itself.
fn compression_ratio(text: &str) -> f64 {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    let compressed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    compressed.map_or(0.0, |bytes| text.len() as f64 / bytes.len().max(1) as f64)
}
