//! `perplexity`: how well a model predicts a text.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rlx_core::CausalLm;
use rlx_core::fetch::ModelSource;
use rlx_ir::batch;
use rlx_runtime::SessionOptions;
use rlx_text::Tokenizer;
use serde_json::json;

use super::args::{KvArgs, PlanArgs, load_options, merge_path};
use super::load;
use super::report::explain;
use crate::args::{FetchArgs, ModelArgs, OutputArgs, QuantArgs};
use crate::context::Context;
use crate::interrupt::Interrupt;

/// Measure how well a model predicts a text. The text is cut into windows of --ctx tokens; in each, the tokens of the
/// second half are scored, as llama-perplexity does it.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run perplexity --weights model.gguf --text book.txt
  rlx-run perplexity --weights model.gguf --text book.txt --precision f32 --kv-type f32 --json
  rlx-run perplexity --weights model.gguf --text book.txt --profile
  rlx-run perplexity --weights model.gguf --explain")]
struct Args {
    /// The same as --weights PATH
    #[arg(value_name = "WEIGHTS")]
    path: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    quant: QuantArgs,
    #[command(flatten)]
    kv: KvArgs,
    /// The text
    #[arg(long, value_name = "FILE", required_unless_present = "explain")]
    text: Option<PathBuf>,
    /// Tokens per window
    #[arg(long, value_name = "N", default_value_t = 512)]
    ctx: usize,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let mut args: Args = ctx.parse(args)?;
    merge_path(&mut args.model, args.path.take())?;
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let text = args.text.as_ref().map(read).transpose()?;
    let options = load_options(&args.model, &args.quant, None);
    let fetch = args.fetch.options(ctx)?;
    let loaded = load(&args.model, &args.quant, &fetch, Some(ModelSource::default_lm()), None, &options, ctx)?;
    let model = &loaded.model;
    let options = SessionOptions { max_seq: args.ctx.max(1), kv_type: args.kv.kv_type(), ..SessionOptions::default() };
    let [context, scored] = CausalLm::perplexity_steps(args.ctx, &options);
    let plan = || {
        let executable = model.executable().as_ref();
        let of = |title: &str, tokens, logits| {
            let symbols = [(batch::TOKEN_COUNT, tokens), (batch::LOGIT_COUNT, logits)];
            explain(&format!("{tokens} tokens {title}"), executable, &symbols)
        };
        Ok(of("of context", context, 0)? + &of("that are scored", scored, scored)?)
    };
    let (Some(text), Some(path)) = (text, &args.text) else { return args.plan.answer_plan(ctx, plan) };
    args.plan.note_plan(ctx, plan)?;
    let ids = model.encode(&text).with_context(|| path.display().to_string())?;
    let bos = added_bos(model.tokenizer()?);
    let mut session = model.session(options)?;
    session.set_profiling(args.plan.profile);

    let target = if ctx.mode().quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} windows, perplexity {msg} {eta}") {
        bar.set_style(style);
    }
    let interrupt = ctx.interrupt().ok();
    let result = model.perplexity(&mut session, &ids, args.ctx, bos, &mut |done, total, so_far| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.set_message(format!("{so_far:.3}"));
        if interrupt.is_some_and(Interrupt::is_set) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bar.finish_and_clear();
    args.plan.note_profile(ctx, "the windows", &session.profile());
    if args.output.json {
        ctx.print_json(&json!({
            "model": model.info().name,
            "perplexity": result.perplexity,
            "standard_error": result.standard_error,
            "tokens": result.tokens,
            "windows": result.windows,
            "ctx": args.ctx,
            "engine": model.executable().describe(),
        }))?;
    } else {
        ctx.print(&format!(
            "perplexity {:.4} +/- {:.4} ({} tokens in {} windows of {})\n",
            result.perplexity, result.standard_error, result.tokens, result.windows, args.ctx
        ))?;
    }
    Ok(if interrupt.is_some_and(Interrupt::is_set) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// The begin-of-text token, if the tokenizer puts it before texts.
fn added_bos(tokenizer: &Tokenizer) -> Option<u32> {
    let first = tokenizer.encode("a", true).ok()?.first().copied();
    tokenizer.bos_id().filter(|&bos| first == Some(bos))
}
