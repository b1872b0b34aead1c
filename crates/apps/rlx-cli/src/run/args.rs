//! Arguments of commands that run models, beside those of [`crate::args`].

use std::path::PathBuf;

use rlx_core::LoadOptions;
use rlx_runtime::{CompileOptions, Device, Isa, KvType, SessionOptions};

use crate::args::{ModelArgs, PrecisionArg, QuantArgs, values};

/// Element type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KvArg {
    /// Exact
    F32,
    /// Half the size
    F16,
    /// A quarter of the size, slightly less exact
    Q8,
}

impl From<KvArg> for KvType {
    fn from(arg: KvArg) -> KvType {
        match arg {
            KvArg::F32 => KvType::F32,
            KvArg::F16 => KvType::F16,
            KvArg::Q8 => KvType::Q8,
        }
    }
}

/// How sequences are kept.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct KvArgs {
    /// Element type of the KV cache [default: f16]
    #[arg(long, value_enum)]
    pub kv_type: Option<KvArg>,
}

impl KvArgs {
    /// The element type.
    pub fn kv_type(&self) -> KvType {
        self.kv_type.map_or(SessionOptions::default().kv_type, KvType::from)
    }
}

/// What to tell of the run besides its result; all of it on stderr.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct ReportArgs {
    /// Tell times, rates and memory
    #[arg(long)]
    pub timing: bool,
    /// Tell where the time went, per op
    #[arg(long)]
    pub profile: bool,
    /// Tell the compiled plan: steps, kernels, buffers, bytes; without a prompt, as the answer
    #[arg(long)]
    pub explain: bool,
}

/// How to run a model whose numbers are compared: exactly, unless told otherwise.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ExactArgs {
    /// Where to run: `rlx-run devices` lists what is built in
    #[arg(long, default_value = "cpu", value_parser = values::device)]
    pub device: Device,
    /// Threads [default: all processors]
    #[arg(long, short = 't', value_name = "N", value_parser = values::at_least_one)]
    pub threads: Option<usize>,
    /// How exactly to compute
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionArg,
    /// Instruction set of the kernels: auto, scalar, neon, avx2, avx512, amx
    #[arg(long, default_value = "auto", value_parser = values::isa)]
    pub isa: Isa,
    /// Element type of the KV cache
    #[arg(long, value_enum, default_value = "f32")]
    pub kv_type: KvArg,
}

impl ExactArgs {
    /// Device, threads, kernels.
    pub fn load_options(&self) -> LoadOptions {
        let precision = self.precision.into();
        let threads = self.threads.unwrap_or(CompileOptions::default().threads);
        let compile = CompileOptions { device: self.device, threads, isa: self.isa, precision };
        LoadOptions { compile, ..LoadOptions::default() }
    }
}

/// How to load a language model, from the arguments that say so.
pub fn load_options(model: &ModelArgs, quant: &QuantArgs, chat_template: Option<String>) -> LoadOptions {
    LoadOptions {
        open: quant.open_options(),
        compile: model.compile_options(),
        tokenizer: model.tokenizer.clone(),
        chat_template,
        ..LoadOptions::default()
    }
}

/// `--weights PATH`, or PATH on its own.
///
/// # Errors
/// If both are given.
pub fn merge_path(model: &mut ModelArgs, path: Option<PathBuf>) -> anyhow::Result<()> {
    match (path, &model.weights) {
        (Some(_), Some(_)) => Err(crate::UsageError("the weights are given twice".to_owned()).into()),
        (Some(path), None) => {
            model.weights = Some(path);
            Ok(())
        }
        (None, _) => Ok(()),
    }
}
