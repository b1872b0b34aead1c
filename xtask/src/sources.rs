//! Rules that every source file keeps, so that each kind of thing has one place.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::mask::{find_word, mask_tests, mask_text};
use crate::{output, root};

const MAX_LINES: usize = 700;

/// The one file that reads the environment.
const ENVIRONMENT: &str = "crates/apps/rlx-cli/src/env.rs";

const PRINTS: &[&str] = &["println!", "print!", "eprintln!", "eprint!", "dbg!"];

/// What a model crate leaves to the floors below: files, clocks.
const OUTSIDE_WORLD: &[&str] = &["std::fs", "fs::", "File::", "Instant", "SystemTime"];

/// All breaches of the rules in the workspace's Rust files, as `path:line: message`.
pub(crate) fn check() -> Result<Vec<String>> {
    // New files count before they are added; ignored ones do not.
    let mut git = Command::new("git");
    let list = output(
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.rs"]).current_dir(root()),
    )?;
    let mut problems = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        let full = root().join(path);
        if !full.exists() {
            continue;
        }
        let source = fs::read_to_string(&full).with_context(|| format!("cannot read {path}"))?;
        problems.extend(check_file(path, &source));
    }
    Ok(problems)
}

fn check_file(path: &str, source: &str) -> Vec<String> {
    let place = Place::of(path);
    let masked = mask_text(source);
    let product = mask_tests(&masked);
    let mut problems = Vec::new();
    let mut forbid = |text: &str, words: &[&str], why: &str| {
        for word in words {
            for at in find_word(text, word) {
                let line = text[..at].matches('\n').count() + 1;
                problems.push(format!("{path}:{line}: `{word}`: {why}"));
            }
        }
    };
    if !place.engine {
        forbid(&masked, &["unsafe"], "unsafe code lives in crates/engine only");
    }
    forbid(&masked, &["todo!", "unimplemented!"], "no stubs");
    forbid(&masked, &["#[ignore]"], "an ignored test says why: #[ignore = \"...\"]");
    if place.product && path != ENVIRONMENT {
        let readers = &["env::var", "env::var_os", "env::vars"];
        forbid(&product, readers, "the environment is read in rlx-cli's src/env.rs only");
    }
    if place.product && !place.terminal {
        forbid(&product, PRINTS, "libraries do not print");
    }
    if place.product && place.model && !place.terminal {
        forbid(&product, OUTSIDE_WORLD, "model crates have no file access and no clocks");
    }
    let lines = source.lines().count();
    if lines > MAX_LINES {
        problems.push(format!("{path}: {lines} lines, more than {MAX_LINES}: split it by ideas"));
    }
    problems
}

/// What kind of file a path is.
struct Place {
    engine: bool,
    model: bool,
    /// Part of what users run, not of tests, benches, examples or chores.
    product: bool,
    /// Talks to a person: the command line crate, binaries, and a family's `cli.rs`.
    terminal: bool,
}

impl Place {
    fn of(path: &str) -> Self {
        let inside = |folder: &str| path.contains(folder);
        Place {
            engine: path.starts_with("crates/engine/"),
            model: path.starts_with("crates/models/"),
            product: path.starts_with("crates/")
                && !["/tests/", "/benches/", "/examples/", "/fuzz/", "/tests.rs"].iter().any(|f| inside(f))
                && !path.ends_with("build.rs"),
            terminal: path.starts_with("crates/apps/rlx-cli/")
                || inside("/src/bin/")
                || path.ends_with("/src/cli.rs")
                || inside("/src/cli/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_bites_in_its_place_only() {
        let count = |path: &str, source: &str| check_file(path, source).len();
        assert_eq!(count("crates/core/rlx-text/src/a.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(count("crates/engine/rlx-cpu/src/a.rs", "fn f() { unsafe { g() } }"), 0);
        assert_eq!(count("crates/core/rlx-text/src/a.rs", "fn f() { std::env::var(\"X\"); }"), 1);
        assert_eq!(count("crates/core/rlx-text/tests/a.rs", "fn f() { std::env::var(\"X\"); }"), 0);
        assert_eq!(count(ENVIRONMENT, "fn f() { std::env::var(\"X\"); }"), 0);
        assert_eq!(count("crates/apps/rlx-cli/src/a.rs", "fn f() { std::env::var_os(\"X\"); }"), 1);
        assert_eq!(count("crates/models/rlx-a/src/runner.rs", "use std::time::Instant;"), 1);
        assert_eq!(count("crates/models/rlx-a/src/cli.rs", "use std::time::Instant; fn f() { println!(); }"), 0);
        assert_eq!(count("crates/core/rlx-core/src/a.rs", "fn f() { println!(\"{}\", 1) } // println!"), 1);
        assert_eq!(count("xtask/src/a.rs", "fn f() { println!() }"), 0);
        assert_eq!(count("crates/core/rlx-core/src/a.rs", &"\n".repeat(701)), 1);
    }
}
