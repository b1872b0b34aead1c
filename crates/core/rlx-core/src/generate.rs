//! Generating text token by token.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rlx_runtime::{Entry, Logits, SequenceId, Session, StepProfile};
use rlx_text::{LogitsProcessor, Sampler, SamplerOptions, StopMatcher, StreamDecoder};

use crate::{CausalLm, CoreError};

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
        self.generate_with(session, sequence, prompt, options, None, on_event)
    }

    /// As [`CausalLm::generate`], with logits changed by `processor` before each token is picked.
    ///
    /// # Errors
    /// As [`CausalLm::generate`].
    pub fn generate_with(
        &self,
        session: &mut Session,
        sequence: SequenceId,
        prompt: &[u32],
        options: &GenerateOptions,
        mut processor: Option<&mut dyn LogitsProcessor>,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, CoreError> {
        if prompt.is_empty() {
            return Err(CoreError::EmptyPrompt);
        }
        let max_seq = session.options().max_seq;
        let past = session.tokens(sequence)?.len();
        if past + prompt.len() > max_seq {
            return Err(CoreError::PromptTooLong { tokens: past + prompt.len(), max_seq });
        }
        let mut sampler = Sampler::new(options.sampler.clone())?;
        let tokenizer = self.tokenizer().ok();
        let stop_ids = tokenizer.filter(|_| !options.ignore_eos).map_or(vec![], |t| t.eos_ids().to_vec());
        let mut stops = StopMatcher::new(options.stop.clone(), stop_ids);
        let mut decoder = tokenizer.map(|tokenizer| StreamDecoder::continuing(tokenizer, prompt));

        let start = Instant::now();
        let mut result = Generation {
            ids: vec![],
            text: String::new(),
            reason: StopReason::MaxTokens,
            prompt_tokens: prompt.len(),
            prompt_time: Duration::ZERO,
            decode_time: Duration::ZERO,
            prompt_profile: vec![],
        };
        let finished = session
            .prefill(sequence, prompt, |done| on_event(Event::Prompt { done, total: prompt.len() }).is_continue())?;
        result.prompt_time = start.elapsed();
        result.prompt_profile = session.profile();
        if !finished {
            result.reason = StopReason::Cancelled;
            return Ok(result);
        }
        let decode_start = Instant::now();
        let mut history = session.tokens(sequence)?.to_vec();
        while result.ids.len() < options.max_tokens {
            let logits = session.logits_mut();
            if let Some(processor) = processor.as_deref_mut() {
                processor.process(logits, &history);
            }
            let id = sampler.sample(logits, &history)?;
            if stops.is_stop_id(id) {
                result.reason = StopReason::Stop;
                break;
            }
            result.ids.push(id);
            history.push(id);
            let piece = decoder.as_mut().map_or(String::new(), |decoder| decoder.push(id));
            let state = stops.push(&piece);
            result.text.push_str(&state.emit);
            result.decode_time = decode_start.elapsed();
            if on_event(Event::Token { id, text: &state.emit }).is_break() {
                result.reason = StopReason::Cancelled;
                break;
            }
            if state.stopped {
                result.reason = StopReason::Stop;
                break;
            }
            if result.ids.len() == options.max_tokens {
                break;
            }
            if history.len() > max_seq {
                result.reason = StopReason::MaxSeq;
                break;
            }
            session.step(&[Entry { sequence, tokens: &[id], logits: Logits::Last }])?;
        }
        self.finish_text(&mut result, decoder, stops, on_event);
        Ok(result)
    }

    /// Gives out what the decoder and the stop matcher held back, unless a stop text swallowed it.
    fn finish_text(
        &self,
        result: &mut Generation,
        decoder: Option<StreamDecoder>,
        mut stops: StopMatcher,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) {
        let rest = decoder.map_or(String::new(), |mut decoder| decoder.finish());
        let mut text = stops.push(&rest).emit;
        text.push_str(&stops.finish());
        if let (false, Some(&id)) = (text.is_empty(), result.ids.last()) {
            result.text.push_str(&text);
            // The answer is complete; a wish to stop has nothing left to stop.
            let _ = on_event(Event::Token { id, text: &text });
        }
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
