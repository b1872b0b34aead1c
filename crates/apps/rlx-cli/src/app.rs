//! The registry of runners, and the way from a program's arguments to one of them.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, ArgAction, Command};
use rlx_core::{Families, Family};

use crate::context::Context;
use crate::env::Env;
use crate::error::report;

/// What a runner is: it gets the arguments after its own name.
pub type RunFn = fn(Vec<OsString>, &Context<'_>) -> anyhow::Result<ExitCode>;

/// A subcommand.
#[derive(Debug, Clone, Copy)]
pub struct Runner {
    /// Name of the subcommand.
    pub name: &'static str,
    /// Other names it answers to.
    pub aliases: &'static [&'static str],
    /// One line for the list of commands.
    pub about: &'static str,
    /// Does the work.
    pub run: RunFn,
}

impl Runner {
    /// A runner without aliases.
    pub const fn new(name: &'static str, about: &'static str, run: RunFn) -> Self {
        Runner { name, aliases: &[], about, run }
    }

    /// The same runner with other names.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// The runners and the model families that a program offers.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    runners: Vec<Runner>,
    families: Families,
}

impl Registry {
    /// Nothing registered.
    pub fn new() -> Self {
        Registry::default()
    }

    /// Adds a runner; one of the same name is replaced in its place.
    pub fn register(&mut self, runner: Runner) -> &mut Self {
        match self.runners.iter_mut().find(|known| known.name == runner.name) {
            Some(known) => *known = runner,
            None => self.runners.push(runner),
        }
        self
    }

    /// Adds a family of language models, so that `inspect`, `check`, `auto` and the like know it, and a runner of its name.
    pub fn register_family(&mut self, family: Family) -> &mut Self {
        self.register_network(family, Runner::new(family.name, family.about, crate::run::family))
    }

    /// Adds a family that has no runner of its name, since other commands run it: `inspect`, `check`, `parity` and the like know it.
    pub fn register_known(&mut self, family: Family) -> &mut Self {
        self.families.register(family);
        self
    }

    /// Adds a family of models of another kind with the runner that it brings, so that `inspect`, `check`, `parity` and the like
    /// know it.
    pub fn register_network(&mut self, family: Family, runner: Runner) -> &mut Self {
        self.families.register(family);
        self.register(runner)
    }

    /// All runners in the order of registration.
    pub fn runners(&self) -> &[Runner] {
        &self.runners
    }

    /// The runner that answers to `name`.
    pub fn runner(&self, name: &str) -> Option<&Runner> {
        self.runners.iter().find(|runner| runner.answers_to(name))
    }

    /// The model families.
    pub fn families(&self) -> &Families {
        &self.families
    }
}

/// Runs the subcommand that `args` name. `args` begin with the program's name, as in [`std::env::args_os`].
pub fn dispatch<I, S>(registry: &Registry, args: I) -> ExitCode
where
    I: IntoIterator<Item = S>,
    S: Into<OsString>,
{
    let mut args = args.into_iter().map(Into::into);
    let program = args.next().map_or_else(|| "rlx-run".to_owned(), program_name);
    let mut args: Vec<OsString> = args.collect();
    // `help NAME` is `NAME --help`.
    if args.len() == 2 && args[0] == "help" && args[1].to_str().is_some_and(|name| registry.runner(name).is_some()) {
        args = vec![args.remove(1), "--help".into()];
    }
    let context = Context::new(program.clone(), registry, Env::read(), &args);
    let matches = match overview(&program, registry, &context)
        .try_get_matches_from(std::iter::once(OsString::from(&program)).chain(args))
    {
        Ok(matches) => matches,
        Err(error) => return report(&error.into(), &context),
    };
    let Some((name, rest)) = matches.subcommand() else { return ExitCode::from(2) };
    let Some(runner) = registry.runner(name) else { return ExitCode::from(2) };
    let args = rest.get_many::<OsString>("args").into_iter().flatten().cloned().collect();
    start(runner, format!("{program} {name}"), args, context)
}

/// Runs one runner as a program of its own: `args` begin with the program's name, options follow at once.
pub fn run_single<I, S>(registry: &Registry, name: &str, args: I) -> ExitCode
where
    I: IntoIterator<Item = S>,
    S: Into<OsString>,
{
    let mut args = args.into_iter().map(Into::into);
    let program = args.next().map_or_else(|| format!("rlx-{name}"), program_name);
    let args: Vec<OsString> = args.collect();
    let context = Context::new(program.clone(), registry, Env::read(), &args);
    match registry.runner(name) {
        Some(runner) => start(runner, program, args, context),
        None => report(&anyhow::anyhow!("no runner is registered as `{name}`"), &context),
    }
}

fn start(runner: &Runner, program: String, args: Vec<OsString>, context: Context<'_>) -> ExitCode {
    let context = context.for_runner(program, runner.name);
    match (runner.run)(args, &context) {
        Ok(code) => code,
        Err(error) => report(&error, &context),
    }
}

fn program_name(path: OsString) -> String {
    let path = std::path::PathBuf::from(path);
    path.file_stem().map_or_else(|| "rlx-run".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The command whose help lists the runners. Each runner parses its own arguments.
fn overview(program: &str, registry: &Registry, context: &Context<'_>) -> Command {
    let mut command = Command::new("rlx-run")
        .bin_name(program)
        .about("Run open-weight models from their published checkpoints")
        .version(env!("CARGO_PKG_VERSION"))
        .color(context.clap_color())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(format!("`{program} COMMAND --help` shows the options of a command and examples."));
    for runner in registry.runners() {
        let rest = Arg::new("args")
            .action(ArgAction::Append)
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true)
            .value_parser(clap::value_parser!(OsString));
        command = command.subcommand(
            Command::new(runner.name)
                .visible_aliases(runner.aliases.iter().copied())
                .about(runner.about)
                .disable_help_flag(true)
                .arg(rest),
        );
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seven(args: Vec<OsString>, _: &Context<'_>) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::from(7 + args.len() as u8))
    }

    fn fails(_: Vec<OsString>, _: &Context<'_>) -> anyhow::Result<ExitCode> {
        anyhow::bail!("no")
    }

    #[test]
    fn arguments_reach_the_runner_untouched() {
        let mut registry = Registry::new();
        registry.register(Runner::new("seven", "s", seven).aliases(&["7"]));
        registry.register(Runner::new("fails", "f", fails));
        assert_eq!(dispatch(&registry, ["x", "seven"]), ExitCode::from(7));
        assert_eq!(dispatch(&registry, ["x", "7", "--help", "-x", "--", "y"]), ExitCode::from(11));
        assert_eq!(dispatch(&registry, ["x", "fails"]), ExitCode::from(1));
        assert_eq!(dispatch(&registry, ["x", "sevn"]), ExitCode::from(2));
        assert_eq!(run_single(&registry, "seven", ["rlx-seven", "-a"]), ExitCode::from(8));
        registry.register(Runner::new("seven", "s", fails));
        assert_eq!(dispatch(&registry, ["x", "seven"]), ExitCode::from(1));
    }
}
