//! `generate`, `auto`, and the command of each family: a prompt in, its continuation out.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rlx_core::fetch::ModelSource;
use rlx_core::{Assist, CausalLm, Event, GenerateOptions, Generation, StopReason};
use rlx_runtime::{Session, StepProfile};
use rlx_text::Message;
use serde_json::{Value, json};

use super::args::{KvArgs, ReportArgs, load_options, merge_path};
use super::report::{EXPLAINED_PROMPT, Timing, explain_lm, profile_since};
use super::{Constraint, ConstraintArgs, Draft, DraftArgs, Loaded, load_with_profile};
use crate::UsageError;
use crate::args::{FetchArgs, ModelArgs, OutputArgs, Prompt, PromptArgs, QuantArgs, SamplingArgs};
use crate::context::Context;
use crate::interrupt::Interrupt;
use crate::progress::PromptProgress;

/// Longest answer where nothing is said.
const DEFAULT_MAX_TOKENS: usize = 32;
/// How many next tokens `--max-tokens 0` shows.
const TOP_TOKENS: usize = 5;

/// Continue a prompt. A plain --prompt is completed as raw text; with --chat or --system it is answered by way of the
/// model's chat template. Without --weights the default model is fetched once and used.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  rlx-run generate --prompt 'The capital of France is'
  rlx-run generate --weights model.gguf --prompt 'Once upon a time' --max-tokens 200 --temperature 0.8 --seed 1
  rlx-run auto models/SmolLM2 --system 'Answer in one word.' --prompt 'What is the capital of France?'
  rlx-run llama32 --weights model.gguf --prompt-ids '1,2,3;4,5' --json
  rlx-run generate --weights model.gguf --prompt-file story.txt --timing --profile
  rlx-run generate --weights large.gguf --draft small.gguf --prompt-file story.txt --timing
  rlx-run generate --weights model.gguf --draft ngram --chat --prompt 'Correct the spelling: ...'
  rlx-run generate --weights model.gguf --json-schema person.json --chat --prompt 'Who wrote Faust?' -n 200
  rlx-run generate --weights model.gguf --explain")]
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
    #[command(flatten)]
    prompt: PromptArgs,
    /// Answer the prompt as an assistant, by way of the chat template
    #[arg(long, help_heading = "Prompt", conflicts_with = "raw_prompt")]
    chat: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    draft: DraftArgs,
    /// Draft with the file's own multi-token-prediction heads, if it has any that can be run
    #[arg(long, help_heading = "Speculative decoding", conflicts_with = "draft")]
    use_mtp: bool,
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

/// One row's result.
struct Answer {
    generation: Generation,
    timing: Timing,
    prefill: Vec<StepProfile>,
    decode: Vec<StepProfile>,
    /// Whether the answer is of the form that was asked for, if one was.
    whole: Option<bool>,
}

/// What takes part in every answer.
struct Helpers {
    draft: Option<Draft>,
    constraint: Option<Constraint>,
}

/// Whatever family the weights are of.
pub(super) fn any(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    run(args, None, ctx)
}

/// A family's own command: the family has the runner's name, and weights of another one are refused.
///
/// # Errors
/// Wrong usage, or whatever keeps the model from running.
pub fn family(args: Vec<OsString>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    run(args, Some(ctx.runner()), ctx)
}

fn run(args: Vec<OsString>, family: Option<&str>, ctx: &Context<'_>) -> anyhow::Result<ExitCode> {
    let mut args: Args = ctx.parse(args)?;
    merge_path(&mut args.model, args.path.take())?;
    let prompt = args.prompt.read()?;
    if prompt.is_none() && !args.report.plan.explain {
        let text = "a prompt is needed: --prompt, --prompt-ids, --prompt-file or --messages-json";
        return Err(UsageError(text.to_owned()).into());
    }
    let options = load_options(&args.model, &args.quant, args.prompt.chat_template.clone());
    let fetch = args.fetch.options(ctx)?;
    let default = default_source(family);
    let loaded = load_with_profile(&args.model, &args.quant, &fetch, default, family, &options, ctx)?;
    loaded.note_mtp(args.use_mtp, ctx);
    let plan = |tokens| Ok(format!("{}{}", loaded.profile, explain_lm(loaded.model.executable().as_ref(), tokens)?));
    let Some(prompt) = prompt else { return args.report.plan.answer_plan(ctx, || plan(EXPLAINED_PROMPT)) };
    let rows = encode(&loaded.model, prompt, &args)?;
    args.report.plan.note_plan(ctx, || plan(rows.iter().map(Vec::len).max().unwrap_or(1)))?;
    let max_tokens = args.sampling.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let needed = rows.iter().map(|row| row.len().saturating_add(max_tokens)).max().unwrap_or(0);
    let session_options = loaded.session_options(args.model.max_seq, needed, args.kv.kv_type, ctx);
    let mut helpers = Helpers {
        draft: args.draft.load(&args.model, &fetch, &loaded.model, session_options.clone(), ctx)?,
        constraint: args.constraint.load_noting(&loaded.model, &args.sampling, ctx)?,
    };
    let mut session = loaded.model.session(session_options)?;
    session.set_profiling(args.report.plan.profile);
    if max_tokens == 0 {
        return top_tokens(&loaded, &mut session, &rows, &args, ctx);
    }
    let generate = GenerateOptions {
        max_tokens,
        sampler: args.sampling.options(),
        stop: args.sampling.stop.clone(),
        ignore_eos: args.sampling.ignore_eos,
    };
    let mut answers = Vec::new();
    let interrupt = ctx.interrupt().ok();
    // Several prompts run together, unless something is to be told of each.
    if rows.len() > 1 && helpers.draft.is_none() && helpers.constraint.is_none() && !args.report.plan.profile {
        answers = batch(&loaded, &mut session, &rows, &generate, interrupt, ctx)?;
        answers.iter().for_each(|answer| report(answer, args.report, ctx));
    }
    let left = if answers.is_empty() { &rows[..] } else { &[] };
    for row in left {
        let answer = answer(&loaded, &mut session, row, &generate, &mut helpers, !args.no_stream, interrupt, ctx)?;
        let cancelled = answer.generation.reason == StopReason::Cancelled;
        report(&answer, args.report, ctx);
        answers.push(answer);
        if cancelled {
            break;
        }
    }
    let cancelled = answers.iter().any(|answer| answer.generation.reason == StopReason::Cancelled);
    if args.output.json {
        ctx.print_json(&result_json(&loaded, &answers))?;
    }
    Ok(if cancelled { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// The default model, for commands that can run it.
fn default_source(family: Option<&str>) -> Option<&'static ModelSource> {
    // The default model is a Llama; another family's command has to be told its weights.
    family.is_none_or(|name| name == "llama32").then(ModelSource::default_lm)
}

fn encode(model: &CausalLm, prompt: Prompt, args: &Args) -> anyhow::Result<Vec<Vec<u32>>> {
    let system = args.prompt.system.as_ref().map(|text| Message::new("system", text.as_str()));
    if system.is_some() && args.prompt.raw_prompt {
        return Err(UsageError("--system needs the chat template, which --raw-prompt leaves out".to_owned()).into());
    }
    Ok(match prompt {
        Prompt::Ids(rows) => rows,
        Prompt::Text(text) if args.chat || system.is_some() => {
            let messages: Vec<Message> = system.into_iter().chain([Message::new("user", text)]).collect();
            vec![model.encode_chat(&messages, None)?]
        }
        Prompt::Text(text) => vec![model.encode(&text)?],
        Prompt::Messages(messages) => {
            let messages: Vec<Message> = system.into_iter().chain(messages).collect();
            vec![model.encode_chat(&messages, None)?]
        }
    })
}

/// Runs one row and prints its answer.
fn answer(
    loaded: &Loaded,
    session: &mut Session,
    prompt: &[u32],
    options: &GenerateOptions,
    helpers: &mut Helpers,
    stream: bool,
    interrupt: Option<Interrupt>,
    ctx: &Context<'_>,
) -> anyhow::Result<Answer> {
    let model = &loaded.model;
    // Without a tokenizer there is no text: ids are printed instead.
    let as_ids = model.tokenizer().is_err();
    let show = !ctx.mode().json;
    let mut progress = PromptProgress::new(ctx);
    let mut failed = None;
    let mut first_token = None;
    let mut count = 0;
    let start = Instant::now();
    let sequence = session.add_sequence();
    let before = session.profile();
    let mut on_event = |event: Event<'_>| {
        match event {
            Event::Prompt { done, total } => progress.advance(done, total),
            Event::Token { id, text } => {
                first_token.get_or_insert_with(|| start.elapsed());
                progress.finish();
                let piece = match as_ids {
                    true if count == 0 => id.to_string(),
                    true => format!(",{id}"),
                    false => text.to_owned(),
                };
                count += 1;
                if stream && show && !piece.is_empty() {
                    failed = ctx.print(&piece).err();
                }
            }
        }
        let stop = failed.is_some() || interrupt.is_some_and(Interrupt::is_set);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut form = helpers.constraint.as_ref().map(Constraint::start);
    let drafts = helpers.draft.is_some();
    let assist = Assist {
        processor: form.as_mut().map(|form| form.as_mut() as _),
        drafter: helpers.draft.as_mut().map(|draft| (draft.drafter.as_mut() as _, draft.tokens)),
    };
    let result = model.generate_with(session, sequence, prompt, options, assist, &mut on_event);
    progress.finish();
    if let Some(error) = failed {
        return Err(error);
    }
    let generation = result?;
    let prefill = profile_since(&before, generation.prompt_profile.clone());
    let decode = profile_since(&generation.prompt_profile, session.profile());
    session.remove(sequence)?;
    if show {
        let text = match (stream, as_ids) {
            (true, _) => String::new(),
            (false, true) => generation.ids.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
            (false, false) => generation.text.clone(),
        };
        let ends = generation.text.ends_with('\n');
        ctx.print(&if ends { text } else { format!("{text}\n") })?;
    }
    let timing = Timing::new(loaded.load_time, &generation, first_token, drafts);
    let whole = form.map(|mut form| form.is_whole());
    if whole == Some(false) {
        ctx.note(&format!("warning: the answer is not complete: stopped by {}", generation.reason.name()));
    }
    Ok(Answer { generation, timing, prefill, decode, whole })
}

/// Runs several rows at once and prints their answers in order.
fn batch(
    loaded: &Loaded,
    session: &mut Session,
    rows: &[Vec<u32>],
    options: &GenerateOptions,
    interrupt: Option<Interrupt>,
    ctx: &Context<'_>,
) -> anyhow::Result<Vec<Answer>> {
    let mut progress = PromptProgress::new(ctx);
    let mut first_tokens = vec![None; rows.len()];
    let (total, mut before) = (rows.iter().map(Vec::len).sum(), 0);
    let start = Instant::now();
    let result = loaded.model.generate_batch(session, rows, options, &mut |row, event| {
        match event {
            Event::Prompt { done, total: len } => {
                progress.advance(before + done, total);
                before += if done == len { len } else { 0 };
            }
            Event::Token { .. } => {
                first_tokens[row].get_or_insert_with(|| start.elapsed());
            }
        }
        if interrupt.is_some_and(Interrupt::is_set) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.finish();
    let mut answers = Vec::new();
    for (generation, first_token) in result?.into_iter().zip(first_tokens) {
        if !ctx.mode().json {
            let ids = || generation.ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let text = if loaded.model.tokenizer().is_ok() { generation.text.clone() } else { ids() };
            ctx.print(&if text.ends_with('\n') { text } else { format!("{text}\n") })?;
        }
        let timing = Timing::new(loaded.load_time, &generation, first_token, false);
        answers.push(Answer { generation, timing, prefill: vec![], decode: vec![], whole: None });
    }
    Ok(answers)
}

fn report(answer: &Answer, what: ReportArgs, ctx: &Context<'_>) {
    if what.timing {
        ctx.note(answer.timing.text().trim_end());
    }
    let title = format!("prefill of {} tokens", answer.generation.prompt_tokens);
    what.plan.note_profile(ctx, &title, &answer.prefill);
    what.plan.note_profile(ctx, "decode", &answer.decode);
}

fn result_json(loaded: &Loaded, answers: &[Answer]) -> Value {
    let info = loaded.model.info();
    let results: Vec<Value> = answers
        .iter()
        .map(|answer| {
            let mut result = json!({
                "text": answer.generation.text,
                "ids": answer.generation.ids,
                "stop_reason": answer.generation.reason.name(),
                "timing": answer.timing.json(),
            });
            if let Some(whole) = answer.whole {
                result["complete"] = whole.into();
            }
            result
        })
        .collect();
    json!({ "model": info.name, "family": info.family, "results": results })
}

/// `--max-tokens 0`: the most probable next tokens of each row.
fn top_tokens(
    loaded: &Loaded,
    session: &mut Session,
    rows: &[Vec<u32>],
    args: &Args,
    ctx: &Context<'_>,
) -> anyhow::Result<ExitCode> {
    let tokenizer = loaded.model.tokenizer().ok();
    let mut results = Vec::new();
    for row in rows {
        let start = Instant::now();
        let logits = loaded.model.predict_logits(session, row)?;
        let prompt = start.elapsed();
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        let text_of = |id: u32| tokenizer.map(|t| String::from_utf8_lossy(&t.token_bytes(id)).into_owned());
        let top: Vec<Value> = order
            .iter()
            .take(TOP_TOKENS)
            .map(|&id| json!({ "id": id, "text": text_of(id), "logit": logits[id as usize] }))
            .collect();
        if !args.output.json {
            let lines: Vec<Vec<String>> = order
                .iter()
                .take(TOP_TOKENS)
                .map(|&id| {
                    let text = text_of(id).map_or(String::new(), |text| format!("{text:?}"));
                    vec![id.to_string(), format!("{:.4}", logits[id as usize]), text]
                })
                .collect();
            ctx.print(&crate::text::columns(&lines, 0))?;
        }
        let timing = Timing {
            load: loaded.load_time,
            prompt_tokens: row.len(),
            prompt,
            first_token: None,
            tokens: 0,
            decode: Duration::ZERO,
            drafts: None,
        };
        if args.report.timing {
            ctx.note(timing.text().trim_end());
        }
        results.push(json!({ "top": top, "timing": timing.json() }));
    }
    args.report.plan.note_profile(ctx, "prefill", &session.profile());
    if args.output.json {
        let info = loaded.model.info();
        ctx.print_json(&json!({ "model": info.name, "family": info.family, "results": results }))?;
    }
    Ok(ExitCode::SUCCESS)
}
