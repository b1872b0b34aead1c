//! Generating text token by token.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rlx_runtime::{Entry, Logits, SequenceId, Session, StepProfile};
use rlx_text::{LogitsProcessor, Sampler, SamplerOptions, StopMatcher, StreamDecoder};

use crate::draft::Pace;
use crate::{CausalLm, CoreError, DraftStats, Drafter, MAX_DRAFT_TOKENS};

/// How to generate.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// How to pick tokens.
    pub sampler: SamplerOptions,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Whether to go on past end-of-text tokens.
    pub ignore_eos: bool,
}

impl Default for GenerateOptions {
    fn default() -> GenerateOptions {
        GenerateOptions { max_tokens: 32, sampler: SamplerOptions::default(), stop: vec![], ignore_eos: false }
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended its answer, or a stop text came.
    Stop,
    /// `max_tokens` were generated.
    MaxTokens,
    /// The sequence is as long as the session allows.
    MaxSeq,
    /// The caller asked to stop.
    Cancelled,
}

impl StopReason {
    /// The reason's name in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::Stop => "stop",
            StopReason::MaxTokens => "max_tokens",
            StopReason::MaxSeq => "max_seq",
            StopReason::Cancelled => "cancelled",
        }
    }
}

/// What takes part in generating besides the model.
#[derive(Default)]
pub struct Assist<'a> {
    /// Changes logits before each token is picked.
    pub processor: Option<&'a mut dyn LogitsProcessor>,
    /// Drafts tokens, up to so many at once ([`MAX_DRAFT_TOKENS`] at most), for the model to check in one step. The answer stays the
    /// same, but may come sooner; drafting stops by itself where it does not.
    pub drafter: Option<(&'a mut dyn Drafter, usize)>,
}

/// A piece of the answer as it comes.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// So many tokens of the prompt have run.
    Prompt {
        /// Tokens run.
        done: usize,
        /// Tokens in all.
        total: usize,
    },
    /// A token, and the text that it completes (may be empty while a character is incomplete).
    Token {
        /// Its id.
        id: u32,
        /// Whole characters only.
        text: &'a str,
    },
}

/// What was generated.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The tokens, without the one that ended the answer.
    pub ids: Vec<u32>,
    /// Their text; empty without a tokenizer.
    pub text: String,
    /// Why it ended.
    pub reason: StopReason,
    /// Tokens of the prompt that were run (those already in the sequence are not counted).
    pub prompt_tokens: usize,
    /// Time to run the prompt.
    pub prompt_time: Duration,
    /// Time from then to the last token.
    pub decode_time: Duration,
    /// [`Session::profile`] as it was when the prompt had run; empty unless the session records times.
    pub prompt_profile: Vec<StepProfile>,
    /// What became of drafted tokens.
    pub drafts: DraftStats,
}

impl Generation {
    /// Prompt tokens per second.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_time)
    }

    /// Generated tokens per second, the first one (which the prompt's run gives) left out.
    pub fn decode_rate(&self) -> f64 {
        rate(self.ids.len().saturating_sub(1), self.decode_time)
    }
}

fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

impl CausalLm {
    /// Appends `prompt` to a sequence and generates from there. `on_event` sees progress and tokens, and may stop it.
    /// Afterwards the sequence holds the prompt and all generated tokens but the last.
    ///
    /// # Errors
    /// If the prompt is empty, too long, or has ids outside the vocabulary; if a sampler option is out of range.
    pub fn generate(
        &self,
        session: &mut Session,
        sequence: SequenceId,
        prompt: &[u32],
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, CoreError> {
        self.generate_with(session, sequence, prompt, options, Assist::default(), on_event)
    }

    /// As [`CausalLm::generate`], with logits changed and tokens drafted by `assist`.
    ///
    /// # Errors
    /// As [`CausalLm::generate`], and if the assistance fails.
    pub fn generate_with(
        &self,
        session: &mut Session,
        sequence: SequenceId,
        prompt: &[u32],
        options: &GenerateOptions,
        mut assist: Assist<'_>,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, CoreError> {
        if let Some((_, tokens)) = assist.drafter
            && !(1..=MAX_DRAFT_TOKENS).contains(&tokens)
        {
            return Err(CoreError::DraftTokens(tokens));
        }
        let (mut decoding, finished) = self.begin(session, sequence, prompt, options, on_event)?;
        if finished && options.max_tokens > 0 {
            let mut kept = decoding.history.len();
            let done = decoding.run(session, sequence, &mut assist, &mut kept, on_event);
            // Of a draft, what was not accepted.
            session.truncate(sequence, kept)?;
            decoding.result.reason = done?;
        }
        Ok(decoding.finish(on_event))
    }

    /// Generates after several prompts at once, each in a sequence of its own that is forgotten afterwards: single tokens of all
    /// run in one step. `on_event` is told which prompt it is about. Each answer is what its prompt alone would give.
    ///
    /// # Errors
    /// As [`CausalLm::generate`].
    pub fn generate_batch(
        &self,
        session: &mut Session,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(usize, Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>, CoreError> {
        let sequences: Vec<SequenceId> = prompts.iter().map(|_| session.add_sequence()).collect();
        let result = self.run_batch(session, &sequences, prompts, options, on_event);
        for sequence in sequences {
            session.remove(sequence)?;
        }
        result
    }

    fn run_batch(
        &self,
        session: &mut Session,
        sequences: &[SequenceId],
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(usize, Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>, CoreError> {
        let (vocab, max_seq) = (session.vocab(), session.options().max_seq);
        let mut rows = Vec::with_capacity(prompts.len());
        // Rows that go on, each with the token that it runs next.
        let mut live: Vec<(usize, u32)> = Vec::new();
        for (i, (&sequence, prompt)) in sequences.iter().zip(prompts).enumerate() {
            let mut tell = |event: Event<'_>| on_event(i, event);
            let (mut row, finished) = self.begin(session, sequence, prompt, options, &mut tell)?;
            if finished && options.max_tokens > 0 {
                match row.pick(session.logits_mut(), &mut Assist::default(), &mut tell)? {
                    ControlFlow::Continue(id) => live.push((i, id)),
                    ControlFlow::Break(reason) => row.result.reason = reason,
                }
            }
            rows.push(row);
            if rows[i].result.reason == StopReason::Cancelled {
                break;
            }
        }
        while !live.is_empty() {
            live.retain(|&(i, _)| {
                let full = rows[i].history.len() > max_seq;
                if full {
                    rows[i].result.reason = StopReason::MaxSeq;
                }
                !full
            });
            let longest = live.iter().map(|&(i, _)| rows[i].history.len()).max().unwrap_or(0);
            let at_once = if longest > self.independent_len() { 1 } else { live.len().max(1) };
            let mut going = Vec::with_capacity(live.len());
            for live in live.chunks(at_once) {
                let tokens = live.iter().map(|(i, id)| (sequences[*i], std::slice::from_ref(id)));
                let entries = tokens.map(|(sequence, tokens)| Entry { sequence, tokens, logits: Logits::Last });
                session.step(&entries.collect::<Vec<_>>())?;
                for (&(i, _), logits) in live.iter().zip(session.logits_mut().chunks_exact_mut(vocab)) {
                    match rows[i].pick(logits, &mut Assist::default(), &mut |event| on_event(i, event))? {
                        ControlFlow::Continue(id) => going.push((i, id)),
                        ControlFlow::Break(reason) => rows[i].result.reason = reason,
                    }
                }
            }
            live = going;
            if rows.iter().any(|row| row.result.reason == StopReason::Cancelled) {
                live.iter().for_each(|&(i, _)| rows[i].result.reason = StopReason::Cancelled);
                break;
            }
        }
        let finish = |(i, row): (usize, Decoding<'_>)| row.finish(&mut |event| on_event(i, event));
        Ok(rows.into_iter().enumerate().map(finish).collect())
    }

    /// Runs the prompt. False if that was stopped.
    fn begin<'a>(
        &self,
        session: &mut Session,
        sequence: SequenceId,
        prompt: &[u32],
        options: &'a GenerateOptions,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(Decoding<'a>, bool), CoreError> {
        if prompt.is_empty() {
            return Err(CoreError::EmptyPrompt);
        }
        let max_seq = session.options().max_seq;
        let past = session.tokens(sequence)?.len();
        if past + prompt.len() > max_seq {
            return Err(CoreError::PromptTooLong { tokens: past + prompt.len(), max_seq });
        }
        let sampler = Sampler::new(options.sampler.clone())?;
        let tokenizer = self.tokenizer().ok();
        let stop_ids = tokenizer.filter(|_| !options.ignore_eos).map_or(vec![], |t| t.eos_ids().to_vec());
        let stops = StopMatcher::new(options.stop.clone(), stop_ids);
        let decoder = tokenizer.map(|tokenizer| StreamDecoder::continuing(tokenizer, prompt));

        let start = Instant::now();
        let finished = session
            .prefill(sequence, prompt, |done| on_event(Event::Prompt { done, total: prompt.len() }).is_continue())?;
        let result = Generation {
            ids: vec![],
            text: String::new(),
            reason: if finished { StopReason::MaxTokens } else { StopReason::Cancelled },
            prompt_tokens: prompt.len(),
            prompt_time: start.elapsed(),
            decode_time: Duration::ZERO,
            prompt_profile: session.profile(),
            drafts: DraftStats::default(),
        };
        let history = session.tokens(sequence)?.to_vec();
        let independent_len = self.independent_len();
        let start = Instant::now();
        Ok((Decoding { options, sampler, stops, decoder, history, independent_len, result, start }, finished))
    }

    /// Logits after the last token of `ids`, F32 `[vocab]`.
    ///
    /// # Errors
    /// As [`CausalLm::generate`].
    pub fn predict_logits(&self, session: &mut Session, ids: &[u32]) -> Result<Vec<f32>, CoreError> {
        let sequence = session.add_sequence();
        let done = session.prefill(sequence, ids, |_| true);
        session.remove(sequence)?;
        done?;
        Ok(session.logits().to_vec())
    }
}

/// The state between two tokens.
struct Decoding<'a> {
    options: &'a GenerateOptions,
    sampler: Sampler,
    stops: StopMatcher,
    decoder: Option<StreamDecoder>,
    /// The prompt and all generated tokens.
    history: Vec<u32>,
    /// See [`CausalLm::independent_len`].
    independent_len: usize,
    result: Generation,
    start: Instant,
}

impl Decoding<'_> {
    /// Gives out what the decoder and the stop matcher held back, unless a stop text swallowed it.
    fn finish(mut self, on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Generation {
        let rest = self.decoder.as_mut().map_or(String::new(), StreamDecoder::finish);
        let mut text = self.stops.push(&rest).emit;
        text.push_str(&self.stops.finish());
        let mut result = self.result;
        if let (false, Some(&id)) = (text.is_empty(), result.ids.last()) {
            result.text.push_str(&text);
            // The answer is complete; a wish to stop has nothing left to stop.
            let _ = on_event(Event::Token { id, text: &text });
        }
        result
    }

    /// Picks tokens, from the logits of the prompt's last one on, until the answer ends. `kept` counts the tokens of the sequence
    /// that are not a rejected draft.
    fn run(
        &mut self,
        session: &mut Session,
        sequence: SequenceId,
        assist: &mut Assist<'_>,
        kept: &mut usize,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<StopReason, CoreError> {
        let vocab = session.vocab();
        let mut pace = Pace::new(assist.drafter.as_ref().map_or(0, |(_, tokens)| *tokens));
        // What the last step ran: a token that was picked, and a draft of those after it.
        let mut tokens: Vec<u32> = vec![];
        let mut draft_time = None;
        loop {
            let mut accepted = 0;
            let reason = loop {
                let logits = &mut session.logits_mut()[accepted * vocab..(accepted + 1) * vocab];
                match self.pick(logits, assist, on_event)? {
                    ControlFlow::Break(reason) => break Some(reason),
                    ControlFlow::Continue(id) if tokens.get(accepted + 1) == Some(&id) => {
                        accepted += 1;
                        *kept += 1;
                    }
                    ControlFlow::Continue(_) => break None,
                }
            };
            self.result.drafts.accepted += accepted;
            if let Some(reason) = reason {
                return Ok(reason);
            }
            if let Some(time) = draft_time {
                pace.drafted(tokens.len() - 1, accepted, time);
            }
            let max_seq = session.options().max_seq;
            if self.history.len() > max_seq {
                return Ok(StopReason::MaxSeq);
            }
            session.truncate(sequence, *kept)?;

            tokens.clear();
            tokens.extend(self.history.last());
            // The step gives one token more than the draft has.
            let wanted = self.options.max_tokens - self.result.ids.len() - 1;
            let longest = max_seq.min(self.independent_len).saturating_sub(self.history.len());
            let room = wanted.min(longest).min(MAX_DRAFT_TOKENS);
            draft_time = self.draft(assist, &mut pace, room, vocab, &mut tokens)?;
            let start = Instant::now();
            match tokens.len() {
                1 => session.step(&[Entry { sequence, tokens: &tokens, logits: Logits::Last }])?,
                _ => session.verify(sequence, &tokens)?,
            }
            pace.stepped(tokens.len(), start.elapsed());
            *kept += 1;
        }
    }

    /// Appends a draft of at most `room` tokens. The time it took is given if it is the drafter's.
    fn draft(
        &mut self,
        assist: &mut Assist<'_>,
        pace: &mut Pace,
        room: usize,
        vocab: usize,
        tokens: &mut Vec<u32>,
    ) -> Result<Option<Duration>, CoreError> {
        let mut time = None;
        if let (Some(processor), true) = (&mut assist.processor, room > 0) {
            processor.forced(&self.history, tokens)?;
        }
        if let (1, Some((drafter, _))) = (tokens.len(), &mut assist.drafter) {
            let length = pace.length().min(room);
            if length > 0 {
                let stats = &mut self.result.drafts;
                if stats.draft_time.is_zero() {
                    let start = Instant::now();
                    drafter.prepare(&self.history[..self.history.len() - 1])?;
                    stats.draft_time += start.elapsed();
                }
                let start = Instant::now();
                drafter.draft(&self.history, length, tokens)?;
                time = Some(start.elapsed());
            }
        }
        tokens.truncate(1 + room);
        let known = tokens.iter().position(|&id| id as usize >= vocab).unwrap_or(tokens.len());
        tokens.truncate(known);
        let stats = &mut self.result.drafts;
        stats.draft_time += time.unwrap_or_default();
        stats.drafted += tokens.len() - 1;
        match tokens.len() {
            1 => stats.plain_steps += 1,
            _ => stats.verify_steps += 1,
        }
        Ok(time.filter(|_| tokens.len() > 1))
    }

    /// Picks the next token and shows it, unless it ends the answer.
    fn pick(
        &mut self,
        logits: &mut [f32],
        assist: &mut Assist<'_>,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<StopReason, u32>, CoreError> {
        if let Some(processor) = &mut assist.processor {
            processor.process(logits, &self.history)?;
        }
        let id = self.sampler.sample(logits, &self.history)?;
        if self.stops.is_stop_id(id) {
            return Ok(ControlFlow::Break(StopReason::Stop));
        }
        self.result.ids.push(id);
        self.history.push(id);
        let piece = self.decoder.as_mut().map_or(String::new(), |decoder| decoder.push(id));
        let state = self.stops.push(&piece);
        self.result.text.push_str(&state.emit);
        self.result.decode_time = self.start.elapsed();
        if on_event(Event::Token { id, text: &state.emit }).is_break() {
            return Ok(ControlFlow::Break(StopReason::Cancelled));
        }
        let complete = match &mut assist.processor {
            Some(processor) => processor.is_complete(&self.history)?,
            None => false,
        };
        Ok(if state.stopped || complete {
            ControlFlow::Break(StopReason::Stop)
        } else if self.result.ids.len() == self.options.max_tokens {
            ControlFlow::Break(StopReason::MaxTokens)
        } else {
            ControlFlow::Continue(id)
        })
    }
}
