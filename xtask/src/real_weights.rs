//! Tests on published checkpoints: fetch what can be fetched, then run the ignored tests that use it.
//!
//! Such tests stand in `tests/real_weights.rs` of their crate, are `#[ignore = "..."]`d, and begin their names with the
//! checkpoint's short name in snake case (`smollm2_135m_instruct_answers`). They find the files at
//! `$RLX_REAL_WEIGHTS_DIR/<short name>/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, checked, output};

/// The test target that holds them.
const TARGET: &str = "real_weights";

/// Fetches `names` (all named checkpoints if empty) and runs the tests; those of unfetched checkpoints are left out.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    // Built once, in sight: it takes a while.
    checked(cargo().args(["build", "--release", "--package", "rlx-models", "--bin", "rlx-run"]))?;
    let known = known_names()?;
    if let Some(name) = names.iter().find(|name| !known.iter().any(|k| k == *name)) {
        bail!("no checkpoint is named `{name}`; known: {}", known.join(", "));
    }
    let mut root = None;
    let mut skipped = Vec::new();
    for name in &known {
        if !names.is_empty() && !names.contains(&name.as_str()) {
            skipped.push((name, "not asked for".to_owned()));
            continue;
        }
        match fetch(name) {
            Ok(path) => {
                println!("real-weights: {name}: {}", path.display());
                root = path.parent().and_then(Path::parent).map(Path::to_owned).or(root);
            }
            Err(error) => skipped.push((name, format!("{error:#}"))),
        }
    }
    let packages = packages_with_tests()?;
    match &root {
        Some(root) if !packages.is_empty() => {
            let mut command = cargo();
            command.args(["test", "--release", "--test", TARGET]).env("RLX_REAL_WEIGHTS_DIR", root);
            for package in &packages {
                command.args(["--package", package]);
            }
            command.args(["--", "--ignored", "--nocapture"]);
            for (name, _) in &skipped {
                command.args(["--skip", &name.replace(['-', '.'], "_")]);
            }
            checked(&mut command)?;
        }
        Some(_) => println!("real-weights: no crate has a test target named {TARGET}"),
        None => println!("real-weights: nothing could be fetched, no test was run"),
    }
    for (name, why) in &skipped {
        println!("real-weights: SKIPPED {name}: {why}");
    }
    Ok(())
}

/// What `rlx-run ARGS --json` answers, in release mode.
fn rlx_run(args: &[&str]) -> Result<Value> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "rlx-models", "--bin", "rlx-run", "--"]);
    let output = command.args(args).output().context("cannot start cargo")?;
    // With --json a failure is told on stdout too.
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("rlx-run {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim_end())
    })?;
    match answer["error"].as_str() {
        Some(error) => bail!("{error}"),
        None => Ok(answer),
    }
}

fn known_names() -> Result<Vec<String>> {
    let list = rlx_run(&["fetch", "--list", "--json"])?;
    let names = list.as_array().context("the list is no array")?;
    names.iter().map(|s| Ok(s["name"].as_str().context("a source without a name")?.to_owned())).collect()
}

/// The path of the checkpoint's main file in the cache.
fn fetch(name: &str) -> Result<PathBuf> {
    let answer = rlx_run(&["fetch", name, "--json"])?;
    Ok(PathBuf::from(answer["path"].as_str().context("no path")?))
}

/// Workspace crates that have the test target.
fn packages_with_tests() -> Result<Vec<String>> {
    let text = output(cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata printed no JSON")?;
    let has_target = |package: &&Value| {
        package["targets"].as_array().is_some_and(|targets| targets.iter().any(|t| t["name"] == TARGET))
    };
    let packages = metadata["packages"].as_array().context("no packages")?;
    Ok(packages.iter().filter(has_target).filter_map(|p| p["name"].as_str().map(str::to_owned)).collect())
}
