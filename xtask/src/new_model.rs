//! The skeleton of a model family crate: a Llama-like decoder, to be changed into what the family is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{cargo, checked, root};

const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../templates/Cargo.toml.in")),
    ("README.md", include_str!("../templates/README.md.in")),
    ("src/lib.rs", include_str!("../templates/lib.rs.in")),
    ("src/config.rs", include_str!("../templates/config.rs.in")),
    ("src/weights.rs", include_str!("../templates/weights.rs.in")),
    ("src/builder.rs", include_str!("../templates/builder.rs.in")),
    ("tests/config.rs", include_str!("../templates/config_test.rs.in")),
];

/// Where the workspace must hear of a new crate: file, the line after which, the line.
const REGISTRY: &[(&str, &str, &str)] = &[
    ("Cargo.toml", "# models", "rlx-@name@ = { path = \"crates/models/rlx-@name@\", version = \"0.3.0\" }"),
    ("crates/apps/rlx-models/Cargo.toml", "rlx-llama32.workspace = true", "rlx-@name@.workspace = true"),
    ("crates/apps/rlx-models/src/lib.rs", "pub use rlx_llama32 as llama32;", "pub use rlx_@module@ as @module@;"),
    (
        "crates/apps/rlx-models/src/lib.rs",
        "    registry.register_family(llama32::Llama32::FAMILY);",
        "    registry.register_family(@module@::@Name@::FAMILY);",
    ),
];

/// Makes `crates/models/rlx-NAME` and registers it.
pub(crate) fn run(name: &str) -> Result<()> {
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.ends_with('-')
        && !name.starts_with("rlx-");
    if !valid {
        bail!("`{name}`: a family's name is lower-case letters, digits and `-`, without the prefix rlx-");
    }
    let root = root();
    let dir = root.join("crates/models").join(format!("rlx-{name}"));
    if dir.exists() {
        bail!("{} exists already", dir.display());
    }
    // All edits are made in memory first: either everything is written or nothing.
    let edits = registry_edits(&root, name)?;
    for (path, template) in FILES {
        write(&dir.join(path), &fill(template, name))?;
    }
    for (path, text) in edits {
        write(&root.join(path), &text)?;
    }
    checked(cargo().args(["fmt", "--package", &format!("rlx-{name}"), "--package", "rlx-models"]))?;
    println!("{} is there and registered; `cargo test -p rlx-{name}` builds it.", dir.display());
    println!("Next: docs/add-a-model.md, then `cargo xtask docs` for the table in README.md.");
    Ok(())
}

fn registry_edits(root: &Path, name: &str) -> Result<Vec<(&'static str, String)>> {
    let mut edits: Vec<(&'static str, String)> = Vec::new();
    for (path, anchor, line) in REGISTRY {
        let text = match edits.iter().position(|(done, _)| done == path) {
            Some(i) => edits.remove(i).1,
            None => fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?,
        };
        edits.push((path, insert_after(&text, anchor, &fill(line, name)).with_context(|| (*path).to_owned())?));
    }
    Ok(edits)
}

/// `text` with `line` after the line `anchor`.
fn insert_after(text: &str, anchor: &str, line: &str) -> Result<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|l| *l == anchor).with_context(|| format!("there is no line `{anchor}`"))?;
    lines.insert(at + 1, line);
    Ok(lines.join("\n") + "\n")
}

fn fill(template: &str, name: &str) -> String {
    template.replace("@name@", name).replace("@module@", &name.replace('-', "_")).replace("@Name@", &type_name(name))
}

/// `qwen3-moe` as `Qwen3Moe`.
fn type_name(name: &str) -> String {
    name.split('-')
        .flat_map(|part| part.chars().enumerate().map(|(i, c)| if i == 0 { c.to_ascii_uppercase() } else { c }))
        .collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_their_forms() {
        assert_eq!(type_name("qwen3-moe"), "Qwen3Moe");
        assert_eq!(fill("@name@ @module@ @Name@", "a-b"), "a-b a_b AB");
        assert!(run("Qwen").is_err() && run("rlx-x").is_err() && run("../x").is_err() && run("").is_err());
    }

    #[test]
    fn the_registry_has_its_places() {
        let edits = registry_edits(&root(), "zork").unwrap();
        assert_eq!(edits.len(), 3);
        let (_, lib) = edits.iter().find(|(path, _)| path.ends_with("lib.rs")).unwrap();
        assert!(lib.contains("pub use rlx_zork as zork;") && lib.contains("zork::Zork::FAMILY"));
    }
}
