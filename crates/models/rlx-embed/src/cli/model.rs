//! Which model, and how it embeds.

use std::collections::BTreeMap;

use rlx_cli::args::{FetchArgs, ModelArgs, QuantArgs, values};
use rlx_cli::run::args::PlanArgs;
use rlx_cli::run::report::explain;
use rlx_cli::{Context, StreamProgress};
use rlx_core::encoder::names;
use rlx_core::fetch::ModelSource;
use rlx_runtime::StepProfile;
use rlx_vectors::Metric;

use crate::{LongTexts, Pooling, Prompt, RlxEmbed};

/// The model that is taken when none is named.
const DEFAULT_MODEL: &str = "all-minilm-l6-v2";

/// How vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum MetricArg {
    /// The cosine of the angle between them
    Cosine,
    /// Their dot product
    Dot,
}

impl From<MetricArg> for Metric {
    fn from(arg: MetricArg) -> Metric {
        match arg {
            MetricArg::Cosine => Metric::Cosine,
            MetricArg::Dot => Metric::Dot,
        }
    }
}

/// A model that embeds, and how.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Embedding")]
pub(super) struct EmbedArgs {
    /// What the vectors of tokens become: mean, cls, last, max, mean-sqrt-len [default: what the checkpoint says]
    #[arg(long, value_name = "HOW")]
    pub(super) pooling: Option<Pooling>,
    /// Scale vectors to length 1 [default: what the checkpoint says]
    #[arg(long, overrides_with = "no_normalize")]
    pub(super) normalize: bool,
    /// Leave vectors as long as they are
    #[arg(long, overrides_with = "normalize")]
    pub(super) no_normalize: bool,
    /// Keep the first N dimensions, of models that were trained for it (Matryoshka)
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub(super) dims: Option<usize>,
    /// Put before each text, e.g. "search_document: "
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt_name")]
    pub(super) prompt: Option<String>,
    /// Put this prompt of the checkpoint before each text, e.g. query
    #[arg(long, value_name = "NAME")]
    pub(super) prompt_name: Option<String>,
    /// Longest text in tokens; longer ones are cut [default: what the checkpoint says]
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub(super) max_length: Option<usize>,
    /// Embed longer texts in pieces and average these, instead of cutting them
    #[arg(long)]
    pub(super) split_long: bool,
    /// Tokens that run at once; more texts of them share a batch
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub(super) batch_tokens: Option<usize>,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) quant: QuantArgs,
    #[command(flatten)]
    pub(super) plan: PlanArgs,
    #[command(flatten)]
    pub(super) fetch: FetchArgs,
}

impl EmbedArgs {
    /// The model, with what the arguments say of it. Without `--weights` it is `default`.
    pub(super) fn open(&self, default: Option<&'static ModelSource>, ctx: &Context<'_>) -> anyhow::Result<RlxEmbed> {
        let checkpoint = self.model.open(&self.quant, &self.fetch.options(ctx)?, default, ctx)?;
        let compile = self.model.compile_options();
        let long_texts = if self.split_long { LongTexts::Split } else { LongTexts::Truncate };
        let mut builder = RlxEmbed::builder()
            .device(compile.device)
            .threads(compile.threads)
            .isa(compile.isa)
            .precision(compile.precision)
            .long_texts(long_texts);
        if let Some(path) = &self.model.tokenizer {
            builder = builder.tokenizer(path);
        }
        if let Some(pooling) = self.pooling {
            builder = builder.pooling(pooling);
        }
        if self.normalize || self.no_normalize {
            builder = builder.normalize(self.normalize);
        }
        if let Some(dims) = self.dims {
            builder = builder.dims(dims);
        }
        if let Some(tokens) = self.max_length.or(self.model.max_seq) {
            builder = builder.max_length(tokens);
        }
        if let Some(text) = &self.prompt {
            builder = builder.prompt(text);
        }
        if let Some(name) = &self.prompt_name {
            builder = builder.prompt_name(name);
        }
        if let Some(tokens) = self.batch_tokens {
            builder = builder.batch_tokens(tokens);
        }
        let model = builder.load(&checkpoint)?;
        model.set_profiling(self.plan.profile);
        Ok(model)
    }

    /// Tells where the time of the encoder went, if it is asked for.
    pub(super) fn note_profile(&self, ctx: &Context<'_>, steps: &[StepProfile]) {
        self.plan.note_profile(ctx, "encoder", steps);
    }
}

/// The plan of a model for so many tokens of one text.
pub(super) fn plan(model: &RlxEmbed, tokens: usize) -> anyhow::Result<String> {
    let title = format!("encoder: {tokens} tokens");
    explain(&title, model.executable().as_ref(), &[(names::TOKEN_COUNT, tokens)])
}

/// What the commands need of a model.
pub(super) trait TextModel {
    /// What the user called it.
    fn name(&self) -> &str;
    /// Numbers per vector.
    fn dims(&self) -> usize;
    /// Longest text in tokens.
    fn max_length(&self) -> usize;
    /// Texts so far that were cut.
    fn truncated(&self) -> u64;
    /// How vectors are made, for those who find them in a file.
    fn metadata(&self) -> BTreeMap<String, String>;
    /// The plan for the longest of `texts`; without any, for the longest text that the model takes.
    fn plan(&self, texts: &[String]) -> anyhow::Result<String>;
    /// Times per step so far, if they are recorded.
    fn profile(&self) -> Vec<StepProfile>;
    /// Appends the vector of each text.
    fn embed_into(&mut self, texts: &[&str], vectors: &mut Vec<f32>) -> anyhow::Result<()>;
}

/// Loads the model that the arguments name. The second argument is the prompt of the checkpoint, if it has one of this name, for texts
/// whose arguments name none.
pub(super) type Load<'a> = &'a dyn Fn(&EmbedArgs, Option<&str>, &Context<'_>) -> anyhow::Result<Box<dyn TextModel>>;

/// The vectors of a few texts.
pub(super) fn embed_all(model: &mut dyn TextModel, texts: &[String], ctx: &Context<'_>) -> anyhow::Result<Vec<f32>> {
    let mut vectors = Vec::new();
    let mut progress = StreamProgress::new(ctx, "embedding", "texts");
    for (i, chunk) in texts.chunks(64).enumerate() {
        let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
        model.embed_into(&chunk, &mut vectors)?;
        let done = (i * 64 + chunk.len()) as u64;
        if progress.advance(done, done, Some(texts.len() as u64)).is_break() {
            return Err(rlx_cli::Interrupted.into());
        }
    }
    drop(progress);
    note_truncated(model, ctx);
    Ok(vectors)
}

/// Tells that texts were cut.
pub(super) fn note_truncated(model: &dyn TextModel, ctx: &Context<'_>) {
    if model.truncated() > 0 {
        ctx.note(&format!(
            "note: {} of the texts are longer than {} tokens: cut there, or with --split-long the mean of their pieces",
            model.truncated(),
            model.max_length(),
        ));
    }
}

/// A model as its arguments have it.
struct Loaded {
    model: RlxEmbed,
    name: String,
    /// The name of the prompt before each text.
    prompt: Option<String>,
    truncated: u64,
}

/// Loads the model that the arguments name, or the default one; see [`Load`].
pub(super) fn load(args: &EmbedArgs, prompt: Option<&str>, ctx: &Context<'_>) -> anyhow::Result<Box<dyn TextModel>> {
    let default = ModelSource::named(DEFAULT_MODEL)?;
    let model = args.open(Some(default), ctx)?;
    let name = args.model.weights.as_ref().map_or(DEFAULT_MODEL.into(), |path| path.to_string_lossy().into_owned());
    let asked = args.prompt.is_some() || args.prompt_name.is_some();
    let prompt = prompt.filter(|&name| !asked && model.settings().prompts.contains_key(name)).map(str::to_owned);
    Ok(Box::new(Loaded { model, name, prompt, truncated: 0 }))
}

impl Loaded {
    fn prompt(&self) -> Prompt<'_> {
        self.prompt.as_deref().map_or(Prompt::Default, Prompt::Named)
    }
}

impl TextModel for Loaded {
    fn name(&self) -> &str {
        &self.name
    }

    fn dims(&self) -> usize {
        self.model.dim()
    }

    fn max_length(&self) -> usize {
        self.model.max_length()
    }

    fn truncated(&self) -> u64 {
        self.truncated
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let settings = self.model.settings();
        let facts = [
            ("model", self.name.clone()),
            ("pooling", settings.pooling.name().to_owned()),
            ("normalize", settings.normalize.to_string()),
        ];
        facts.map(|(key, value)| (key.to_owned(), value)).into()
    }

    fn plan(&self, texts: &[String]) -> anyhow::Result<String> {
        let mut longest = None;
        for text in texts {
            longest = longest.max(Some(self.model.tokens_at_once(text, self.prompt())?));
        }
        plan(&self.model, longest.unwrap_or(self.model.max_length()))
    }

    fn profile(&self) -> Vec<StepProfile> {
        self.model.profile()
    }

    fn embed_into(&mut self, texts: &[&str], vectors: &mut Vec<f32>) -> anyhow::Result<()> {
        self.truncated += self.model.embed_into(texts, self.prompt(), vectors)?.too_long as u64;
        Ok(())
    }
}
