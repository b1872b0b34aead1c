//! The command line that all rlx binaries share: a registry of runners, argument groups, output, progress, and the
//! commands that need no model run.
//!
//! A program fills a [`Registry`] and hands its arguments to [`dispatch`]:
//!
//! ```
//! use std::process::ExitCode;
//! use rlx_cli::{Context, Registry, Runner, dispatch, register_cli};
//!
//! /// Print a greeting.
//! #[derive(clap::Parser)]
//! struct Args {
//!     /// Whom to greet.
//!     #[arg(long, default_value = "world")]
//!     name: String,
//! }
//!
//! fn hello(args: Vec<std::ffi::OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
//!     let args: Args = ctx.parse(args)?;
//!     ctx.print(&format!("hello {}\n", args.name))?;
//!     Ok(ExitCode::SUCCESS)
//! }
//!
//! let mut registry = Registry::new();
//! register_cli(&mut registry);
//! registry.register(Runner::new("hello", "Print a greeting", hello));
//! let code = dispatch(&registry, ["my-program", "hello", "--name", "you"]);
//! assert_eq!(code, ExitCode::SUCCESS);
//! ```
//!
//! Answers go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 wrong usage, 130 stopped by
//! Ctrl-C. With `--json` a command prints one JSON value, on failure `{"error": ...}`.

// Doc comments of command-line arguments are help texts as they stand, not Markdown.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::bare_urls, rustdoc::invalid_html_tags)]

mod app;
pub mod args;
pub mod check;
pub mod commands;
mod context;
pub mod env;
mod error;
mod interrupt;
mod memory;
mod progress;
pub mod run;
pub mod synth;
pub mod text;

pub use app::{Registry, RunFn, Runner, dispatch, run_single};
pub use commands::register_cli;
pub use context::{Context, OutputMode};
pub use env::Env;
pub use error::{Interrupted, UsageError};
pub use interrupt::Interrupt;
pub use memory::{MemoryEstimate, kv_bytes_per_token};
pub use progress::{FetchProgress, FileProgress, PromptProgress, SoundProgress, StreamProgress};
