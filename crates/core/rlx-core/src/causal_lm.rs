//! A decoder-only language model, loaded: the generic runner of all families.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rlx_flow::Taps;
use rlx_ir::Op;
use rlx_runtime::{CompileOptions, Executable, Session, SessionOptions};
use rlx_text::{ChatInput, ChatTemplate, Message, Tokenizer};
use rlx_weights::{Checkpoint, OpenOptions, mtp_tensors};

use crate::{CoreError, DecoderModel, Family, load_tokenizer};

/// How to load a language model.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Which file of several.
    pub open: OpenOptions,
    /// Device, threads, kernels.
    pub compile: CompileOptions,
    /// A tokenizer other than the checkpoint's own.
    pub tokenizer: Option<PathBuf>,
    /// A chat template other than the checkpoint's own: a name, a file, or Jinja source.
    pub chat_template: Option<String>,
    /// Extra outputs of the graph.
    pub taps: Taps,
}

/// A loaded language model. Cheap to clone; all state is in [`Session`]s.
#[derive(Clone)]
pub struct CausalLm {
    executable: Arc<dyn Executable>,
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    info: ModelInfo,
}

/// Facts of a loaded model.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Family, as `llama32`.
    pub family: &'static str,
    /// The model's own name, or its file's.
    pub name: String,
    /// Longest sequence it was made for, in tokens.
    pub context_length: usize,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Number of parameters.
    pub parameters: u64,
    /// Tensors of multi-token-prediction heads, which are no part of the model.
    pub mtp_tensors: usize,
    /// Size of the checkpoint's files.
    pub file_bytes: u64,
    /// Time to open, pack and compile.
    pub load_time: Duration,
}

impl CausalLm {
    /// Loads `checkpoint` as a model of `family`.
    ///
    /// # Errors
    /// If the config is incomplete, tensors are missing, of wrong shape or unknown type, or the device is not there.
    pub fn load(checkpoint: &Checkpoint, family: &Family, options: &LoadOptions) -> Result<CausalLm, CoreError> {
        let start = Instant::now();
        let model = family.decoder(checkpoint)?;
        // A vocabulary of 100,000 words takes about as long as the weights of a small model.
        let (executable, tokenizer) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| load_tokenizer(checkpoint, options.tokenizer.as_deref()));
            let executable = compile(checkpoint, &model, options);
            (executable, tokenizer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (executable, tokenizer) = (executable?, tokenizer?);
        let template = match (&options.chat_template, tokenizer.as_ref().and_then(Tokenizer::chat_template)) {
            (Some(given), _) => Some(ChatTemplate::from_arg(given)?),
            (None, Some(own)) => Some(ChatTemplate::new(own)?),
            (None, None) => None,
        };
        let info = ModelInfo {
            family: family.name,
            name: model_name(checkpoint),
            context_length: model.context_length,
            vocab_size: model.spec.vocab_size,
            parameters: parameters(checkpoint),
            mtp_tensors: mtp_tensors(checkpoint).len(),
            file_bytes: checkpoint.file_bytes(),
            load_time: start.elapsed(),
        };
        Ok(CausalLm { executable, tokenizer, template, info })
    }

    /// Facts of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The compiled model.
    pub fn executable(&self) -> &Arc<dyn Executable> {
        &self.executable
    }

    /// Length of sequences up to which a token's numbers do not depend on what else runs in its step. Dynamic RoPE scaling goes by
    /// the longest sequence of a step.
    pub(crate) fn independent_len(&self) -> usize {
        let limits = self.executable.graph().nodes().iter().filter_map(|node| match &node.op {
            Op::RopeTable { dynamic, .. } => Some(dynamic.as_ref()?.max_positions),
            _ => None,
        });
        limits.min().unwrap_or(usize::MAX)
    }

    /// A session: the state of running sequences.
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn session(&self, options: SessionOptions) -> Result<Session, CoreError> {
        Ok(Session::new(Arc::clone(&self.executable), options)?)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// If the checkpoint has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, CoreError> {
        self.tokenizer.as_ref().ok_or(CoreError::NoTokenizer)
    }

    /// Whether there is a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Token ids of plain text, with what the model expects around a text.
    ///
    /// # Errors
    /// If there is no tokenizer, or no text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, CoreError> {
        if text.is_empty() {
            return Err(CoreError::EmptyPrompt);
        }
        Ok(self.tokenizer()?.encode(text, true)?)
    }

    /// Token ids of a conversation up to where the assistant speaks next, by the model's chat template.
    ///
    /// # Errors
    /// If there is no tokenizer or template, or the template refuses the messages.
    pub fn encode_chat(&self, messages: &[Message], tools: Option<serde_json::Value>) -> Result<Vec<u32>, CoreError> {
        let tokenizer = self.tokenizer()?;
        let template = self.template.as_ref().ok_or(CoreError::NoChatTemplate)?;
        let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id)).unwrap_or_default();
        let bos_token = text_of(tokenizer.bos_id());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok();
        let text = template.render(&ChatInput {
            messages,
            tools,
            add_generation_prompt: true,
            bos_token: bos_token.clone(),
            eos_token: text_of(tokenizer.eos_id()),
            extra: serde_json::Map::new(),
            now: now.and_then(|now| i64::try_from(now.as_secs()).ok()),
        })?;
        // Templates that begin with the begin-of-text token have said all; others leave it to the tokenizer.
        let add_special = bos_token.is_empty() || !text.starts_with(&bos_token);
        let ids = if add_special { chat_ids_with_bos(tokenizer, &text)? } else { tokenizer.encode(&text, false)? };
        if ids.is_empty() {
            return Err(CoreError::EmptyPrompt);
        }
        Ok(ids)
    }
}

/// Ids of a rendered chat without its own begin-of-text: the tokenizer's prefix is added, but no end-of-text.
fn chat_ids_with_bos(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, CoreError> {
    let mut ids = tokenizer.encode(text, true)?;
    let plain = tokenizer.encode(text, false)?;
    if ids.last() != plain.last() && ids.last().is_some_and(|id| tokenizer.eos_ids().contains(id)) {
        ids.pop();
    }
    Ok(ids)
}

fn compile(
    checkpoint: &Checkpoint,
    model: &DecoderModel,
    options: &LoadOptions,
) -> Result<Arc<dyn Executable>, CoreError> {
    let graph = model.spec.build(options.taps)?;
    // Every parameter is taken before any is packed, so that a checkpoint with a gap fails at once.
    let (weights, params) = model.weights(checkpoint, &graph)?;
    weights.finish()?;
    crate::network::compile(graph, params, &options.compile)
}

/// Elements of the model's tensors, without heads to draft with.
fn parameters(checkpoint: &Checkpoint) -> u64 {
    let heads = mtp_tensors(checkpoint);
    let own = checkpoint.tensors().filter(|tensor| !heads.contains(tensor.name.as_str()));
    own.map(|tensor| tensor.element_count() as u64).sum()
}

fn model_name(checkpoint: &Checkpoint) -> String {
    let named = checkpoint.gguf().and_then(|metadata| metadata.get_str("general.name"));
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    named.map(str::to_string).or_else(|| stem(checkpoint.path())).unwrap_or_else(|| "model".to_string())
}
