//! Which model, and how to run it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rlx_core::fetch::{FetchOptions, HubRef, ModelSource, fetch, fetch_hub};
use rlx_runtime::{CompileOptions, Device, Isa, Precision};
use rlx_weights::{Checkpoint, Format, OpenOptions, list_gguf};

use super::values;
use crate::context::Context;
use crate::memory::MemoryEstimate;
use crate::progress::FetchProgress;
use crate::text;

/// Weights and how to run them. Combine with [`QuantArgs`] and [`super::FetchArgs`].
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A .gguf or .safetensors file, a directory, one shard of a split file, a name from `rlx-run fetch --list`, or
    /// hf:OWNER/NAME[:FILE][@REVISION]
    #[arg(long, visible_alias = "model", value_name = "PATH")]
    pub weights: Option<PathBuf>,
    /// config.json to use instead of the one beside the weights
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Tokenizer (tokenizer.json, or a directory with one) to use instead of the model's own
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// Which of several formats in a directory
    #[arg(long, value_enum)]
    pub format: Option<WeightsFormat>,
    /// Where to run: `rlx-run devices` lists what is built in
    #[arg(long, default_value = "cpu", value_parser = values::device)]
    pub device: Device,
    /// Threads [default: all processors]
    #[arg(long, short = 't', value_name = "N", value_parser = values::at_least_one)]
    pub threads: Option<usize>,
    /// How exactly to compute [default: auto]
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionArg>,
    /// Instruction set of the kernels: auto, scalar, neon, avx2, avx512, amx [default: auto]
    #[arg(long, value_parser = values::isa)]
    pub isa: Option<Isa>,
    /// Longest sequence in tokens, prompt and answer together
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub max_seq: Option<usize>,
    /// Refuse to load a model that would need more memory
    #[arg(long, value_name = "GB", value_parser = values::positive)]
    pub max_memory_gb: Option<f32>,
    /// Keep quantised weights packed; this is always done
    #[arg(long, overrides_with = "no_packed")]
    pub packed: bool,
    /// Compute in f32 from exactly dequantised weights, as --precision f32
    #[arg(long, overrides_with = "packed")]
    pub no_packed: bool,
}

/// Which of several quantisations in a directory.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct QuantArgs {
    /// In a directory of GGUF files, take this quantisation, e.g. Q4_K_M
    #[arg(long, short = 'p', visible_alias = "prefer", value_name = "TAG")]
    pub prefer_quant: Option<String>,
    /// In a directory of GGUF files, take the one of this number in `rlx-run inspect`
    #[arg(long, value_name = "N", conflicts_with = "prefer_quant")]
    pub gguf_index: Option<usize>,
}

/// A built-in weight format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WeightsFormat {
    /// safetensors, one file or sharded
    Safetensors,
    /// GGUF, one file or split
    Gguf,
}

/// How exactly to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PrecisionArg {
    /// What suits the weights: 15-bit activations for quantised ones, bf16 tiles or fixed point for many tokens at once
    Auto,
    /// f32 throughout, from exactly dequantised weights
    F32,
    /// As auto, with bf16 tiles or fixed point for F32 weights too, and for attention where that is faster
    Bf16,
    /// Accepted for older scripts: the same as auto
    F16Lm,
}

impl From<PrecisionArg> for Precision {
    fn from(arg: PrecisionArg) -> Precision {
        match arg {
            PrecisionArg::Auto | PrecisionArg::F16Lm => Precision::Auto,
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Bf16 => Precision::Bf16,
        }
    }
}

/// What `--weights` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsRef {
    /// A file or directory.
    Path(PathBuf),
    /// A model with a short name.
    Named(&'static ModelSource),
    /// Something on the hub.
    Hub(HubRef),
}

impl WeightsRef {
    /// `hf:OWNER/NAME...`, the name of a known model, or else a path. A path that exists goes before a name.
    ///
    /// # Errors
    /// A hub reference that cannot be parsed.
    pub fn parse(value: &OsStr) -> anyhow::Result<Self> {
        let path = Path::new(value);
        if !path.exists()
            && let Some(text) = value.to_str()
        {
            if let Some(reference) = text.strip_prefix("hf:") {
                return Ok(WeightsRef::Hub(reference.parse()?));
            }
            if let Ok(source) = ModelSource::named(text) {
                return Ok(WeightsRef::Named(source));
            }
        }
        Ok(WeightsRef::Path(path.to_owned()))
    }

    /// The path of the weights, fetched if need be.
    ///
    /// # Errors
    /// Fetching failed. Whether a given path exists is not checked here.
    pub fn resolve(&self, options: &FetchOptions, context: &Context<'_>) -> anyhow::Result<PathBuf> {
        let mut progress = FetchProgress::new(context);
        Ok(match self {
            WeightsRef::Path(path) => path.clone(),
            WeightsRef::Named(source) => fetch(source, options, &mut progress)?,
            WeightsRef::Hub(reference) => fetch_hub(reference, options, &mut progress)?,
        })
    }
}

impl ModelArgs {
    /// Opens the weights; without `--weights` those of `default`, or an error if there is no default.
    ///
    /// # Errors
    /// Fetching or opening failed, `--format` is another one, or `--max-memory-gb` is too little.
    pub fn open(
        &self,
        quant: &QuantArgs,
        fetch: &FetchOptions,
        default: Option<&'static ModelSource>,
        context: &Context<'_>,
    ) -> anyhow::Result<Checkpoint> {
        let reference = match (&self.weights, default) {
            (Some(value), _) => WeightsRef::parse(value.as_os_str())?,
            (None, Some(source)) => WeightsRef::Named(source),
            (None, None) => return Err(crate::UsageError("--weights is needed".to_owned()).into()),
        };
        let path = reference.resolve(fetch, context)?;
        let mut checkpoint = self.open_format(&path, quant.open_options())?;
        if let Some(file) = &self.config {
            let bytes = fs::read(file).with_context(|| file.display().to_string())?;
            let config = serde_json::from_slice(&bytes).with_context(|| format!("{}: bad JSON", file.display()))?;
            checkpoint = checkpoint.with_config(config);
        }
        self.check_memory(&checkpoint)?;
        Ok(checkpoint)
    }

    fn open_format(&self, path: &Path, mut options: OpenOptions) -> anyhow::Result<Checkpoint> {
        let wish = options.prefer_quant.is_some() || options.gguf_index.is_some();
        if self.format == Some(WeightsFormat::Gguf) && path.is_dir() && !wish {
            let files = list_gguf(path)?;
            let mut models = files.iter().filter(|file| !file.companion);
            match (models.next(), models.next()) {
                (Some(only), None) => options.gguf_index = Some(only.index),
                (None, _) => bail!("{}: no GGUF file in this directory", path.display()),
                // Several: the order of preference decides, which --prefer-quant overrides.
                (Some(_), Some(_)) => {}
            }
        }
        let checkpoint = Checkpoint::open(path, &options)?;
        let fits = match self.format {
            None => true,
            Some(WeightsFormat::Gguf) => *checkpoint.format() == Format::Gguf,
            Some(WeightsFormat::Safetensors) => *checkpoint.format() == Format::Safetensors,
        };
        if !fits {
            bail!("{} is {}, but another --format was asked for", path.display(), checkpoint.format());
        }
        Ok(checkpoint)
    }

    fn check_memory(&self, checkpoint: &Checkpoint) -> anyhow::Result<()> {
        let Some(limit) = self.max_memory_gb else { return Ok(()) };
        let limit = (f64::from(limit) * 1e9) as u64;
        let need = MemoryEstimate::new(checkpoint, self.max_seq.map_or(crate::memory::DEFAULT_CONTEXT, |n| n as u64));
        if need.total > limit {
            bail!(
                "this model needs about {}, more than --max-memory-gb allows ({}): take a smaller quantisation or --max-seq",
                text::bytes(need.total),
                text::bytes(limit)
            );
        }
        Ok(())
    }

    /// Device, threads, kernels.
    pub fn compile_options(&self) -> CompileOptions {
        let defaults = CompileOptions::default();
        let precision = match self.precision {
            _ if self.no_packed => Precision::F32,
            given => given.unwrap_or(PrecisionArg::Auto).into(),
        };
        CompileOptions {
            device: self.device,
            threads: self.threads.unwrap_or(defaults.threads),
            isa: self.isa.unwrap_or(defaults.isa),
            precision,
        }
    }
}

impl QuantArgs {
    /// Which file of a directory.
    pub fn open_options(&self) -> OpenOptions {
        OpenOptions { prefer_quant: self.prefer_quant.clone(), gguf_index: self.gguf_index, ..OpenOptions::default() }
    }
}
