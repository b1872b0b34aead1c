//! The measured part of docs/performance.md: tables, a roofline picture and profiles, by one command.

mod markdown;
mod measure;
mod roofline;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;

use crate::{cargo, checked, output, root};
use measure::{Measured, Peer, RlxRun, Run};

const DOCUMENT: &str = "docs/performance.md";
const PICTURE: &str = "docs/roofline.svg";
const BEGIN: &str = "<!-- bench-report:begin (written by `cargo xtask bench-report`) -->";
const END: &str = "<!-- bench-report:end -->";

/// Models of the report: a published checkpoint by its `rlx-run fetch` name, or the shape of one and a type, made with
/// random weights by `rlx-run synth`.
const MODELS: &[&str] = &[
    "smollm2-135m-instruct",
    "gemma3-270m",
    "qwen3-0.6b:Q4_K_M",
    "qwen3-0.6b:Q8_0",
    "qwen3-0.6b:F16",
    "llama-3.2-1b:Q4_K_M",
    "llama-3.2-1b:Q8_0",
    "llama-3.2-1b:F16",
    "qwen2.5-0.5b:Q4_K_M",
    "gemma-2b:Q4_K_M",
    "gemma2-2b:Q4_K_M",
    "gemma3-1b:Q4_K_M",
    "minicpm5-1b:Q4_K_M",
    "gemma4-e2b:Q4_K_M",
    "qwen3-30b-a3b:Q4_K_M",
];

/// Instruction sets that are compared on each of the models that have this prefix.
const ISAS: &[&str] = &["amx", "avx512", "avx2"];
const ISA_MODELS: &str = "qwen3-0.6b:";

/// Measure and write the tables of docs/performance.md and docs/roofline.svg. Run it on a quiet machine.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench-report", no_binary_name = true)]
struct Args {
    /// A `rlx-run fetch` name, SHAPE:TYPE for random weights, or a file; may be given again [default: those of the
    /// document]
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// llama.cpp's llama-bench, to be run on the same files in turn
    #[arg(long, value_name = "PATH")]
    llama_bench: Option<PathBuf>,
    /// Threads of both
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How often the two are run in turn
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where files with random weights are kept [default: rlx-models/bench in the user's cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print the tables and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Measures and writes the document's generated part.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) if error.use_stderr() => bail!("{}", error.to_string().trim_end()),
        Err(help) => {
            print!("{help}");
            return Ok(());
        }
    };
    checked(cargo().args(["build", "--release", "--package", "rlx-models", "--bin", "rlx-run"]))?;
    let rlx = RlxRun::new(built("rlx-run")?, args.threads);
    let peer = match &args.llama_bench {
        Some(path) => Some(Peer::new(path, args.threads)?),
        None => None,
    };
    let models = if args.models.is_empty() { MODELS.iter().map(ToString::to_string).collect() } else { args.models };
    let cache = match args.cache {
        Some(dir) => dir,
        None => dirs::cache_dir().context("this system has no cache directory; give --cache")?.join("rlx-models/bench"),
    };

    let mut measured = Vec::new();
    let mut by_isa = Vec::new();
    let mut profiles = Vec::new();
    let mut failed = Vec::new();
    for model in &models {
        // What was measured for hours is not lost to one model that the machine is too small for.
        let file = file_of(model, &rlx, &cache).with_context(|| format!("cannot get {model}"));
        let outcome = file.and_then(|file| {
            eprintln!("bench-report: {model}: {}", file.display());
            Ok((measure_model(model, &file, &rlx, peer.as_ref(), args.rounds)?, file))
        });
        let file = match outcome {
            Ok((figures, file)) => {
                measured.push(figures);
                file
            }
            Err(error) => {
                eprintln!("bench-report: no figures for {model}: {error:#}");
                failed.push(model.as_str());
                continue;
            }
        };
        if model.starts_with(ISA_MODELS) {
            for isa in ISAS {
                match rlx.bench(&file, Some(isa)) {
                    Ok(run) => by_isa.push((model.clone(), *isa, run)),
                    Err(error) => eprintln!("bench-report: {model}: no figures for {isa}: {error:#}"),
                }
            }
        }
        if profiles.is_empty() && model.contains(':') {
            profiles = rlx.profiles(model, &file)?;
        }
    }

    if measured.is_empty() {
        bail!("no model could be measured");
    }
    let machine = measure::machine(args.threads);
    let peer_version = measured.iter().find_map(|m| m.rounds.iter().find_map(|(_, peer)| peer.as_ref()?.build.clone()));
    let text = markdown::report(&machine, &measured, &by_isa, &profiles, peer_version.as_deref());
    let picture = roofline::svg(&measured);
    if args.dry_run {
        print!("{text}");
        return Ok(());
    }
    let path = root().join(DOCUMENT);
    let old = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    fs::write(&path, replace(&old, &text)?).with_context(|| format!("cannot write {DOCUMENT}"))?;
    fs::write(root().join(PICTURE), picture).with_context(|| format!("cannot write {PICTURE}"))?;
    println!("bench-report: {DOCUMENT} and {PICTURE} written");
    if !failed.is_empty() {
        bail!("without figures: {}", failed.join(", "));
    }
    Ok(())
}

/// The path of a program that was built in release mode.
fn built(name: &str) -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(Path::new(target).join("release").join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// The file of a model: an existing path, a fetched checkpoint, or one made now.
fn file_of(model: &str, rlx: &RlxRun, cache: &Path) -> Result<PathBuf> {
    if Path::new(model).exists() {
        return Ok(model.into());
    }
    let Some((shape, kind)) = model.split_once(':') else {
        let answer = rlx.json(&["fetch", model])?;
        return Ok(answer["path"].as_str().context("fetch named no path")?.into());
    };
    let path = cache.join(format!("{shape}-{kind}.gguf"));
    if !path.exists() {
        fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let out = path.to_str().context("the cache's path is not UTF-8")?;
        rlx.json(&["synth", shape, "--type", kind, "--out", out])?;
    }
    Ok(path)
}

/// Runs both sides in turn.
fn measure_model(model: &str, file: &Path, rlx: &RlxRun, peer: Option<&Peer>, rounds: u16) -> Result<Measured> {
    // Loading is measured from the system's file cache, not from the disk.
    std::io::copy(&mut fs::File::open(file)?, &mut std::io::sink())?;
    let facts = rlx.facts(file)?;
    let mut pairs: Vec<(Run, Option<Run>)> = Vec::new();
    for _ in 0..rounds {
        let ours = rlx.bench(file, None)?;
        let theirs = peer.map(|peer| peer.bench(file)).transpose()?;
        pairs.push((ours, theirs));
    }
    Ok(Measured { model: model.to_owned(), facts, rounds: pairs })
}

/// `document` with the text between the markers replaced.
fn replace(document: &str, text: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("{DOCUMENT} has no line `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{DOCUMENT} has no line `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n{text}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_goes_between_its_markers() {
        let document = format!("top\n{BEGIN}\nold\n{END}\nend\n");
        assert_eq!(replace(&document, "new\n").unwrap(), format!("top\n{BEGIN}\nnew\n{END}\nend\n"));
        assert!(replace("nothing", "new").is_err());
    }

    #[test]
    fn arguments() {
        let args =
            Args::try_parse_from(["--model", "a", "--model", "b:Q8_0", "--llama-bench", "/x", "--rounds=3"]).unwrap();
        assert_eq!((args.models.len(), args.rounds, args.threads), (2, 3, 2));
        assert!(Args::try_parse_from(["--rounds", "0"]).is_err());
    }
}
