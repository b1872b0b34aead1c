//! The programs as a user meets them: help, wrong usage, hostile and missing files, JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rlx_ir::DType;
use rlx_weights::gguf::GgufWriter;
use serde_json::Value;

const RUN: &str = env!("CARGO_BIN_EXE_rlx-run");
const INSPECT: &str = env!("CARGO_BIN_EXE_rlx-inspect");

/// Runs a program with a clean environment of ours and no terminal.
fn program(path: &str, args: &[&str]) -> Output {
    let mut command = Command::new(path);
    command.args(args).stdin(Stdio::null());
    for name in ["HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "RLX_CACHE"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn run(args: &[&str]) -> Output {
    program(RUN, args)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e} in {}", stdout(output)))
}

/// The one line that a failed command says.
fn error_line(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    assert_eq!(stdout(output), "");
    let text = stderr(output);
    let first = text.lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with("error: "), "{text}");
    assert!(text.lines().count() == 1 || text.lines().nth(1).unwrap().starts_with("help: "), "{text}");
    first
}

/// A small GGUF file that is complete as far as `inspect` and `check` can see.
fn write_gguf(path: &Path, architecture: &str, keys: bool) {
    let mut writer = GgufWriter::new(architecture);
    writer.set("general.name", "Tiny\u{1b}[2J");
    if keys {
        for (key, value) in [
            ("block_count", 1),
            ("context_length", 128),
            ("embedding_length", 32),
            ("feed_forward_length", 64),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
        ] {
            writer.set(format!("{architecture}.{key}"), value as u32);
        }
        writer.set(format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5_f32);
        writer.set("tokenizer.ggml.model", "gpt2");
        writer.set("tokenizer.ggml.tokens", &["a", "b"][..]);
    }
    writer.add_tensor("token_embd.weight", DType::Q8_0, &[2, 32]).unwrap();
    writer.add_tensor("output_norm.weight", DType::F32, &[32]).unwrap();
    let mut stream = writer.create(path).unwrap();
    stream.write(&[0; 68]).unwrap();
    stream.write(&[0; 128]).unwrap();
    stream.finish().unwrap();
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn help_lists_the_commands_and_each_has_examples() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let registry = rlx_models::registry();
    for runner in registry.runners() {
        assert!(stdout(&help).contains(runner.name), "{}", runner.name);
        for args in [vec![runner.name, "--help"], vec!["help", runner.name]] {
            let own = run(&args);
            assert_eq!(own.status.code(), Some(0), "{args:?}: {}", stderr(&own));
            let text = stdout(&own);
            assert!(text.contains("Examples:"), "{}: {text}", runner.name);
            assert!(text.contains(&format!("Usage: rlx-run {}", runner.name)), "{}: {text}", runner.name);
        }
    }
    assert!(stdout(&program(INSPECT, &["--help"])).contains("Usage: rlx-inspect"));
    assert!(stdout(&run(&["--version"])).starts_with("rlx-run "));
}

#[test]
fn wrong_usage_ends_with_2_on_stderr() {
    let cases: &[&[&str]] = &[
        &[],
        &["no-such-command"],
        &["inspect"],
        &["inspect", "x", "--no-such-flag"],
        &["inspect", "x", "--gguf-index", "one"],
        &["inspect", "x", "--prefer", "Q4_0", "--gguf-index", "1"],
        &["fetch", "--list", "name"],
        &["fetch", "--hub-endpoint", "huggingface.co"],
        &["devices", "extra"],
    ];
    for args in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
        assert!(!stderr(&output).is_empty(), "{args:?}");
    }
    let output = run(&["inspect", "--json", "--no-such-flag", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(json(&output)["error"].as_str().unwrap().contains("--no-such-flag"));
    assert!(stderr(&run(&["inspct"])).contains("inspect"), "a near miss is pointed at");
}

#[test]
fn broken_files_are_one_line() {
    let dir = Dir::new();
    fs::write(dir.path("empty.gguf"), "").unwrap();
    fs::write(dir.path("text.gguf"), "this is no model").unwrap();
    fs::write(dir.path("cut.gguf"), b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\x0f").unwrap();
    fs::write(dir.path("empty.safetensors"), "").unwrap();
    fs::create_dir(dir.path("empty-dir")).unwrap();
    for name in ["missing.gguf", "empty.gguf", "text.gguf", "cut.gguf", "empty.safetensors", "empty-dir"] {
        for command in ["inspect", "check"] {
            let path = dir.text(name);
            let line = error_line(&run(&[command, &path]));
            assert!(line.contains(name), "{command}: {line}");
            let output = run(&[command, &path, "--json"]);
            assert_eq!(output.status.code(), Some(1));
            assert!(json(&output)["error"].is_string());
        }
    }
    assert_eq!(program(INSPECT, &[&dir.text("missing.gguf")]).status.code(), Some(1));
}

#[test]
fn inspect_tells_what_a_file_is() {
    let dir = Dir::new();
    write_gguf(&dir.path("tiny.Q8_0.gguf"), "llama", true);
    let path = dir.text("tiny.Q8_0.gguf");
    let report = json(&run(&["inspect", &path, "--json", "--context=1000"]));
    assert_eq!(report["format"], "gguf");
    assert_eq!(report["architecture"], "llama");
    assert_eq!(report["tensors"], 2);
    assert_eq!(report["parameters"], 96);
    assert_eq!(report["runner"], "llama32");
    assert_eq!(report["context_length"], 128);
    assert_eq!(report["tokenizer"]["vocab_size"], 2);
    assert_eq!(report["chat_template"], false);
    assert_eq!(report["memory"][0]["context"], 1000);
    // One layer, one head of keys and one of values, 16 wide, 2 bytes each.
    assert_eq!(report["memory"][0]["kv_cache"], 1000 * 64);
    let text = stdout(&run(&["inspect", &path, "--metadata"]));
    for part in ["Q8_0", "llama32", "tokenizer.ggml.tokens", "Tiny\\u{1b}[2J"] {
        assert!(text.contains(part), "{part} missing in {text}");
    }
    assert!(!text.contains('\u{1b}'), "a file must not write to the terminal");
    assert_eq!(stdout(&program(INSPECT, &[&path, "--metadata"])), text);
}

#[test]
fn directories_of_several_files() {
    let dir = Dir::new();
    write_gguf(&dir.path("m.Q4_K_M.gguf"), "llama", true);
    write_gguf(&dir.path("m.Q8_0.gguf"), "llama", true);
    let root = dir.0.path().to_str().unwrap();
    let file = |args: &[&str]| {
        let report = json(&run(&[&["inspect", root, "--json"], args].concat()));
        assert_eq!(report["directory"].as_array().unwrap().len(), 2);
        report["files"][0].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    };
    assert_eq!(file(&[]), "m.Q4_K_M.gguf");
    for args in [&["--prefer", "Q8_0"][..], &["-p", "Q8_0"], &["--prefer-quant=Q8_0"], &["--gguf-index", "1"]] {
        assert_eq!(file(args), "m.Q8_0.gguf", "{args:?}");
    }
    let line = error_line(&run(&["inspect", root, "--prefer", "Q2_K"]));
    assert!(line.contains("Q2_K"), "{line}");
}

#[test]
fn check_says_one_of_four() {
    let dir = Dir::new();
    write_gguf(&dir.path("llama.gguf"), "llama", true);
    write_gguf(&dir.path("bare.gguf"), "llama", false);
    write_gguf(&dir.path("rwkv.gguf"), "rwkv7", true);
    write_gguf(&dir.path("zork.gguf"), "zork", true);
    let says = |name: &str| {
        let output = run(&["check", &dir.text(name)]);
        let machine = json(&run(&["check", &dir.text(name), "--json"]));
        let text = stdout(&output).trim_end().to_owned();
        assert!(text.starts_with(machine["verdict"].as_str().unwrap()), "{text}");
        (output.status.code().unwrap(), text)
    };
    assert_eq!(says("llama.gguf"), (0, "SUPPORTED".to_owned()));
    let (code, text) = says("bare.gguf");
    assert_eq!(code, 1);
    assert!(text.starts_with("MissingMetadata(") && text.contains("llama.block_count"), "{text}");
    assert_eq!(says("rwkv.gguf"), (1, "KnownUnimplemented(rwkv7)".to_owned()));
    assert_eq!(says("zork.gguf"), (1, "Unknown".to_owned()));
}

#[cfg(not(feature = "compat-net"))]
#[test]
fn a_hub_repository_needs_its_feature() {
    let line = error_line(&run(&["check", "owner/name"]));
    assert!(line.contains("compat-net"), "{line}");
}

#[test]
fn fetch_without_a_network() {
    let dir = Dir::new();
    let cache = dir.text("cache");
    let output = run(&["fetch", "--offline", "--cache-dir", &cache]);
    let line = error_line(&output);
    assert!(line.contains("smollm2-135m-instruct is not in the cache"), "{line}");
    assert!(stderr(&output).contains("sha256 b179c9523d0e"), "{}", stderr(&output));
    let output = run(&["fetch", "o/n:m.gguf", "--offline", "--cache-dir", &cache, "--json"]);
    assert!(json(&output)["help"].as_str().unwrap().contains("/o/n/resolve/main/m.gguf"));
    let line = error_line(&run(&["fetch", "no-such-model", "--cache-dir", &cache]));
    assert!(line.contains("gemma3-270m"), "{line}");
    // A cache that cannot be a directory.
    fs::write(dir.path("file"), "").unwrap();
    let bad = format!("--cache-dir={}", dir.text("file"));
    let line = error_line(&run(&["fetch", "o/n:m.gguf", &bad]));
    assert!(line.contains("cannot write in the cache"), "{line}");
    let list = json(&run(&["fetch", "--list", "--json", "--cache-dir", &cache]));
    assert!(list.as_array().unwrap().iter().all(|source| source["cached"] == false));
}

#[test]
fn the_environment_is_heard_and_options_go_first() {
    let dir = Dir::new();
    let cache = dir.text("from-env");
    let output = Command::new(RUN)
        .args(["fetch", "o/n:m.gguf", "--json"])
        .envs([("RLX_CACHE", cache.as_str()), ("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9/")])
        .output()
        .unwrap();
    let help = json(&output)["help"].as_str().unwrap().to_owned();
    assert!(help.contains("http://127.0.0.1:9/o/n/resolve") && help.contains("from-env"), "{help}");
    let output = Command::new(RUN)
        .args(["fetch", "o/n:m.gguf", "--json", "--cache-dir", &dir.text("given")])
        .envs([("RLX_CACHE", cache.as_str()), ("HF_HUB_OFFLINE", "1")])
        .output()
        .unwrap();
    assert!(json(&output)["help"].as_str().unwrap().contains("given"));
}

#[test]
fn lists_are_json() {
    let devices = json(&run(&["devices", "--json"]));
    let cpu = &devices[0];
    assert_eq!((&cpu["name"], &cpu["built_in"]), (&"cpu".into(), &true.into()));
    assert!(cpu["isa"].as_array().unwrap().contains(&"scalar".into()));
    assert!(stdout(&run(&["devices"])).contains("not built into this binary"));
    let models = json(&run(&["models", "--json"]));
    assert!(models.as_array().unwrap().iter().any(|model| model["name"] == "llama32"));
    let formats = json(&run(&["inspect", "--list-formats", "--json"]));
    assert_eq!(formats[0]["name"], "gguf");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(RUN).args(["devices"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
}
