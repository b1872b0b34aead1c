//! `chat`: a conversation with a model.

mod conversation;
mod repl;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rlx_core::fetch::{FetchOptions, ModelSource};
use rlx_core::{Event, GenerateOptions, StopReason};
use serde_json::json;

pub use conversation::Conversation;

use super::args::{KvArgs, ReportArgs, load_options};
use super::report::{EXPLAINED_PROMPT, Timing, explain_lm};
use super::{ConstraintArgs, DraftArgs, load_with_profile};
use crate::args::{FetchArgs, ModelArgs, OutputArgs, QuantArgs, SamplingArgs};
use crate::context::Context;
use crate::interrupt::Interrupt;
use crate::progress::PromptProgress;

/// Longest answer where nothing is said.
const DEFAULT_MAX_TOKENS: usize = 1024;

/// Talk with a model. With a message, print one answer. Without, talk in turns: each line of input is a message, a
/// backslash at the end of a line continues it on the next, and /help lists the commands. Ctrl-C stops an answer, Ctrl-D
/// ends the talk. Without --weights the default model is fetched once and used.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run chat 'What is the capital of France?'
  rlx-run chat --weights model.gguf
  rlx-run chat --system 'You answer in rhymes.' --temperature 0.7 --top-p 0.9 'Tell me about the sea.'
  rlx-run chat --json-schema city.json 'What is the capital of France?'
  echo 'What is 2+2?' | rlx-run chat --timing")]
struct Args {
    /// What to say; several words are joined
    message: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    quant: QuantArgs,
    #[command(flatten)]
    kv: KvArgs,
    /// System message
    #[arg(long, value_name = "TEXT", help_heading = "Prompt")]
    system: Option<String>,
    /// Chat template: a name (chatml, llama3, ...), a file, or Jinja text
    #[arg(long, value_name = "TEMPLATE", help_heading = "Prompt")]
    chat_template: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    constraint: ConstraintArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Print the answer as it comes; this is the default
    #[arg(long, help_heading = "Output", overrides_with = "no_stream")]
    stream: bool,
    /// Print the answer when it is complete
    #[arg(long, help_heading = "Output", overrides_with = "stream")]
    no_stream: bool,
    #[command(flatten)]
    report: ReportArgs,
}

/// A conversation and how its turns are printed.
struct Talk<'a> {
    conversation: Conversation,
    load_time: Duration,
    stream: bool,
    report: ReportArgs,
    interrupt: Option<Interrupt>,
    fetch: FetchOptions,
    ctx: &'a Context<'a>,
}

pub(super) fn run(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let args: Args = ctx.parse(args)?;
    let fetch = args.fetch.options(ctx)?;
    let message = (!args.message.is_empty()).then(|| args.message.join(" "));
    if message.as_ref().is_some_and(|text| text.trim().is_empty()) {
        anyhow::bail!("the message is empty");
    }
    if args.output.json && message.is_none() {
        return Err(crate::UsageError("--json needs a message".to_owned()).into());
    }
    let options = load_options(&args.model, &args.quant, args.chat_template.clone());
    let default = Some(ModelSource::default_lm());
    let loaded = load_with_profile(&args.model, &args.quant, &fetch, default, None, &options, ctx)?;
    args.report.plan.note_plan(ctx, || {
        Ok(format!("{}{}", loaded.profile, explain_lm(loaded.model.executable().as_ref(), EXPLAINED_PROMPT)?))
    })?;
    let session = loaded.session_options(args.model.max_seq, 0, args.kv.kv_type, ctx);
    let generate = GenerateOptions {
        max_tokens: args.sampling.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
        sampler: args.sampling.options(),
        stop: args.sampling.stop.clone(),
        ignore_eos: args.sampling.ignore_eos,
    };
    let draft = args.draft.load(&args.model, &fetch, &loaded.model, session.clone(), ctx)?;
    let constraint = args.constraint.load_noting(&loaded.model, &args.sampling, ctx)?;
    let mut conversation = Conversation::new(loaded.model, session, generate)?;
    conversation.set_draft(draft);
    conversation.set_constraint(constraint);
    conversation.set_system(args.system.as_deref());
    let mut talk = Talk {
        conversation,
        load_time: loaded.load_time,
        stream: !args.no_stream,
        report: args.report,
        interrupt: ctx.interrupt().ok(),
        fetch,
        ctx,
    };
    match message {
        Some(message) => talk.turn(&message).map(|reason| match reason {
            StopReason::Cancelled => ExitCode::from(130),
            _ => ExitCode::SUCCESS,
        }),
        None if std::io::stdin().is_terminal() => talk.interactive(),
        None => talk.piped(),
    }
}

impl Talk<'_> {
    /// Says `message` and prints the answer.
    fn turn(&mut self, message: &str) -> anyhow::Result<StopReason> {
        let ctx = self.ctx;
        let show = !ctx.mode().json;
        let (stream, interrupt) = (self.stream, self.interrupt);
        // A Ctrl-C of before was meant for something else.
        interrupt.map(Interrupt::take);
        self.conversation.set_profiling(self.report.plan.profile);
        let mut progress = PromptProgress::new(ctx);
        let mut failed = None;
        let mut first_token = None;
        let start = Instant::now();
        let result = self.conversation.say(message, &mut |event| {
            match event {
                Event::Prompt { done, total } => progress.advance(done, total),
                Event::Token { text, .. } => {
                    first_token.get_or_insert_with(|| start.elapsed());
                    progress.finish();
                    if stream && show && !text.is_empty() {
                        failed = ctx.print(text).err();
                    }
                }
            }
            let stop = failed.is_some() || interrupt.is_some_and(Interrupt::is_set);
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        progress.finish();
        interrupt.map(Interrupt::take);
        if let Some(error) = failed {
            return Err(error);
        }
        let generation = result?;
        let timing = Timing::new(self.load_time, &generation, first_token, self.conversation.has_draft());
        let whole = self.conversation.is_whole();
        if show {
            let text = if stream { "" } else { generation.text.as_str() };
            ctx.print(&format!("{text}\n"))?;
        } else {
            let info = self.conversation.model().info();
            let mut result = json!({
                "model": info.name,
                "family": info.family,
                "text": generation.text,
                "ids": generation.ids,
                "stop_reason": generation.reason.name(),
                "timing": timing.json(),
            });
            if let Some(whole) = whole {
                result["complete"] = whole.into();
            }
            ctx.print_json(&result)?;
        }
        if whole == Some(false) {
            ctx.note("warning: the answer is not complete: it does not have the form that was asked for");
        }
        match generation.reason {
            StopReason::MaxTokens => ctx.note("(the answer was cut: --max-tokens)"),
            StopReason::MaxSeq => ctx.note("(the answer was cut: the sequence is full; --max-seq, or /reset)"),
            StopReason::Stop | StopReason::Cancelled => {}
        }
        if self.report.timing {
            ctx.note(timing.text().trim_end());
        }
        self.report.plan.note_profile(ctx, "the turn", &self.conversation.profile());
        Ok(generation.reason)
    }
}
