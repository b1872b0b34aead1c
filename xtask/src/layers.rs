//! The floors of the workspace: which crate may depend on which.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, output, sources};

/// Crates of `engine`, in order: each may depend only on those before it.
const ENGINE: &[&str] = &["rlx-mem", "rlx-ir", "rlx-quant", "rlx-opt", "rlx-cpu", "rlx-gpu", "rlx-runtime"];

/// Crates of `core` by height: each may depend only on lower ones.
const CORE: &[(&str, u32)] = &[
    ("rlx-weights", 0),
    ("rlx-text", 0),
    ("rlx-audio", 0),
    ("rlx-image", 0),
    ("rlx-flow", 0),
    ("rlx-ssm", 1),
    ("rlx-vectors", 1),
    ("rlx-core", 2),
];

/// Model families that are built on another one.
const FAMILIES: &[(&str, &str)] = &[
    ("rlx-clinicalbert", "rlx-bert"),
    ("rlx-embed", "rlx-bert"),
    ("rlx-embed", "rlx-nomic"),
    ("rlx-minicpm5", "rlx-llama32"),
    ("rlx-sam2", "rlx-sam"),
    ("rlx-sam3", "rlx-sam2"),
    ("rlx-whisper", "rlx-vad"),
];

/// Stands in `apps` but knows no model: each family's thin `cli.rs` is written with it.
const COMMAND_LINE: &str = "rlx-cli";

/// The facade that names all families.
const FACADE: &str = "rlx-models";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Floor {
    Engine,
    Core,
    CommandLine,
    Models,
    Apps,
}

/// One crate of the workspace and what it depends on.
struct Crate {
    name: String,
    floor: Floor,
    /// Workspace crates it depends on, and whether only for its tests.
    dependencies: Vec<(String, bool)>,
}

/// Checks the dependencies, then the sources.
pub(crate) fn run() -> Result<()> {
    let text = output(cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata printed no JSON")?;
    let crates = read_crates(&metadata)?;
    let mut problems = check(&crates);
    problems.extend(sources::check()?);
    if problems.is_empty() {
        println!("layers: {} crates, no arrow points up or sideways; sources keep the rules", crates.len());
        return Ok(());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    bail!("{} problems", problems.len())
}

fn read_crates(metadata: &Value) -> Result<Vec<Crate>> {
    let root = metadata["workspace_root"].as_str().context("no workspace_root")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut crates = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let manifest = package["manifest_path"].as_str().context("a package without a path")?;
        let path = manifest.strip_prefix(root).unwrap_or(manifest).replace('\\', "/");
        let floor = match path.trim_start_matches('/').split('/').collect::<Vec<_>>().as_slice() {
            ["crates", "engine", ..] => Floor::Engine,
            ["crates", "core", ..] => Floor::Core,
            ["crates", "apps", ..] if name == COMMAND_LINE => Floor::CommandLine,
            ["crates", "models", ..] => Floor::Models,
            ["crates", "apps", ..] => Floor::Apps,
            ["xtask", ..] | ["fuzz", ..] => continue,
            _ => bail!("{name} lies outside crates/{{engine,core,models,apps}}: {path}"),
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten().filter_map(|d| {
            let dependency = d["name"].as_str()?;
            names.contains(&dependency).then(|| (dependency.to_owned(), d["kind"].as_str() == Some("dev")))
        });
        crates.push(Crate { name: name.to_owned(), floor, dependencies: dependencies.collect() });
    }
    Ok(crates)
}

fn check(crates: &[Crate]) -> Vec<String> {
    let floors: BTreeMap<&str, Floor> = crates.iter().map(|c| (c.name.as_str(), c.floor)).collect();
    let mut problems = Vec::new();
    for c in crates {
        let known = match c.floor {
            Floor::Engine => ENGINE.contains(&c.name.as_str()),
            Floor::Core => height(&c.name).is_some(),
            _ => true,
        };
        if !known {
            problems.push(format!("{}: give it its place in the order in xtask/src/layers.rs", c.name));
        }
        for (dependency, dev) in &c.dependencies {
            let Some(&target) = floors.get(dependency.as_str()) else {
                problems.push(format!("{} depends on {dependency}, which is a tool", c.name));
                continue;
            };
            if let Some(why) = forbidden(c, dependency, target, *dev) {
                problems.push(format!("{} -> {dependency}: {why}", c.name));
            }
        }
    }
    problems
}

/// Why `c` may not depend on `dependency` of floor `target`.
fn forbidden(c: &Crate, dependency: &str, target: Floor, dev: bool) -> Option<String> {
    if target > c.floor {
        return Some(format!("points up, from {:?} to {target:?}", c.floor));
    }
    // Tests may use neighbours of their own floor: cargo sees to it that there is no cycle that matters.
    if target < c.floor || dev {
        return None;
    }
    let allowed = match c.floor {
        Floor::Engine => position(dependency) < position(&c.name),
        Floor::Core => height(dependency) < height(&c.name),
        Floor::Models => FAMILIES.contains(&(c.name.as_str(), dependency)),
        Floor::CommandLine => false,
        Floor::Apps => c.name == FACADE,
    };
    (!allowed).then(|| format!("points sideways or up inside {:?}; the order is in xtask/src/layers.rs", c.floor))
}

fn position(name: &str) -> Option<usize> {
    ENGINE.iter().position(|n| *n == name)
}

fn height(name: &str) -> Option<u32> {
    CORE.iter().find(|(n, _)| *n == name).map(|(_, h)| *h)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(edges: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        let folder = |name: &str| match name {
            "rlx-mem" | "rlx-ir" | "rlx-cpu" | "rlx-runtime" | "rlx-new" => "engine",
            "rlx-text" | "rlx-flow" | "rlx-core" => "core",
            "rlx-cli" | "rlx-models" => "apps",
            _ => "models",
        };
        let mut names: Vec<&str> = edges.iter().flat_map(|(a, b, _)| [*a, *b]).collect();
        names.sort_unstable();
        names.dedup();
        let packages: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = edges
                    .iter()
                    .filter(|(a, ..)| a == name)
                    .map(|(_, b, kind)| serde_json::json!({ "name": b, "kind": kind }))
                    .collect();
                let path = format!("/w/crates/{}/{name}/Cargo.toml", folder(name));
                serde_json::json!({ "name": name, "manifest_path": path, "dependencies": deps })
            })
            .collect();
        let metadata = serde_json::json!({ "workspace_root": "/w", "packages": packages });
        check(&read_crates(&metadata).unwrap())
    }

    #[test]
    fn down_is_allowed() {
        let edges = [
            ("rlx-cpu", "rlx-ir", None),
            ("rlx-runtime", "rlx-cpu", None),
            ("rlx-core", "rlx-flow", None),
            ("rlx-flow", "rlx-runtime", None),
            ("rlx-llama32", "rlx-core", None),
            ("rlx-llama32", "rlx-cli", None),
            ("rlx-minicpm5", "rlx-llama32", None),
            ("rlx-models", "rlx-cli", None),
            ("rlx-models", "rlx-llama32", None),
            ("rlx-text", "rlx-flow", Some("dev")),
        ];
        assert_eq!(problems(&edges), Vec::<String>::new());
    }

    #[test]
    fn up_and_sideways_are_not() {
        for edge in [
            ("rlx-ir", "rlx-cpu", None),
            ("rlx-ir", "rlx-flow", None),
            ("rlx-flow", "rlx-text", None),
            ("rlx-text", "rlx-core", None),
            ("rlx-core", "rlx-llama32", None),
            ("rlx-core", "rlx-llama32", Some("dev")),
            ("rlx-llama32", "rlx-minicpm5", None),
            ("rlx-cli", "rlx-llama32", None),
            ("rlx-llama32", "rlx-models", None),
        ] {
            assert_eq!(problems(&[edge]).len(), 1, "{edge:?}");
        }
        assert_eq!(problems(&[("rlx-new", "rlx-mem", None)]).len(), 2);
    }
}
