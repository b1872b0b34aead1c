//! The typed one-call API that every decoder family shares.

use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rlx_runtime::{Device, Isa, KvType, Precision, SequenceId, Session, SessionOptions};
use rlx_weights::Checkpoint;

use crate::{CausalLm, CoreError, Event, Families, Family, GenerateOptions, Generation, LoadOptions};

/// Which family a [`Runner`] is of.
pub trait DecoderFamily {
    /// The family's declared facts.
    const FAMILY: Family;
}

/// A language model of one family with a session of its own.
///
/// ```no_run
/// # use rlx_core::{DecoderFamily, Runner, Family, Task, DecoderModel, CoreError};
/// # struct Any;
/// # impl DecoderFamily for Any {
/// #     const FAMILY: Family = Family { name: "any", about: "", gguf_architectures: &[], hf_model_types: &[],
/// #         task: Task::Decoder { load: |_| Err(CoreError::EmptyPrompt), to_gguf: |_| Err(CoreError::EmptyPrompt) } };
/// # }
/// # fn main() -> Result<(), CoreError> {
/// let mut runner = Runner::<Any>::builder().weights("model.gguf").max_seq(2048).build()?;
/// let ids = runner.model().encode("The capital of France is")?;
/// let answer = runner.generate(&ids, 16, |token| print!("{}", token.text))?;
/// # Ok(()) }
/// ```
pub struct Runner<F: DecoderFamily> {
    model: CausalLm,
    session: Session,
    _family: PhantomData<F>,
}

/// A token as it is generated.
#[derive(Clone, Copy, Debug)]
pub struct TokenPiece<'a> {
    /// Its id.
    pub id: u32,
    /// The text it completes; may be empty.
    pub text: &'a str,
}

/// Builds a [`Runner`].
pub struct RunnerBuilder<F: DecoderFamily> {
    weights: Option<PathBuf>,
    load: LoadOptions,
    session: SessionOptions,
    _family: PhantomData<F>,
}

impl<F: DecoderFamily> Runner<F> {
    /// A builder with default options.
    pub fn builder() -> RunnerBuilder<F> {
        RunnerBuilder {
            weights: None,
            load: LoadOptions::default(),
            session: SessionOptions::default(),
            _family: PhantomData,
        }
    }

    /// The model.
    pub fn model(&self) -> &CausalLm {
        &self.model
    }

    /// The runner's session, for several sequences, forks and saved states.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Generates up to `max_tokens` tokens after `ids`, greedily, in a sequence of their own. Each is shown to `on_token`.
    ///
    /// # Errors
    /// If the prompt is empty, too long, or has ids outside the vocabulary.
    pub fn generate(
        &mut self,
        ids: &[u32],
        max_tokens: usize,
        mut on_token: impl FnMut(TokenPiece<'_>),
    ) -> Result<Generation, CoreError> {
        let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
        self.generate_with(ids, &options, |event| {
            if let Event::Token { id, text } = event {
                on_token(TokenPiece { id, text });
            }
            ControlFlow::Continue(())
        })
    }

    /// Generates after `ids` by `options`, in a sequence of their own.
    ///
    /// # Errors
    /// As [`Runner::generate`], and if a sampler option is out of range.
    pub fn generate_with(
        &mut self,
        ids: &[u32],
        options: &GenerateOptions,
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, CoreError> {
        let sequence = self.session.add_sequence();
        let result = self.model.generate(&mut self.session, sequence, ids, options, &mut on_event);
        self.session.remove(sequence)?;
        result
    }

    /// Logits after the last token of `ids`, F32 `[vocab]`.
    ///
    /// # Errors
    /// As [`Runner::generate`].
    pub fn predict_logits(&mut self, ids: &[u32]) -> Result<Vec<f32>, CoreError> {
        self.model.predict_logits(&mut self.session, ids)
    }

    /// A second sequence with the tokens of `sequence`, sharing its KV blocks.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn fork(&mut self, sequence: SequenceId) -> Result<SequenceId, CoreError> {
        Ok(self.session.fork(sequence)?)
    }

    /// Forgets all tokens of `sequence`.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn reset(&mut self, sequence: SequenceId) -> Result<(), CoreError> {
        Ok(self.session.truncate(sequence, 0)?)
    }

    /// A sequence as bytes.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn save(&mut self, sequence: SequenceId) -> Result<Vec<u8>, CoreError> {
        Ok(self.session.save(sequence)?)
    }

    /// The sequence that [`Runner::save`] made `data` of.
    ///
    /// # Errors
    /// If the data are not of this model.
    pub fn restore(&mut self, data: &[u8]) -> Result<SequenceId, CoreError> {
        Ok(self.session.restore(data)?)
    }
}

impl<F: DecoderFamily> RunnerBuilder<F> {
    /// The checkpoint: a `.gguf` or `.safetensors` file, a directory, or one part of a split file. Required.
    #[must_use]
    pub fn weights(mut self, path: impl AsRef<Path>) -> Self {
        self.weights = Some(path.as_ref().to_path_buf());
        self
    }

    /// Where to run.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.load.compile.device = device;
        self
    }

    /// Threads that run the model; all processors by default.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.load.compile.threads = threads.max(1);
        self
    }

    /// Instruction set of the kernels; the best by default.
    #[must_use]
    pub fn isa(mut self, isa: Isa) -> Self {
        self.load.compile.isa = isa;
        self
    }

    /// How exactly to compute.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.load.compile.precision = precision;
        self
    }

    /// Longest sequence in tokens; 4096 by default.
    #[must_use]
    pub fn max_seq(mut self, tokens: usize) -> Self {
        self.session.max_seq = tokens;
        self
    }

    /// Element type of the KV cache; F16 by default.
    #[must_use]
    pub fn kv_type(mut self, kv_type: KvType) -> Self {
        self.session.kv_type = kv_type;
        self
    }

    /// Quantisation to take where a directory holds several files, as `Q4_K_M`.
    #[must_use]
    pub fn prefer_quant(mut self, tag: impl Into<String>) -> Self {
        self.load.open.prefer_quant = Some(tag.into());
        self
    }

    /// A tokenizer other than the checkpoint's own.
    #[must_use]
    pub fn tokenizer(mut self, path: impl AsRef<Path>) -> Self {
        self.load.tokenizer = Some(path.as_ref().to_path_buf());
        self
    }

    /// A chat template other than the checkpoint's own: a name, a file, or Jinja source.
    #[must_use]
    pub fn chat_template(mut self, template: impl Into<String>) -> Self {
        self.load.chat_template = Some(template.into());
        self
    }

    /// Loads the model.
    ///
    /// # Errors
    /// If no weights were named, they are of another family, incomplete or unreadable, or the device is not there.
    pub fn build(self) -> Result<Runner<F>, CoreError> {
        let path = self.weights.ok_or_else(|| CoreError::Config("no weights given to the builder".into()))?;
        let checkpoint = Checkpoint::open(&path, &self.load.open)?;
        let mut families = Families::new();
        families.register(F::FAMILY);
        let family = families.expect(F::FAMILY.name, &checkpoint)?;
        let model = CausalLm::load(&checkpoint, family, &self.load)?;
        let session = model.session(self.session)?;
        Ok(Runner { model, session, _family: PhantomData })
    }
}
