//! Project chores, run as `cargo xtask COMMAND`.

// Doc comments of command-line arguments are help texts as they stand, not Markdown.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::bare_urls, rustdoc::invalid_html_tags)]

mod bench_report;
mod docs;
mod layers;
mod mask;
mod new_model;
mod real_weights;
mod sources;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  layers                 check the floors: crate dependencies and the rules for sources
  real-weights [NAME]..  fetch published checkpoints, then run the tests that need them
  docs [--check]         write the generated parts of the documents, or check that they are up to date
  new-model NAME         make the skeleton of a model family crate, e.g. `cargo xtask new-model qwen3`
  bench-report [--help]  measure, and write the tables and the picture of docs/performance.md
  ci                     everything that CI runs (.ci/run)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["layers"] => layers::run(),
        ["real-weights", names @ ..] => real_weights::run(names),
        ["docs"] => docs::run(false),
        ["docs", "--check"] => docs::run(true),
        ["new-model", name] => new_model::run(name),
        ["bench-report", args @ ..] => bench_report::run(args),
        ["ci"] => run_ci(),
        ["--help" | "-h" | "help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_ci() -> Result<()> {
    checked(Command::new("bash").arg(root().join(".ci/run")).current_dir(root()))
}

/// The workspace's root directory.
fn root() -> PathBuf {
    // `cargo run` tells where it runs: one target directory may serve several clones.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = PathBuf::from(here);
    here.parent().map_or_else(|| here.clone(), Path::to_owned)
}

/// `cargo`, in the workspace's root.
fn cargo() -> Command {
    // Cargo tells its children which cargo it is.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end; an exit code other than 0 is an error.
fn checked(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// The standard output of a command; an exit code other than 0 is an error that carries its last words.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        bail!("{last}");
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed something that is not UTF-8"))
}
