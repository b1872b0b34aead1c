//! [`RlxEmbed`]: a loaded model.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rlx_core::encoder::{TokenBatch, names};
use rlx_runtime::{Device, Executable, StepProfile};

use crate::batch::{Finish, Segment, Worker};
use crate::texts::TextEncoder;
use crate::{EmbedBuilder, EmbedError, EmbedSettings, LongTexts};

/// What stands before each text of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prompt<'a> {
    /// The builder's prompt; without one the checkpoint's default; without one nothing.
    #[default]
    Default,
    /// Nothing.
    None,
    /// The checkpoint's prompt of this name, as `query`.
    Named(&'a str),
    /// These words, as `query: `.
    Text(&'a str),
}

/// What a call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbedStats {
    /// Texts embedded.
    pub texts: usize,
    /// Tokens run, with those around the texts.
    pub tokens: usize,
    /// Texts that were longer than the model takes, and were cut ([`LongTexts::Truncate`]) or split.
    pub too_long: usize,
}

/// A number that may stand for a token id, type or mask in [`RlxEmbed::forward`].
pub trait TokenValue: Copy {
    /// The number as a whole one; none if it is not.
    fn whole(self) -> Option<i64>;
}

impl TokenValue for i64 {
    fn whole(self) -> Option<i64> {
        Some(self)
    }
}

impl TokenValue for i32 {
    fn whole(self) -> Option<i64> {
        Some(self.into())
    }
}

impl TokenValue for u32 {
    fn whole(self) -> Option<i64> {
        Some(self.into())
    }
}

impl TokenValue for f32 {
    fn whole(self) -> Option<i64> {
        (self.fract() == 0.0 && self.abs() < 16_777_216.0).then_some(self as i64)
    }
}

/// A text encoder with its tokenizer and settings: texts to vectors, or with a cross-encoder pairs of texts to scores.
///
/// It may be shared among threads, which take turns: a call uses all of the model's threads.
pub struct RlxEmbed {
    pub(crate) worker: Mutex<Worker>,
    pub(crate) texts: TextEncoder,
    pub(crate) settings: EmbedSettings,
    pub(crate) options: Options,
}

/// What is settled when a model is loaded.
pub(crate) struct Options {
    pub(crate) family: &'static str,
    pub(crate) device: Device,
    pub(crate) finish: Finish,
    pub(crate) max_length: usize,
    pub(crate) batch_tokens: usize,
    pub(crate) long_texts: LongTexts,
    pub(crate) prompt: Option<String>,
    /// Labels of a sequence-classification head.
    pub(crate) labels: Option<usize>,
    /// Whether scores of pairs go through a sigmoid.
    pub(crate) sigmoid: bool,
}

impl RlxEmbed {
    /// A builder: the model, then what differs from its own settings.
    pub fn builder() -> EmbedBuilder {
        EmbedBuilder::default()
    }

    /// A published model by its short name (`all-minilm-l6-v2`) or its hub name (`sentence-transformers/all-MiniLM-L6-v2`),
    /// fetched into the cache if it is not there.
    ///
    /// # Errors
    /// If it cannot be fetched or loaded.
    pub fn from_pretrained(name: &str) -> Result<RlxEmbed, EmbedError> {
        RlxEmbed::builder().pretrained(name).build()
    }

    /// The model in a directory: `config.json`, safetensors or GGUF, `tokenizer.json`.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<RlxEmbed, EmbedError> {
        RlxEmbed::builder().path(dir).build()
    }

    /// As [`RlxEmbed::from_dir`], on `device`.
    ///
    /// # Errors
    /// As [`RlxEmbed::from_dir`].
    pub fn from_dir_on(dir: impl AsRef<Path>, device: Device) -> Result<RlxEmbed, EmbedError> {
        RlxEmbed::builder().path(dir).device(device).build()
    }

    /// The model of a GGUF file (architecture `bert` or `nomic-bert`) with its tokenizer.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub fn from_gguf(path: impl AsRef<Path>) -> Result<RlxEmbed, EmbedError> {
        RlxEmbed::builder().path(path).build()
    }

    /// Width of a text's vector.
    pub fn dim(&self) -> usize {
        self.options.finish.dims
    }

    /// Longest text in tokens, with those that the model expects around it.
    pub fn max_length(&self) -> usize {
        self.options.max_length
    }

    /// How vectors are made.
    pub fn settings(&self) -> &EmbedSettings {
        &self.settings
    }

    /// The model's family: `bert` or `nomic`.
    pub fn family(&self) -> &'static str {
        self.options.family
    }

    /// Where the model runs.
    pub fn device(&self) -> Device {
        self.options.device
    }

    /// The compiled encoder.
    pub fn executable(&self) -> Arc<dyn Executable> {
        Arc::clone(self.worker().encoder.network().executable())
    }

    /// Instruction set, threads and precision in a few words.
    pub fn describe(&self) -> String {
        self.executable().describe()
    }

    /// Whether this is a cross-encoder: [`RlxEmbed::rerank`] works, the embedding calls do not.
    pub fn is_cross_encoder(&self) -> bool {
        self.options.labels.is_some()
    }

    /// The vectors of `texts`, in order. An empty text has one too, that of no words.
    ///
    /// # Errors
    /// If a text cannot be tokenised, or the model is a cross-encoder.
    pub fn embed<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut vectors = Vec::with_capacity(texts.len());
        self.embed_each(texts.iter().map(Ok::<_, EmbedError>), Prompt::Default, |vector| {
            vectors.push(vector.to_vec());
            Ok(())
        })?;
        Ok(vectors)
    }

    /// As [`RlxEmbed::embed`] for texts after the prompt named `query`, or for plain ones where the checkpoint has none.
    ///
    /// # Errors
    /// As [`RlxEmbed::embed`].
    pub fn embed_query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        let known = self.settings.prompts.contains_key("query");
        let prompt = if known { Prompt::Named("query") } else { Prompt::Default };
        let mut vector = Vec::with_capacity(self.dim());
        self.embed_into(&[text], prompt, &mut vector)?;
        Ok(vector)
    }

    /// Appends the vectors of `texts` to `out`, one after the other: F32 `[texts, dim]`.
    ///
    /// # Errors
    /// As [`RlxEmbed::embed`], and if there is no such prompt. `out` then holds the vectors of the texts before.
    pub fn embed_into<S: AsRef<str>>(
        &self,
        texts: &[S],
        prompt: Prompt<'_>,
        out: &mut Vec<f32>,
    ) -> Result<EmbedStats, EmbedError> {
        out.reserve(texts.len().saturating_mul(self.dim()));
        self.embed_each(texts.iter().map(Ok::<_, EmbedError>), prompt, |vector| {
            out.extend_from_slice(vector);
            Ok(())
        })
    }

    /// Embeds any number of texts in bounded memory: they are taken as they are needed, run in batches of about
    /// [`EmbedBuilder::batch_tokens`] tokens, and `sink` gets their vectors in order, each `[dim]`. A text's vector does not depend on
    /// what else is in its batch.
    ///
    /// An error of the texts or of `sink` ends it. Neither may call the model, which is theirs until the end.
    ///
    /// # Errors
    /// Those, and as [`RlxEmbed::embed_into`].
    pub fn embed_each<S: AsRef<str>, E: From<EmbedError>>(
        &self,
        texts: impl IntoIterator<Item = Result<S, E>>,
        prompt: Prompt<'_>,
        mut sink: impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<EmbedStats, E> {
        if self.is_cross_encoder() {
            return Err(EmbedError::CrossEncoder.into());
        }
        let prompt = self.prompt_text(prompt)?;
        let skip = self.skipped_tokens(prompt)?;
        let Options { finish, max_length, batch_tokens, .. } = self.options;
        let room = max_length - self.texts.around();
        let mut worker = self.worker();
        let mut stats = EmbedStats::default();
        let mut prompted = String::new();
        for text in texts {
            let text = text?;
            let text = match prompt {
                "" => text.as_ref(),
                _ => {
                    prompted.clear();
                    prompted.push_str(prompt);
                    prompted.push_str(text.as_ref());
                    &prompted
                }
            };
            let content = self.texts.content(text)?;
            stats.texts += 1;
            stats.too_long += usize::from(content.len() > room);
            let pieces = self.options.long_texts.pieces(content.len(), room);
            let piece_len = self.options.long_texts.piece_len(content.len(), room);
            for i in 0..pieces {
                let piece = &content[(i * piece_len).min(content.len())..((i + 1) * piece_len).min(content.len())];
                let tokens = piece.len() + self.texts.around();
                if tokens == 0 {
                    let what = "has no tokens, and the tokenizer puts none around it".to_string();
                    return Err(EmbedError::Input { name: "text".to_string(), what }.into());
                }
                if worker.waiting() > 0 && worker.waiting() + tokens > batch_tokens {
                    worker.flush(finish, &mut sink)?;
                }
                stats.tokens += tokens;
                let skip = if i == 0 { skip } else { (0, 0) };
                let segment = Segment { skip, first: i == 0, last: i + 1 == pieces };
                worker.push(segment, |out| self.texts.append(piece, out));
            }
        }
        worker.flush(finish, &mut sink)?;
        Ok(stats)
    }

    /// One pass on token ids: `input_ids`, and where given `attention_mask` (0 where there is padding) and `token_type_ids`, each
    /// `[batch, seq]`. Gives what leaves the last layer, F32 `[batch, seq, hidden]`, zero where there is padding.
    ///
    /// # Errors
    /// If an input is missing, unknown, of the wrong size, or has ids out of range.
    pub fn forward<T: TokenValue>(
        &self,
        inputs: &[(&str, &[T])],
        batch: usize,
        seq: usize,
    ) -> Result<Vec<f32>, EmbedError> {
        let fail = |name: &str, what: String| EmbedError::Input { name: name.to_string(), what };
        let count = batch.checked_mul(seq).filter(|&n| n > 0);
        let count = count.ok_or_else(|| fail("input_ids", format!("[{batch}, {seq}] holds no tokens")))?;
        let mut whole: [Option<Vec<i32>>; 3] = [None, None, None];
        const NAMES: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
        for &(name, data) in inputs {
            let index = NAMES.iter().position(|known| *known == name);
            let index = index.ok_or_else(|| fail(name, format!("is not known (known: {})", NAMES.join(", "))))?;
            if data.len() != count {
                return Err(fail(name, format!("has {} elements, not [{batch}, {seq}]", data.len())));
            }
            let numbers = data.iter().map(|x| x.whole().and_then(|x| i32::try_from(x).ok()));
            let numbers: Option<Vec<i32>> = numbers.collect();
            whole[index] = Some(numbers.ok_or_else(|| fail(name, "holds something that is no whole number".into()))?);
        }
        let [ids, mask, types] = whole;
        let ids = ids.ok_or_else(|| fail("input_ids", "is missing".into()))?;
        let real = |i: usize| mask.as_ref().is_none_or(|mask| mask[i] != 0);
        let rows: Vec<usize> = (0..count).filter(|&i| real(i)).collect();
        let lens = (0..batch).map(|r| (r * seq..(r + 1) * seq).filter(|&i| real(i)).count());
        let lens: Vec<usize> = lens.filter(|&len| len > 0).collect();
        let tokens: Vec<i32> = rows.iter().map(|&i| ids[i]).collect();
        let types: Option<Vec<i32>> = types.map(|types| rows.iter().map(|&i| types[i]).collect());
        let positions: Vec<i32> = rows.iter().map(|&i| (i % seq) as i32).collect();
        let mut worker = self.worker();
        let encoder = &mut worker.encoder;
        let width = encoder.hidden_size();
        let mut out = vec![0.0; count * width];
        if tokens.is_empty() {
            return Ok(out);
        }
        encoder.run(&TokenBatch {
            tokens: &tokens,
            token_types: types.as_deref(),
            positions: Some(&positions),
            lens: &lens,
        })?;
        let mut hidden = Vec::new();
        encoder.read(names::LAST_HIDDEN_STATE, &mut hidden)?;
        for (&i, row) in rows.iter().zip(hidden.chunks_exact(width)) {
            out[i * width..(i + 1) * width].copy_from_slice(row);
        }
        Ok(out)
    }

    /// Tokens that run at once for `text` after `prompt`: those of its longest piece, with those that the model expects around it.
    ///
    /// # Errors
    /// If the text cannot be tokenised, or there is no such prompt.
    pub fn tokens_at_once(&self, text: &str, prompt: Prompt<'_>) -> Result<usize, EmbedError> {
        let text = format!("{}{text}", self.prompt_text(prompt)?);
        let content = self.texts.content(&text)?.len();
        let room = self.options.max_length - self.texts.around();
        Ok(self.options.long_texts.piece_len(content, room) + self.texts.around())
    }

    /// Starts or ends the recording of times per step of the graph.
    pub fn set_profiling(&self, on: bool) {
        self.worker().encoder.network().set_profiling(on);
    }

    /// Times recorded since profiling was turned on.
    pub fn profile(&self) -> Vec<StepProfile> {
        self.worker().encoder.network().profile()
    }

    /// The compiled plan for a batch of `tokens` tokens of one text.
    ///
    /// # Errors
    /// Those of the device.
    pub fn explain(&self, tokens: usize) -> Result<String, EmbedError> {
        Ok(rlx_core::explain(self.executable().as_ref(), &[(names::TOKEN_COUNT, tokens)])?)
    }

    /// The worker. What a call that panicked has left in it is cleared.
    pub(crate) fn worker(&self) -> MutexGuard<'_, Worker> {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        worker.clear();
        worker
    }

    fn prompt_text<'p>(&'p self, prompt: Prompt<'p>) -> Result<&'p str, EmbedError> {
        let named = |name: &str| match self.settings.prompts.get(name) {
            Some(prompt) => Ok(prompt.as_str()),
            None => Err(unknown_prompt(name, &self.settings)),
        };
        match (prompt, &self.options.prompt, &self.settings.default_prompt) {
            (Prompt::None, ..) | (Prompt::Default, None, None) => Ok(""),
            (Prompt::Text(text), ..) => Ok(text),
            (Prompt::Named(name), ..) => named(name),
            (Prompt::Default, Some(text), _) => Ok(text),
            (Prompt::Default, None, Some(name)) => named(name),
        }
    }

    /// The tokens of a prompt that is not to be pooled, with those before it, as sentence-transformers counts them.
    fn skipped_tokens(&self, prompt: &str) -> Result<(usize, usize), EmbedError> {
        if self.settings.include_prompt || prompt.is_empty() {
            return Ok((0, 0));
        }
        Ok((0, self.texts.prefix_len() + self.texts.content(prompt)?.len()))
    }
}

/// The error for a prompt that the checkpoint does not have.
pub(crate) fn unknown_prompt(name: &str, settings: &EmbedSettings) -> EmbedError {
    let known: Vec<&str> = settings.prompts.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
    EmbedError::UnknownPrompt { name: name.to_string(), known }
}
