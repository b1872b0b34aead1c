//! Groups of arguments with the same names and meanings in every command. Flatten the ones that a command needs:
//!
//! ```
//! use rlx_cli::args::{FetchArgs, ModelArgs, OutputArgs, PromptArgs, QuantArgs, SamplingArgs};
//!
//! /// Generate text.
//! #[derive(clap::Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     model: ModelArgs,
//!     #[command(flatten)]
//!     quant: QuantArgs,
//!     #[command(flatten)]
//!     prompt: PromptArgs,
//!     #[command(flatten)]
//!     sampling: SamplingArgs,
//!     #[command(flatten)]
//!     fetch: FetchArgs,
//!     #[command(flatten)]
//!     output: OutputArgs,
//! }
//! # use clap::Parser as _;
//! # let args = Args::try_parse_from(["x", "--prompt", "hi", "--temperature=0.7"]).unwrap();
//! # assert_eq!(args.sampling.options().temperature, 0.7);
//! ```

mod fetch;
mod model;
mod prompt;
mod sampling;
pub mod values;

pub use fetch::FetchArgs;
pub use model::{ModelArgs, PrecisionArg, QuantArgs, WeightsFormat, WeightsRef};
pub use prompt::{Prompt, PromptArgs};
pub use sampling::SamplingArgs;

/// How to print. [`crate::Context::mode`] tells the result: it must be known before the arguments are parsed.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print one JSON value on stdout; errors are {"error": ...}
    #[arg(long)]
    pub json: bool,
    /// No progress and no notes on stderr
    #[arg(long)]
    pub quiet: bool,
}
