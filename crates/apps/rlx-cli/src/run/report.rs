//! What `--timing`, `--profile` and `--explain` tell.

use std::time::Duration;

use rlx_core::{DraftStats, Generation};
use rlx_ir::{Op, batch};
use rlx_runtime::{Executable, StepProfile};
use serde_json::{Value, json};

use super::peak_rss_bytes;
use crate::text::{bytes, columns};

/// Steps shown by [`profile_table`] one by one.
const TOP_STEPS: usize = 10;
/// Length of prompt that a language model's plan is shown for where there is no prompt.
pub const EXPLAINED_PROMPT: usize = 512;

/// Times of a run.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Time to load the model.
    pub load: Duration,
    /// Tokens of the prompt that were run.
    pub prompt_tokens: usize,
    /// Time to run them.
    pub prompt: Duration,
    /// From the start of the prompt to the first token; none if there was no token.
    pub first_token: Option<Duration>,
    /// Tokens that came.
    pub tokens: usize,
    /// Time from the end of the prompt to the last token.
    pub decode: Duration,
    /// What became of drafted tokens, where some were to be drafted.
    pub drafts: Option<DraftStats>,
}

impl Timing {
    /// Of one answer, with or without drafts.
    pub fn new(load: Duration, generation: &Generation, first_token: Option<Duration>, drafts: bool) -> Timing {
        Timing {
            load,
            prompt_tokens: generation.prompt_tokens,
            prompt: generation.prompt_time,
            first_token,
            tokens: generation.ids.len(),
            decode: generation.decode_time,
            drafts: drafts.then_some(generation.drafts),
        }
    }

    /// Prompt tokens per second.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt)
    }

    /// Tokens per second after the first, which the prompt's run gives.
    pub fn decode_rate(&self) -> f64 {
        rate(self.tokens.saturating_sub(1), self.decode)
    }

    /// For people.
    pub fn text(&self) -> String {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let mut rows = vec![
            vec!["load".to_owned(), ms(self.load)],
            vec![
                "prompt".to_owned(),
                format!("{} tokens, {}, {:.1} tokens/s", self.prompt_tokens, ms(self.prompt), self.prompt_rate()),
            ],
        ];
        if let Some(time) = self.first_token {
            rows.push(vec!["time to first token".to_owned(), ms(time)]);
        }
        rows.push(vec![
            "decode".to_owned(),
            format!("{} tokens, {}, {:.1} tokens/s", self.tokens, ms(self.decode), self.decode_rate()),
        ]);
        if let Some(drafts) = self.drafts {
            let made = format!(
                "{} tokens in {} of {} steps, {}",
                drafts.drafted,
                drafts.verify_steps,
                drafts.steps(),
                ms(drafts.draft_time)
            );
            let accepted = match (drafts.acceptance(), drafts.tokens_per_verify_step()) {
                (Some(share), Some(tokens)) => {
                    format!("; {:.1} % accepted, {tokens:.2} tokens per verify step", 100.0 * share)
                }
                _ => String::new(),
            };
            rows.push(vec!["drafts".to_owned(), made + &accepted]);
        }
        if let Some(peak) = peak_rss_bytes() {
            rows.push(vec!["peak memory".to_owned(), bytes(peak)]);
        }
        columns(&rows, 0)
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "load_ms": millis(self.load),
            "prompt_tokens": self.prompt_tokens,
            "prompt_ms": millis(self.prompt),
            "prompt_tokens_per_second": self.prompt_rate(),
            "ttft_ms": self.first_token.map(millis),
            "generated_tokens": self.tokens,
            "decode_ms": millis(self.decode),
            "decode_tokens_per_second": self.decode_rate(),
            "drafts": self.drafts.map(|drafts| json!({
                "drafted_tokens": drafts.drafted,
                "accepted_tokens": drafts.accepted,
                "acceptance_rate": drafts.acceptance(),
                "verify_steps": drafts.verify_steps,
                "plain_steps": drafts.plain_steps,
                "tokens_per_verify_step": drafts.tokens_per_verify_step(),
                "draft_ms": millis(drafts.draft_time),
            })),
            "peak_rss_bytes": peak_rss_bytes(),
        })
    }
}

/// Milliseconds, to the microsecond.
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

/// Where the time went: per kind of op, then the steps that took most of it.
pub fn profile_table(title: &str, steps: &[StepProfile]) -> String {
    let total: f64 = steps.iter().map(|step| step.seconds).sum();
    let runs = steps.iter().map(|step| step.runs).max().unwrap_or(0);
    if runs == 0 {
        return format!("profile of {title}: nothing ran\n");
    }
    let mut kinds: Vec<(&str, f64, u64, f64)> = Vec::new();
    for step in steps {
        let traffic = step.weight_bytes as f64 * step.runs as f64;
        match kinds.iter_mut().find(|kind| kind.0 == step.op) {
            Some(kind) => {
                kind.1 += step.seconds;
                kind.2 += step.runs;
                kind.3 += traffic;
            }
            None => kinds.push((step.op, step.seconds, step.runs, traffic)),
        }
    }
    kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
    let header = |first: &str| [first, "ms per run", "share", "steps", "weights GB/s"].map(str::to_owned).to_vec();
    let per_run = |seconds: f64| format!("{:.3}", seconds / runs as f64 * 1e3);
    let share = |seconds: f64| format!("{:.1} %", 100.0 * seconds / total.max(f64::MIN_POSITIVE));
    let speed = |traffic: f64, seconds: f64| match traffic > 0.0 && seconds > 0.0 {
        true => format!("{:.1}", traffic / seconds / 1e9),
        false => String::new(),
    };
    let mut rows = vec![header("op")];
    for (op, seconds, count, traffic) in kinds {
        rows.push(vec![
            op.to_owned(),
            per_run(seconds),
            share(seconds),
            (count / runs).to_string(),
            speed(traffic, seconds),
        ]);
    }
    let mut text =
        format!("profile of {title}: {runs} runs, {} ms each, {:.1} ms in all\n", per_run(total), total * 1e3);
    text.push_str(&columns(&rows, 2));
    let mut top: Vec<&StepProfile> = steps.iter().collect();
    top.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let mut rows = vec![header("step")];
    for step in top.into_iter().take(TOP_STEPS) {
        rows.push(vec![
            format!("{} {}", step.op, step.label),
            per_run(step.seconds),
            share(step.seconds),
            "1".to_owned(),
            speed(step.weight_bytes as f64 * step.runs as f64, step.seconds),
        ]);
    }
    text.push_str(&columns(&rows, 2));
    text
}

/// The profile of what ran after `before` was taken.
pub fn profile_since(before: &[StepProfile], after: Vec<StepProfile>) -> Vec<StepProfile> {
    let mut rest = before;
    let mut out = Vec::new();
    for mut step in after {
        // Both list steps in the plan's order, and a step that has run stays in the list.
        if let Some((first, others)) = rest.split_first()
            && (first.op, &first.label, &first.detail) == (step.op, &step.label, &step.detail)
        {
            step.runs = step.runs.saturating_sub(first.runs);
            step.seconds -= first.seconds;
            rest = others;
        }
        if step.runs > 0 {
            out.push(step);
        }
    }
    out
}

/// The plan of a compiled network for these values of its symbols, by name; those that are not named are 1.
///
/// # Errors
/// Those of the device.
pub fn explain(title: &str, executable: &dyn Executable, symbols: &[(&str, usize)]) -> anyhow::Result<String> {
    Ok(titled(title, &rlx_core::explain(executable, symbols)?))
}

/// The plans of a language model for a prompt of `prompt_tokens` and for one token.
///
/// # Errors
/// Those of the device.
pub fn explain_lm(executable: &dyn Executable, prompt_tokens: usize) -> anyhow::Result<String> {
    let prefill = format!("prefill of {prompt_tokens} tokens");
    let prefill = explain(&prefill, executable, &[(batch::TOKEN_COUNT, prompt_tokens)])?;
    let regions = executable.graph().nodes().iter().filter(|node| node.op != Op::Input).count();
    let decode = explain(&format!("decode: {regions} parallel regions per token"), executable, &[])?;
    Ok(format!("{}\n{prefill}{decode}", executable.describe()))
}

/// A plan below what it is the plan of.
pub(crate) fn titled(title: &str, plan: &str) -> String {
    format!("{title}\n{plan}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(op: &'static str, label: &str, runs: u64, seconds: f64) -> StepProfile {
        StepProfile { op, label: label.into(), detail: String::new(), runs, seconds, weight_bytes: 1_000_000 }
    }

    #[test]
    fn profiles_are_summed_per_op() {
        let steps = [step("linear", "a", 10, 0.03), step("attention", "b", 10, 0.01), step("linear", "c", 10, 0.01)];
        let text = profile_table("decode", &steps);
        assert!(text.starts_with("profile of decode: 10 runs, 5.000 ms each, 50.0 ms in all\n"), "{text}");
        let linear = text.lines().find(|line| line.trim_start().starts_with("linear ")).unwrap();
        let cells: Vec<&str> = linear.split_whitespace().collect();
        assert_eq!(cells, ["linear", "4.000", "80.0", "%", "2", "0.5"]);
        assert!(profile_table("x", &[]).contains("nothing ran"));
    }

    #[test]
    fn the_prompts_part_is_taken_off() {
        let before = [step("linear", "a", 1, 0.5), step("linear", "b", 1, 0.5)];
        let after = vec![step("linear", "a", 3, 0.75), step("linear", "b", 1, 0.5)];
        assert_eq!(profile_since(&before, after), [step("linear", "a", 2, 0.25)]);
    }

    #[test]
    fn rates_of_nothing_are_zero() {
        let timing = Timing {
            load: Duration::from_millis(1500),
            prompt_tokens: 4,
            prompt: Duration::from_millis(2),
            first_token: None,
            tokens: 0,
            decode: Duration::ZERO,
            drafts: Some(DraftStats {
                verify_steps: 4,
                plain_steps: 1,
                drafted: 8,
                accepted: 6,
                ..DraftStats::default()
            }),
        };
        assert_eq!((timing.prompt_rate(), timing.decode_rate()), (2000.0, 0.0));
        assert_eq!(timing.json()["load_ms"], 1500.0);
        assert!(timing.json()["ttft_ms"].is_null());
        assert!(timing.text().contains("4 tokens, 2.0 ms, 2000.0 tokens/s"));
        let drafts = "8 tokens in 4 of 5 steps, 0.0 ms; 75.0 % accepted, 2.50 tokens per verify step";
        assert!(timing.text().contains(drafts), "{}", timing.text());
        assert_eq!(timing.json()["drafts"]["acceptance_rate"], 0.75);
    }
}
