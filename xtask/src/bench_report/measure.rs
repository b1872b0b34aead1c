//! Runs `rlx-run bench` and llama.cpp's llama-bench and reads what they print.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::output;

const PROMPTS: &str = "128,512";
const GENERATED: &str = "64";
/// Samples per test and run.
const SAMPLES: &str = "3";

/// The tests of a run, in the order of the tables.
pub(super) const TESTS: [&str; 3] = ["pp128", "pp512", "tg64"];

/// One run of one program over all tests.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    /// Tokens per second of each of [`TESTS`], medians.
    pub(super) tokens_per_second: [f64; 3],
    /// Bytes that one decoded token reads.
    pub(super) bytes_per_token: Option<f64>,
    /// The part of the memory's rate that these are, measured around each repetition.
    pub(super) share_of_bandwidth: Option<f64>,
    /// Parameters that one decoded token is multiplied with.
    pub(super) parameters_per_token: Option<f64>,
    /// Bytes of all weights but tables that are looked up in.
    pub(super) weight_bytes: Option<f64>,
    pub(super) peak_rss_bytes: Option<f64>,
    /// Bytes of the KV cache at that peak.
    pub(super) kv_bytes: Option<f64>,
    pub(super) load_ms: Option<f64>,
    pub(super) isa: Option<String>,
    pub(super) limits: Option<Limits>,
    /// Version of the program, where it says.
    pub(super) build: Option<String>,
}

/// What the machine can do, measured in the same run.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    pub(super) dram_read_gb_s: f64,
    /// Names and values in Gop/s of the peaks of arithmetic that this machine has.
    pub(super) peaks: Vec<(&'static str, f64)>,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    pub(super) file_bytes: f64,
    /// Elements of the embedding table.
    pub(super) embedding: f64,
}

/// A model's figures.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) model: String,
    pub(super) facts: Facts,
    /// Ours and llama.cpp's, run one after the other.
    pub(super) rounds: Vec<(Run, Option<Run>)>,
}

impl Measured {
    /// The median over our runs of what `get` finds.
    pub(super) fn ours(&self, get: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        median(self.rounds.iter().filter_map(|(ours, _)| get(ours)).collect())
    }

    /// The median over llama.cpp's runs.
    pub(super) fn theirs(&self, get: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        median(self.rounds.iter().filter_map(|(_, theirs)| get(theirs.as_ref()?)).collect())
    }

    /// The median of the ratios of neighbouring runs in test `i`.
    pub(super) fn ratio(&self, i: usize) -> Option<f64> {
        let ratio = |(ours, theirs): &(Run, Option<Run>)| {
            Some(ours.tokens_per_second[i] / theirs.as_ref()?.tokens_per_second[i])
        };
        median(self.rounds.iter().filter_map(ratio).collect())
    }

    /// DRAM read bandwidth in GB/s.
    pub(super) fn dram(&self) -> Option<f64> {
        self.ours(|run| run.limits.as_ref().map(|limits| limits.dram_read_gb_s))
    }

    /// Operations and bytes of one decoded token.
    pub(super) fn decode_cost(&self) -> Option<(f64, f64)> {
        let bytes = self.ours(|run| run.bytes_per_token)?;
        // Every weight that is read is multiplied and added once.
        Some((2.0 * self.ours(|run| run.parameters_per_token)?, bytes))
    }

    /// Operations of a prompt of `tokens`, and bytes if all weights are read once: among many tokens each expert has its own.
    pub(super) fn prefill_cost(&self, tokens: f64) -> Option<(f64, f64)> {
        let (token, _) = self.decode_cost()?;
        // The output matrix is applied to the last token only.
        let output = 2.0 * self.facts.embedding;
        Some(((token - output) * tokens + output, self.ours(|run| run.weight_bytes)?))
    }
}

/// The middle value, the mean of the two middle ones of an even number.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

/// Our program.
pub(super) struct RlxRun {
    program: PathBuf,
    threads: String,
}

impl RlxRun {
    pub(super) fn new(program: PathBuf, threads: usize) -> RlxRun {
        RlxRun { program, threads: threads.to_string() }
    }

    /// What `rlx-run ARGS --json` answers.
    pub(super) fn json(&self, args: &[&str]) -> Result<Value> {
        let output = Command::new(&self.program).args(args).arg("--json").stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot start {}", self.program.display()))?;
        let answer: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("rlx-run {} printed no JSON", args.join(" ")))?;
        match answer["error"].as_str() {
            Some(error) => bail!("rlx-run {}: {error}", args.join(" ")),
            None => Ok(answer),
        }
    }

    pub(super) fn facts(&self, file: &Path) -> Result<Facts> {
        let answer = self.json(&["inspect", path_text(file)?])?;
        let number = |value: &Value| value.as_f64().unwrap_or(0.0);
        let metadata = answer["metadata"].as_object();
        let hidden = metadata.and_then(|map| map.iter().find(|(key, _)| key.ends_with(".embedding_length")));
        Ok(Facts {
            file_bytes: number(&answer["file_bytes"]),
            embedding: hidden.map_or(0.0, |(_, v)| number(v)) * number(&answer["tokenizer"]["vocab_size"]),
        })
    }

    pub(super) fn bench(&self, file: &Path, isa: Option<&str>) -> Result<Run> {
        let mut args = vec!["bench", "--weights", path_text(file)?, "-p", PROMPTS, "-n", GENERATED];
        args.extend(["-r", SAMPLES, "-t", &self.threads]);
        match isa {
            Some(isa) => args.extend(["--isa", isa]),
            None => args.push("--limits"),
        }
        our_run(&self.json(&args)?)
    }

    /// A profile of a prompt and of decoding: headings, commands and what they tell.
    pub(super) fn profiles(&self, model: &str, file: &Path) -> Result<Vec<(String, String, String)>> {
        let mut profiles = Vec::new();
        for (heading, prompt, generated) in [("Prefill of 512 tokens", "512", "0"), ("Decode", "0", "64")] {
            let args = ["-p", prompt, "-n", generated, "-r", "1", "-t", &self.threads, "--profile"];
            let mut command = Command::new(&self.program);
            command.args(["bench", "--weights", path_text(file)?]).args(args);
            let output = command.output().with_context(|| format!("cannot start {}", self.program.display()))?;
            let told = String::from_utf8_lossy(&output.stderr);
            // Before it stand notes on what is being run.
            let start = told.find("profile of").with_context(|| format!("rlx-run told no profile: {}", told.trim()))?;
            let text = told[start..].to_owned();
            let shown = format!("rlx-run bench --weights {} {}", model.replace(':', "-") + ".gguf", args.join(" "));
            profiles.push((format!("{heading}, {model}"), shown, text));
        }
        Ok(profiles)
    }
}

fn our_run(answer: &Value) -> Result<Run> {
    // Without --limits the answer is the list of tests alone.
    let rows = answer.as_array().or(answer["tests"].as_array()).context("rlx-run bench told no tests")?;
    let row =
        |test: &str| rows.iter().find(|row| row["test"] == test).with_context(|| format!("no figures for {test}"));
    let decode = row(TESTS[2])?;
    let mut tokens_per_second = [0.0; 3];
    for (value, test) in tokens_per_second.iter_mut().zip(TESTS) {
        *value = row(test)?["tokens_per_second"].as_f64().with_context(|| format!("no figure for {test}"))?;
    }
    let largest = |key: &str| rows.iter().filter_map(|row| row[key].as_f64()).reduce(f64::max);
    Ok(Run {
        tokens_per_second,
        bytes_per_token: decode["bytes_per_token"].as_f64(),
        share_of_bandwidth: decode["share_of_bandwidth"].as_f64(),
        parameters_per_token: decode["parameters_per_token"].as_f64(),
        weight_bytes: decode["weight_bytes"].as_f64(),
        peak_rss_bytes: largest("peak_rss_bytes"),
        kv_bytes: largest("kv_bytes"),
        load_ms: decode["load_ms"].as_f64(),
        isa: decode["isa"].as_str().map(str::to_owned),
        limits: limits(&answer["limits"]),
        build: None,
    })
}

fn limits(value: &Value) -> Option<Limits> {
    let peaks = [
        ("f32 FMA", "f32_gflops"),
        ("int8 dot products", "int8_gops"),
        ("AMX bf16", "amx_bf16_gflops"),
        ("AMX int8", "amx_int8_gops"),
    ];
    let known = peaks.into_iter().filter_map(|(name, key)| Some((name, value[key].as_f64().filter(|v| *v > 0.0)?)));
    Some(Limits { dram_read_gb_s: value["dram_read_gb_s"].as_f64()?, peaks: known.collect() })
}

/// llama.cpp's llama-bench.
pub(super) struct Peer {
    program: PathBuf,
    threads: String,
}

impl Peer {
    pub(super) fn new(program: &Path, threads: usize) -> Result<Peer> {
        if !program.is_file() {
            bail!("there is no program at {}", program.display());
        }
        Ok(Peer { program: program.to_owned(), threads: threads.to_string() })
    }

    pub(super) fn bench(&self, file: &Path) -> Result<Run> {
        let mut command = Command::new(&self.program);
        command.arg("-m").arg(file).args(["-p", PROMPTS, "-n", GENERATED, "-r", SAMPLES, "-t", &self.threads]);
        command.args(["-fa", "1", "-o", "json"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut peak = None;
        // It prints a few lines only, so it cannot wait for us to read them.
        while child.try_wait()?.is_none() {
            peak = peak_rss(child.id()).or(peak);
            sleep(Duration::from_millis(50));
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("llama-bench ended with {} on {}", output.status, file.display());
        }
        let answer: Value = serde_json::from_slice(&output.stdout).context("llama-bench printed no JSON")?;
        Ok(Run { peak_rss_bytes: peak, ..peer_run(&answer)? })
    }
}

fn peer_run(answer: &Value) -> Result<Run> {
    let rows = answer.as_array().context("llama-bench told no tests")?;
    let mut tokens_per_second = [0.0; 3];
    for (value, test) in tokens_per_second.iter_mut().zip(TESTS) {
        let name = |row: &Value| match (row["n_prompt"].as_u64(), row["n_gen"].as_u64()) {
            (Some(prompt), Some(0)) => format!("pp{prompt}"),
            (Some(0), Some(generated)) => format!("tg{generated}"),
            _ => String::new(),
        };
        let row = rows.iter().find(|row| name(row) == test).with_context(|| format!("no figures for {test}"))?;
        let samples = row["samples_ts"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        *value = median(samples).with_context(|| format!("no samples for {test}"))?;
    }
    let build = rows.first().and_then(|row| row["build_commit"].as_str()).map(str::to_owned);
    Ok(Run { tokens_per_second, build, ..Run::default() })
}

/// Peak resident memory of a running process, where the system tells it.
fn peak_rss(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

/// Processor, threads used, and the commit measured.
pub(super) fn machine(threads: usize) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let commit = output(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(crate::root()));
    let commit = commit.map(|commit| format!(", commit {}", commit.trim())).unwrap_or_default();
    format!("{name}, {cores} processors, {threads} threads used{commit}")
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A model with plausible figures.
    pub(in super::super) fn example(model: &str, with_peer: bool) -> Measured {
        let answer = json!({
            "tests": [
                { "test": "pp128", "tokens_per_second": 1500.0, "peak_rss_bytes": 500e6, "kv_bytes": 15e6 },
                { "test": "pp512", "tokens_per_second": 1900.0, "peak_rss_bytes": 520e6, "kv_bytes": 60e6 },
                { "test": "tg64", "tokens_per_second": 60.0, "bytes_per_token": 400e6, "weight_bytes": 500e6,
                    "share_of_bandwidth": 0.8, "parameters_per_token": 596e6, "load_ms": 210.0, "isa": "amx" },
            ],
            "limits": { "dram_read_gb_s": 30.0, "f32_gflops": 400.0, "int8_gops": 1600.0, "amx_bf16_gflops": 5900.0,
                "amx_int8_gops": null },
        });
        let ours = our_run(&answer).unwrap();
        let peer = json!([
            { "build_commit": "abc", "n_prompt": 128, "n_gen": 0, "samples_ts": [399.0] },
            { "n_prompt": 512, "n_gen": 0, "samples_ts": [379.0, 380.0, 900.0] },
            { "n_prompt": 0, "n_gen": 64, "samples_ts": [28.0, 32.0] },
        ]);
        let theirs = with_peer.then(|| peer_run(&peer).unwrap());
        let facts = Facts { file_bytes: 404e6, embedding: 155e6 };
        Measured { model: model.to_owned(), facts, rounds: vec![(ours.clone(), theirs.clone()), (ours, theirs)] }
    }

    #[test]
    fn runs_are_read() {
        let measured = example("m", true);
        assert_eq!(measured.ratio(1), Some(5.0));
        assert_eq!(measured.ratio(2), Some(2.0));
        assert_eq!(measured.dram(), Some(30.0));
        assert_eq!(measured.ours(|run| run.peak_rss_bytes), Some(520e6));
        assert_eq!(measured.ours(|run| run.kv_bytes), Some(60e6));
        assert_eq!(measured.rounds[0].0.limits.as_ref().unwrap().peaks.len(), 3);
        assert_eq!(measured.decode_cost(), Some((1192e6, 400e6)));
        assert_eq!(measured.prefill_cost(2.0), Some((882e6 * 2.0 + 310e6, 500e6)));
        let rows = TESTS.map(|test| json!({ "test": test, "tokens_per_second": 7.5 }));
        assert_eq!(our_run(&json!(rows)).unwrap().tokens_per_second, [7.5; 3]);
        assert!(our_run(&json!({ "tests": [] })).is_err() && peer_run(&json!({})).is_err());
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}
