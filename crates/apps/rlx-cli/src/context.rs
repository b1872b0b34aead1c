//! What a runner is given besides its arguments.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::iter::once;

use clap::Parser;
use serde::Serialize;

use crate::app::Registry;
use crate::env::Env;
use crate::interrupt::Interrupt;

/// How to talk.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputMode {
    /// `--json`: one JSON value on stdout, nothing else there.
    pub json: bool,
    /// `--quiet`: no progress and no notes on stderr.
    pub quiet: bool,
    /// Whether stdout is a terminal that may be coloured.
    pub color: bool,
}

/// A runner's surroundings.
#[derive(Debug)]
pub struct Context<'a> {
    program: String,
    runner: &'static str,
    registry: &'a Registry,
    env: Env,
    mode: OutputMode,
}

impl<'a> Context<'a> {
    pub(crate) fn new(program: String, registry: &'a Registry, env: Env, args: &[OsString]) -> Self {
        // Looked for by hand, since the choice must be known even when the arguments cannot be parsed.
        let given = |flag: &str| args.iter().take_while(|arg| *arg != "--").any(|arg| arg == flag);
        let json = given("--json");
        let color = !json && !env.no_color && std::io::stdout().is_terminal();
        Context {
            program,
            runner: "",
            registry,
            mode: OutputMode { json, quiet: json || given("--quiet"), color },
            env,
        }
    }

    pub(crate) fn for_runner(mut self, program: String, runner: &'static str) -> Self {
        self.program = program;
        self.runner = runner;
        self
    }

    /// The command as the user wrote it: `rlx-run inspect`.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The runner's own name, whatever alias it was called by: one function may serve several.
    pub fn runner(&self) -> &'static str {
        self.runner
    }

    /// All runners and families.
    pub fn registry(&self) -> &'a Registry {
        self.registry
    }

    /// What was read from the environment.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// How to talk.
    pub fn mode(&self) -> OutputMode {
        self.mode
    }

    /// Parses a runner's arguments.
    ///
    /// # Errors
    /// Wrong usage, or a request for help. Pass the error on: it becomes the right text and exit code.
    pub fn parse<T: Parser>(&self, args: Vec<OsString>) -> anyhow::Result<T> {
        let command = T::command().bin_name(&self.program).color(self.clap_color());
        let matches = command.try_get_matches_from(once(OsString::from(&self.program)).chain(args))?;
        Ok(T::from_arg_matches(&matches)?)
    }

    pub(crate) fn clap_color(&self) -> clap::ColorChoice {
        if self.env.no_color { clap::ColorChoice::Never } else { clap::ColorChoice::Auto }
    }

    /// Writes an answer to stdout and flushes it.
    ///
    /// # Errors
    /// When stdout cannot be written. Pass it on: a reader that went away ends the program quietly.
    pub fn print(&self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Writes an answer as JSON.
    ///
    /// # Errors
    /// As [`Context::print`].
    pub fn print_json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.print(&format!("{}\n", serde_json::to_string_pretty(value)?))
    }

    /// Tells something on stderr that is not the answer; silent with `--quiet` or `--json`.
    pub fn note(&self, text: &str) {
        if !self.mode.quiet {
            // Nobody is left to be told if stderr is closed.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// `text` in bold on a terminal.
    pub fn bold(&self, text: &str) -> String {
        if self.mode.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The handler of Ctrl-C, installed at the first call: one press asks to stop, a second ends the program.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn interrupt(&self) -> anyhow::Result<Interrupt> {
        Interrupt::listen()
    }
}
