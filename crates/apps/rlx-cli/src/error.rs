//! From an error to text and exit code.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Error;
use rlx_core::fetch::FetchError;
use rlx_weights::WeightsError;

use crate::context::Context;

/// Wrong usage that clap cannot see: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The user pressed Ctrl-C before there was an answer: exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub struct Interrupted;

const INTERRUPTED: u8 = 130;

/// Reports `error` in the way of `context` and gives the program's exit code.
pub(crate) fn report(error: &Error, context: &Context<'_>) -> ExitCode {
    if let Some(error) = error.downcast_ref::<clap::Error>() {
        return report_clap(error, context);
    }
    // Whoever read our output has enough.
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    let message = one_line(error);
    let fetch = error.chain().find_map(|cause| cause.downcast_ref::<FetchError>());
    let help = fetch.and_then(FetchError::manual_steps);
    if context.mode().json {
        print_json(&message, help);
    } else {
        let mut text = format!("error: {message}\n");
        if let Some(help) = help {
            text.push_str(&format!("help: {help}\n"));
        }
        // Nobody is left to be told if stderr is closed.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    let stopped = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Interrupted>() || matches!(cause.downcast_ref(), Some(WeightsError::Interrupted { .. }))
    };
    if matches!(fetch, Some(FetchError::Interrupted)) || error.chain().any(stopped) {
        return ExitCode::from(INTERRUPTED);
    }
    let usage = error.chain().any(|cause| cause.is::<UsageError>());
    ExitCode::from(if usage { 2 } else { 1 })
}

fn report_clap(error: &clap::Error, context: &Context<'_>) -> ExitCode {
    if error.use_stderr() && context.mode().json {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        print_json(line.strip_prefix("error: ").unwrap_or(line), None);
    } else {
        let _ = error.print();
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn print_json(message: &str, help: Option<&str>) {
    let mut value = serde_json::json!({ "error": message });
    if let Some(help) = help {
        value["help"] = help.into();
    }
    let _ = writeln!(std::io::stdout(), "{value}");
}

/// An error and its causes, joined by `: `. A cause that its effect quotes already is not said twice.
fn one_line(error: &Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let next = cause.to_string();
        if text.is_empty() {
            text = next;
        } else if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_are_joined_once() {
        let error = Err::<(), _>(anyhow::anyhow!("not found\nreally")).context("a: not found\nreally").unwrap_err();
        assert_eq!(one_line(&error), "a: not found really");
        let error = Err::<(), _>(anyhow::anyhow!("b")).context("a").unwrap_err();
        assert_eq!(one_line(&error), "a: b");
    }
}
