//! Loading a model.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rlx_bert::BertHead;
use rlx_core::encoder::{Encoder, EncoderModel, Pooling};
use rlx_core::fetch::{self, FetchOptions, HubRef, ModelSource};
use rlx_core::{CoreError, Families, load_tokenizer};
use rlx_flow::Taps;
use rlx_runtime::{CompileOptions, Device, Isa, Precision};
use rlx_text::Tokenizer;
use rlx_weights::{Checkpoint, OpenOptions};

use crate::batch::{Finish, Worker};
use crate::model::{Options, unknown_prompt};
use crate::texts::TextEncoder;
use crate::{EmbedError, EmbedSettings, LongTexts, RlxEmbed};

/// Tokens of a batch unless told otherwise: enough to keep the weights in use, few enough to stay in the caches.
const BATCH_TOKENS: usize = 512;

/// Builds an [`RlxEmbed`]. What is not set is as the checkpoint has it.
#[derive(Clone, Debug)]
pub struct EmbedBuilder {
    model: Option<Model>,
    open: OpenOptions,
    compile: CompileOptions,
    fetch: FetchOptions,
    tokenizer: Option<PathBuf>,
    pooling: Option<Pooling>,
    normalize: Option<bool>,
    dims: Option<usize>,
    max_length: Option<usize>,
    prompt: Option<String>,
    prompt_name: Option<String>,
    long_texts: LongTexts,
    batch_tokens: usize,
}

#[derive(Clone, Debug)]
enum Model {
    Path(PathBuf),
    Pretrained(String),
}

impl Default for EmbedBuilder {
    fn default() -> EmbedBuilder {
        EmbedBuilder {
            model: None,
            open: OpenOptions::default(),
            compile: CompileOptions::default(),
            fetch: FetchOptions::default(),
            tokenizer: None,
            pooling: None,
            normalize: None,
            dims: None,
            max_length: None,
            prompt: None,
            prompt_name: None,
            long_texts: LongTexts::default(),
            batch_tokens: BATCH_TOKENS,
        }
    }
}

impl EmbedBuilder {
    /// The model's directory, or its safetensors or GGUF file.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.model = Some(Model::Path(path.as_ref().to_path_buf()));
        self
    }

    /// A published model, by its short name or its hub name.
    #[must_use]
    pub fn pretrained(mut self, name: impl Into<String>) -> Self {
        self.model = Some(Model::Pretrained(name.into()));
        self
    }

    /// How published models are fetched.
    #[must_use]
    pub fn fetch_options(mut self, options: FetchOptions) -> Self {
        self.fetch = options;
        self
    }

    /// Which file of a directory that holds several.
    #[must_use]
    pub fn open_options(mut self, options: OpenOptions) -> Self {
        self.open = options;
        self
    }

    /// Where to run.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.compile.device = device;
        self
    }

    /// Threads that run the model; all processors by default.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.compile.threads = threads.max(1);
        self
    }

    /// Instruction set of the kernels; the best by default.
    #[must_use]
    pub fn isa(mut self, isa: Isa) -> Self {
        self.compile.isa = isa;
        self
    }

    /// How exactly to compute. By default F32 weights are computed with in F32.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.compile.precision = precision;
        self
    }

    /// A tokenizer other than the checkpoint's own.
    #[must_use]
    pub fn tokenizer(mut self, path: impl AsRef<Path>) -> Self {
        self.tokenizer = Some(path.as_ref().to_path_buf());
        self
    }

    /// How the vectors of a text's tokens become one.
    #[must_use]
    pub fn pooling(mut self, pooling: Pooling) -> Self {
        self.pooling = Some(pooling);
        self
    }

    /// Whether vectors are scaled to length one.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = Some(normalize);
        self
    }

    /// Keeps the first `dims` of a vector, then scales it: for models trained so that these mean something by themselves (Matryoshka,
    /// Kusupati et al. 2022). NomicBERT's go through a layer norm first, as its model card says.
    #[must_use]
    pub fn dims(mut self, dims: usize) -> Self {
        self.dims = Some(dims);
        self
    }

    /// Longest text in tokens, with those around it.
    #[must_use]
    pub fn max_length(mut self, tokens: usize) -> Self {
        self.max_length = Some(tokens);
        self
    }

    /// Words before each text that is given without a prompt, as `query: `.
    #[must_use]
    pub fn prompt(mut self, text: impl Into<String>) -> Self {
        self.prompt = Some(text.into());
        self
    }

    /// As [`EmbedBuilder::prompt`], the checkpoint's prompt of this name.
    #[must_use]
    pub fn prompt_name(mut self, name: impl Into<String>) -> Self {
        self.prompt_name = Some(name.into());
        self
    }

    /// What happens to texts that are longer than the model takes; they are cut by default.
    #[must_use]
    pub fn long_texts(mut self, long_texts: LongTexts) -> Self {
        self.long_texts = long_texts;
        self
    }

    /// Tokens that run at once, about: a longer text runs alone. 2048 by default.
    #[must_use]
    pub fn batch_tokens(mut self, tokens: usize) -> Self {
        self.batch_tokens = tokens.max(1);
        self
    }

    /// Loads the model.
    ///
    /// # Errors
    /// If no model was named, it cannot be fetched, its files are incomplete or contradict each other, it is of no known family, it
    /// has no tokenizer, or an option is out of range.
    pub fn build(self) -> Result<RlxEmbed, EmbedError> {
        let path = match &self.model {
            None => return Err(EmbedError::NoModel),
            Some(Model::Path(path)) => path.clone(),
            Some(Model::Pretrained(name)) => fetched(name, &self.fetch)?,
        };
        let checkpoint = Checkpoint::open(&path, &self.open)?;
        self.load(&checkpoint)
    }

    /// Loads the model of an opened checkpoint.
    ///
    /// # Errors
    /// As [`EmbedBuilder::build`].
    pub fn load(self, checkpoint: &Checkpoint) -> Result<RlxEmbed, EmbedError> {
        let (family, model, labels) = encoder_of(checkpoint)?;
        let (hidden_size, max_positions, vocab_size) = (model.hidden_size, model.max_positions, model.vocab_size);
        let settings = match labels {
            // A cross-encoder pools nothing.
            Some(_) => EmbedSettings::of(checkpoint, hidden_size, Some(Pooling::Cls), Some(false))?,
            None => EmbedSettings::of(checkpoint, hidden_size, self.pooling, self.normalize)?,
        };
        let tokenizer = load_tokenizer(checkpoint, self.tokenizer.as_deref())?.ok_or(EmbedError::NoTokenizer)?;
        check_tokenizer(&tokenizer, vocab_size)?;
        let texts = TextEncoder::new(tokenizer, settings.lowercase)?;
        let max_length = self.checked_max_length(&settings, &texts, max_positions)?;
        let dims = self.dims.unwrap_or(hidden_size);
        if dims == 0 || dims > hidden_size {
            return Err(EmbedError::Dims { dims, dim: hidden_size });
        }
        let prompt = match (self.prompt, &self.prompt_name) {
            (Some(text), _) => Some(text),
            (None, Some(name)) => {
                let known = settings.prompts.get(name);
                Some(known.cloned().ok_or_else(|| unknown_prompt(name, &settings))?)
            }
            (None, None) => None,
        };
        // A vector cut short has lost its length: it is scaled again unless that is not wished.
        let cut = dims < hidden_size;
        let finish = Finish {
            pooling: settings.pooling,
            normalize: settings.normalize || cut && self.normalize != Some(false),
            dims,
            layer_norm: family == rlx_nomic::FAMILY.name,
        };
        let options = Options {
            family,
            device: self.compile.device,
            finish,
            max_length,
            batch_tokens: self.batch_tokens,
            long_texts: self.long_texts,
            prompt,
            labels,
            sigmoid: labels.is_some() && !is_identity(checkpoint),
        };
        let worker = Worker::new(Encoder::load(checkpoint, model, &self.compile)?);
        Ok(RlxEmbed { worker: Mutex::new(worker), texts, settings, options })
    }

    fn checked_max_length(
        &self,
        settings: &EmbedSettings,
        texts: &TextEncoder,
        max: usize,
    ) -> Result<usize, EmbedError> {
        let min = texts.around_pair() + 1;
        let length = match self.max_length {
            Some(given) => given,
            None => settings.max_length.unwrap_or(max).min(max),
        };
        if length < min || length > max {
            return Err(EmbedError::MaxLength { given: length, min, max });
        }
        Ok(length)
    }
}

/// The path of a published model in the cache.
fn fetched(name: &str, options: &FetchOptions) -> Result<PathBuf, EmbedError> {
    let known = ModelSource::all().iter().find(|source| source.origin.eq_ignore_ascii_case(name));
    Ok(match known {
        Some(source) => fetch::fetch(source, options, &mut ())?,
        None if name.contains('/') => fetch::fetch_hub(&name.parse::<HubRef>()?, options, &mut ())?,
        None => fetch::fetch(ModelSource::named(name)?, options, &mut ())?,
    })
}

/// The family of a checkpoint, its model, and the labels that it scores pairs by if it does.
fn encoder_of(checkpoint: &Checkpoint) -> Result<(&'static str, EncoderModel, Option<usize>), CoreError> {
    let mut families = Families::new();
    families.register(rlx_bert::FAMILY);
    families.register(rlx_nomic::FAMILY);
    let family = families.find(checkpoint)?.name;
    if family == rlx_nomic::FAMILY.name {
        return Ok((family, rlx_nomic::encoder(checkpoint, Taps::None)?, None));
    }
    let (head, labels) = match BertHead::of(checkpoint) {
        head @ BertHead::Classification { labels } => (head, Some(labels)),
        _ => (BertHead::None, None),
    };
    Ok((family, rlx_bert::encoder(checkpoint, head, Taps::None)?, labels))
}

/// A tokenizer of another model gives ids that the embedding does not have.
fn check_tokenizer(tokenizer: &Tokenizer, vocab_size: usize) -> Result<(), EmbedError> {
    let ids = tokenizer.vocab_size();
    if ids > vocab_size {
        return Err(EmbedError::OtherTokenizer { tokenizer: ids, model: vocab_size });
    }
    Ok(())
}

/// Whether the checkpoint says that scores of pairs are the logits themselves.
fn is_identity(checkpoint: &Checkpoint) -> bool {
    let Some(config) = checkpoint.config() else { return false };
    let named = config["sentence_transformers"]["activation_fn"].as_str();
    named.or(config["sbert_ce_default_activation_function"].as_str()).is_some_and(|name| name.ends_with("Identity"))
}
