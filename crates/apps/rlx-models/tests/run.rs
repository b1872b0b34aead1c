//! Commands that run a model, as a user meets them, on tiny models of random weights.

mod tiny;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tiny::Files;

const RUN: &str = env!("CARGO_BIN_EXE_rlx-run");
const LLAMA32: &str = env!("CARGO_BIN_EXE_rlx-llama32");

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    for name in ["HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "RLX_CACHE"] {
        command.env_remove(name);
    }
    command
}

fn run(args: &[&str]) -> Output {
    command(RUN, args).output().unwrap()
}

/// Runs with `input` on stdin.
fn run_with(args: &[&str], input: &str) -> Output {
    let mut child =
        command(RUN, args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// The one line that a failed command says.
#[track_caller]
fn error_line(output: &Output) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let lines: Vec<&str> = text.lines().take_while(|line| !line.starts_with("help: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].starts_with("error: ") && lines[0].len() < 600, "{text}");
    lines[0].to_owned()
}

fn fixture(name: &str) -> String {
    format!("{}/../../models/rlx-llama32/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn generate_is_the_same_however_it_is_asked() {
    let files = Files::new();
    let weights = files.gguf();
    let base = ["--prompt", "Once upon", "--max-tokens", "12", "--ignore-eos"];
    let with = |head: &[&str], tail: &[&str]| stdout(&run(&[head, &base, tail].concat()));
    let text = with(&["generate", "--weights", &weights], &[]);
    assert!(text.ends_with('\n') && text.len() > 1, "{text:?}");
    assert_eq!(with(&["auto", &weights], &[]), text);
    assert_eq!(with(&["llama32", "--weights", &weights], &["--no-stream"]), text);
    assert_eq!(with(&["generate", &format!("--weights={weights}")], &["--packed", "--device", "auto"]), text);
    let own = command(LLAMA32, &[&["--weights", weights.as_str()], &base[..]].concat()).output().unwrap();
    assert_eq!(stdout(&own), text);
    let file = files.write("prompt.txt", b"Once upon");
    let args = ["generate", &weights, "--prompt-file", &file, "--max-tokens", "12", "--ignore-eos"];
    assert_eq!(stdout(&run(&args)), text);
    let args = ["generate", &weights, "--prompt-file", "-", "--max-tokens", "12", "--ignore-eos"];
    assert_eq!(stdout(&run_with(&args, "Once upon")), text);
}

#[test]
fn generate_as_json() {
    let files = Files::new();
    let weights = files.gguf();
    let ids = "79,110,99;101,32";
    let args = ["generate", &weights, "--prompt-ids", ids, "--max-tokens", "5", "--ignore-eos", "--json"];
    let output = run(&args);
    assert_eq!(stderr(&output), "");
    let value = json_of(&output);
    assert_eq!((value["model"].as_str(), value["family"].as_str()), (Some("Tiny"), Some("llama32")));
    let results = value["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for (result, prompt_tokens) in results.iter().zip([3, 2]) {
        assert_eq!(result["ids"].as_array().unwrap().len(), 5);
        assert_eq!(result["stop_reason"], "max_tokens");
        assert_eq!(result["timing"]["prompt_tokens"], prompt_tokens);
        assert!(result["timing"]["load_ms"].as_f64().unwrap() > 0.0);
    }
    // Rows know nothing of each other.
    let alone = json_of(&run(&["generate", &weights, "--prompt-ids", "101,32", "-n", "5", "--ignore-eos", "--json"]));
    assert_eq!(alone["results"][0]["ids"], results[1]["ids"]);
}

#[test]
fn sampling_obeys_its_flags() {
    let files = Files::new();
    let weights = files.gguf();
    let ids = |extra: &[&str]| {
        let base = ["generate", &weights, "--prompt", "abc", "-n", "16", "--ignore-eos", "--json"];
        json_of(&run(&[&base[..], extra].concat()))["results"][0]["ids"].clone()
    };
    let greedy = ids(&[]);
    let drawn = ids(&["--temperature", "1.5", "--seed", "7"]);
    assert_ne!(drawn, greedy);
    assert_eq!(ids(&["--temperature", "1.5", "--seed", "7"]), drawn);
    assert_ne!(ids(&["--temperature", "1.5", "--seed", "8"]), drawn);
    for narrow in [["--top-k", "1"], ["--top-p", "0.0001"], ["--min-p", "1"]] {
        assert_eq!(ids(&[&["--temperature", "1.5", "--seed", "7"], &narrow[..]].concat()), greedy, "{narrow:?}");
    }
    assert_ne!(ids(&["--repeat-penalty", "5"]), greedy);
    // A stop text ends the answer and is not part of it.
    let text = stdout(&run(&["generate", &weights, "--prompt", "abc", "-n", "16", "--ignore-eos"]));
    let stop: String = text.chars().filter(|c| c.is_ascii_graphic()).skip(2).take(1).collect();
    if !stop.is_empty() {
        let args = ["generate", &weights, "--prompt", "abc", "-n", "16", "--ignore-eos", "--stop", &stop, "--json"];
        let stopped = &json_of(&run(&args))["results"][0];
        assert_eq!(stopped["stop_reason"], "stop");
        assert_eq!(stopped["text"].as_str().unwrap(), text.split(&stop).next().unwrap());
    }
}

#[test]
fn no_tokens_shows_the_most_probable_ones() {
    let files = Files::new();
    let weights = files.gguf();
    let text = stdout(&run(&["generate", &weights, "--prompt-ids", "1,2", "--max-tokens", "0"]));
    assert_eq!(text.lines().count(), 5, "{text}");
    let value = json_of(&run(&["generate", &weights, "--prompt-ids", "1,2", "--max-tokens", "0", "--json"]));
    let top = value["results"][0]["top"].as_array().unwrap();
    assert!(top[0]["logit"].as_f64() >= top[4]["logit"].as_f64());
    let first = json_of(&run(&["generate", &weights, "--prompt-ids", "1,2", "-n", "1", "--ignore-eos", "--json"]));
    assert_eq!(first["results"][0]["ids"][0], top[0]["id"]);
}

#[test]
fn without_a_tokenizer_there_are_ids() {
    let dir = fixture("smollm2");
    let args = ["generate", "--weights", &dir, "--prompt-ids", "5,6,7", "-n", "4", "--precision", "f32"];
    let text = stdout(&run(&args));
    let ids: Vec<u32> = text.trim().split(',').map(|id| id.parse().unwrap()).collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(stdout(&run(&[&args[..], &["--no-stream"]].concat())), text);
    let gguf = format!("{dir}/model.f32.gguf");
    let args = ["auto", &gguf, "--prompt-ids", "5,6,7", "-n", "4", "--precision", "f32"];
    assert_eq!(stdout(&run(&args)), text);
    assert!(error_line(&run(&["generate", &dir, "--prompt", "x"])).contains("no tokenizer"));
}

#[test]
fn reports_go_to_stderr() {
    let files = Files::new();
    let weights = files.gguf();
    let base = ["generate", weights.as_str(), "--prompt", "Once", "-n", "6", "--ignore-eos"];
    let plain = stdout(&run(&base));
    let output = run(&[&base[..], &["--timing", "--profile", "--explain"]].concat());
    assert_eq!(stdout(&output), plain);
    let text = stderr(&output);
    for expected in [
        "time to first token",
        "peak memory",
        "prefill of 4 tokens",
        "parallel regions per token",
        "profile of prefill of 4 tokens: 1 runs",
        "profile of decode: 5 runs",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let plan = stdout(&run(&["generate", &weights, "--explain"]));
    assert!(plan.contains("decode: ") && plan.contains("T=512"), "{plan}");
    assert_eq!(stderr(&run(&[&base[..], &["--timing", "--quiet"]].concat())), "");
}

#[test]
fn every_kernel_and_cache_type_can_be_forced() {
    let files = Files::new();
    let weights = files.gguf();
    let base = ["generate", weights.as_str(), "--prompt", "Once", "-n", "6", "--ignore-eos", "--precision", "f32"];
    let exact = stdout(&run(&[&base[..], &["--kv-type", "f32", "--isa", "scalar", "-t", "1"]].concat()));
    for isa in rlx_models::runtime::Isa::available() {
        let isa = isa.to_string();
        let text = stdout(&run(&[&base[..], &["--kv-type", "f32", "--isa", &isa, "--threads", "3"]].concat()));
        assert_eq!(text, exact, "{isa}");
    }
    for kv in ["f16", "q8"] {
        stdout(&run(&[&base[..], &["--kv-type", kv]].concat()));
    }
}

#[test]
fn chat_takes_turns() {
    let files = Files::new();
    let weights = files.gguf();
    let saved = files.path("talk.json");
    let base = ["chat", "--weights", &weights, "-n", "4", "--ignore-eos"];
    let one = run(&[&base[..], &["Hello", "there"]].concat());
    let first = stdout(&one);
    assert!(first.ends_with('\n'));
    let input = format!("Hello there\n\nHow\\\nare you?\n/save {saved}\n/reset\nHello there\n/exit\nnot read\n");
    let talk = run_with(&base, &input);
    let text = stdout(&talk);
    assert!(text.starts_with(&first), "{text:?}");
    assert!(text.ends_with(&first), "after /reset the first answer comes again: {text:?}");
    let messages: Value = serde_json::from_slice(&fs::read(&saved).unwrap()).unwrap();
    let roles: Vec<&str> = messages.as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    assert_eq!(messages[2]["content"], "How\nare you?");
    // A saved talk goes on as if it had not been interrupted.
    let go_on = stdout(&run_with(&base, &format!("/load {saved}\nAnd now?\n")));
    let at_once = stdout(&run_with(&base, "Hello there\nHow\\\nare you?\nAnd now?\n"));
    assert!(at_once.ends_with(&go_on), "{at_once:?} {go_on:?}");
    let system = stdout(&run(&[&base[..], &["--system", "Be brief.", "Hello there"]].concat()));
    assert_eq!(system, stdout(&run_with(&base, "/system Be brief.\nHello there\n")));
    let value = json_of(&run(&[&base[..], &["--json", "Hello there"]].concat()));
    assert_eq!(value["ids"].as_array().unwrap().len(), 4);
    assert_eq!(format!("{}\n", value["text"].as_str().unwrap()), first);
}

#[test]
fn chat_templates_apply_where_asked() {
    let files = Files::new();
    let weights = files.gguf();
    let ids = |args: &[&str]| {
        let base = ["generate", weights.as_str(), "-n", "3", "--ignore-eos", "--json"];
        let value = json_of(&run(&[&base[..], args].concat()));
        value["results"][0]["timing"]["prompt_tokens"].as_u64().unwrap()
    };
    // The template is `<role>content</role>` and `<assistant>`.
    assert_eq!(ids(&["--prompt", "hello"]), 5);
    let chat = ids(&["--prompt", "hello", "--chat"]);
    assert_eq!(chat, "<user>hello</user><assistant>".len() as u64);
    let system = ids(&["--prompt", "hello", "--system", "s"]);
    assert_eq!(system, chat + "<system>s</system>".len() as u64);
    let messages = r#"[{"role":"system","content":"s"},{"role":"user","content":"hello"}]"#;
    assert_eq!(ids(&["--messages-json", messages]), system);
    let chatml = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n".len() as u64;
    assert_eq!(ids(&["--prompt", "hello", "--chat", "--chat-template", "chatml"]), chatml);
}

#[test]
fn bench_measures_every_test() {
    let files = Files::new();
    let weights = files.gguf();
    let base = ["bench", "--weights", &weights, "-p", "8,16", "-n", "4", "-t", "1,2", "-r", "3"];
    let value = json_of(&run(&[&base[..], &["--json"]].concat()));
    let rows = value.as_array().unwrap();
    let names: Vec<(&str, u64)> =
        rows.iter().map(|row| (row["test"].as_str().unwrap(), row["threads"].as_u64().unwrap())).collect();
    assert_eq!(names, [("pp8", 1), ("pp16", 1), ("tg4", 1), ("pp8", 2), ("pp16", 2), ("tg4", 2)]);
    for row in rows {
        let mut keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let expected = [
            "isa",
            "kv_bytes",
            "load_ms",
            "model",
            "peak_rss_bytes",
            "samples",
            "test",
            "threads",
            "tokens_per_second",
        ];
        assert_eq!(keys, expected);
        assert!(row["kv_bytes"].as_u64() > Some(0));
        let mut samples: Vec<f64> = row["samples"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        samples.sort_by(f64::total_cmp);
        assert_eq!(samples.len(), 3);
        assert_eq!(row["tokens_per_second"].as_f64(), Some(samples[1]));
    }
    let table = stdout(&run(&base));
    assert_eq!(table.lines().count(), 8, "{table}");
    assert_eq!(run(&["bench", &weights, "-p", "0", "-n", "0"]).status.code(), Some(2));
}

#[test]
fn bench_measures_at_every_depth_and_number_of_sequences() {
    let files = Files::new();
    let weights = files.gguf();
    let args = ["bench", &weights, "-p", "8", "-n", "4", "-d", "0,70", "--sequences", "1,3", "-r", "1", "-t", "1"];
    let value = json_of(&run(&[&args[..], &["--json"]].concat()));
    let names: Vec<&str> = value.as_array().unwrap().iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp8", "tg4", "tg4 x3", "pp8 @ d70", "tg4 @ d70", "tg4 x3 @ d70"]);
    assert!(value.as_array().unwrap().iter().all(|row| row["tokens_per_second"].as_f64() > Some(0.0)));
    let too_long = run(&["bench", &weights, "-p", "0", "-n", "4", "-d", "300000", "--sequences", "4"]);
    assert_eq!(too_long.status.code(), Some(1));
    assert!(stderr(&too_long).contains("tg4 x4 @ d300000 is more than a test of a million tokens"));
    let huge = usize::MAX.to_string();
    for args in [["-d", &huge], ["--sequences", &huge], ["-p", &huge], ["-n", &huge]] {
        let too_long = run(&[&["bench", &weights][..], &args].concat());
        assert!(stderr(&too_long).contains("more than a test of a million tokens"), "{args:?}");
    }
    assert_eq!(run(&["bench", &weights, "--sequences", "0"]).status.code(), Some(2));
}

#[test]
fn perplexity_of_a_text() {
    let files = Files::new();
    let weights = files.gguf();
    let text = files.write("text.txt", "The quick brown fox jumps over the lazy dog. ".repeat(6).as_bytes());
    let args = ["perplexity", "--weights", &weights, "--text", &text, "--ctx", "32", "--json"];
    let value = json_of(&run(&args));
    assert_eq!((value["windows"].as_u64(), value["tokens"].as_u64()), (Some(8), Some(8 * 15)));
    let perplexity = value["perplexity"].as_f64().unwrap();
    assert!(perplexity > 2.0 && perplexity < 1e6, "{perplexity}");
    assert!(stdout(&run(&args[..args.len() - 1])).starts_with(&format!("perplexity {perplexity:.4}")));
    let short = ["perplexity", "--weights", &weights, "--text", &text];
    assert!(error_line(&run(&short)).contains("fewer than one window of 512"));
}

#[test]
fn forward_writes_what_parity_compares() {
    let files = Files::new();
    let (dir, out) = (fixture("llama32"), files.path("out.safetensors"));
    let inputs = format!("{dir}/expected.safetensors");
    let args = ["forward", "--model", &dir, "--inputs", &inputs, "--outputs", &out, "--greedy", "7"];
    let text = stdout(&run(&args));
    assert!(text.contains("out.logits") && text.contains("[1, 41, 311]"), "{text}");
    // The outputs as another fixture's expectation: exactly met.
    let own = PathBuf::from(files.path("own"));
    fs::create_dir(&own).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(format!("{dir}/{name}"), own.join(name)).unwrap();
    }
    let mut tensors = rlx_models::core::read_tensors(PathBuf::from(&out).as_path()).unwrap();
    let recorded = rlx_models::core::read_tensors(PathBuf::from(&inputs).as_path()).unwrap();
    tensors.insert("in.input_ids".into(), recorded["in.input_ids"].clone());
    let write = |tensors: &_| rlx_models::core::write_tensors(&own.join("expected.safetensors"), tensors).unwrap();
    write(&tensors);
    let own_text = own.to_str().unwrap();
    let value = json_of(&run(&["parity", own_text, "--json"]));
    assert_eq!(value[0]["passed"], true);
    assert!(value[0]["cases"][0]["tensors"].as_array().unwrap().len() >= 7);
    // Something else is a miss, and so is an output that the model does not give.
    tensors.insert("out.extra".into(), recorded["out.logits"].clone());
    write(&tensors);
    let output = run(&["parity", &dir, own_text]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAIL: the model does not give it"), "{text}");
    assert!(text.matches("PASS\n").count() > 10, "the other fixture still passes: {text}");
}

#[test]
fn parity_of_both_fixtures_in_all_forms() {
    let value = json_of(&run(&["parity", &fixture("llama32"), &fixture("smollm2"), "--json"]));
    for report in value.as_array().unwrap() {
        let cases: Vec<&str> =
            report["cases"].as_array().unwrap().iter().map(|case| case["case"].as_str().unwrap()).collect();
        assert_eq!(cases, ["config.json", "config.hub.json", "model.f32.gguf"]);
        assert_eq!(report["passed"], true);
    }
    let missing = run(&["parity", "no/such/dir", "--json"]);
    assert_eq!(missing.status.code(), Some(1));
    let value: Value = serde_json::from_slice(&missing.stdout).unwrap();
    assert_eq!(value[0]["passed"], false);
}

#[test]
fn bad_prompts_are_one_line() {
    let files = Files::new();
    let weights = files.gguf();
    let generate = |extra: &[&str]| run(&[&["generate", weights.as_str()], extra].concat());
    let long = "x".repeat(40);
    for (args, expected) in [
        (&["--prompt", ""][..], "the prompt is empty"),
        (&["--prompt-ids", ""], "--prompt-ids"),
        (&["--prompt-ids", "1,x"], "`x` is no token id"),
        (&["--prompt-ids", "1,99999"], "token id 99999 is outside the vocabulary of 260"),
        (&["--prompt-ids", "1,99999", "--max-tokens", "0"], "token id 99999"),
        (&["--prompt", &long, "--max-seq", "16"], "the prompt has 40 tokens, but at most 16 fit"),
        (&["--prompt", &long, "--max-seq", "16", "--max-tokens", "0"], "40 tokens"),
        (&["--prompt-file", "no/such/file"], "no/such/file"),
        (&["--messages-json", "[]"], "the conversation is empty"),
        (&["--messages-json", "{"], "--messages-json"),
        (&["--prompt", "x", "--tokenizer", "no/such/tokenizer.json"], "no/such/tokenizer.json"),
        (&["--prompt", "x", "--config", "no/such/config.json"], "no/such/config.json"),
        (&["--prompt", "x", "--chat", "--chat-template", "{% if %}"], "template"),
        (&["--prompt", "x", "--max-memory-gb", "0.000001"], "--max-memory-gb"),
        (&["--prompt", "x", "--format", "safetensors"], "--format"),
    ] {
        let line = error_line(&generate(args));
        assert!(line.contains(expected), "{args:?}: {line}");
        let output = generate(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(value["error"].as_str().unwrap().contains(expected), "{args:?}: {value}");
    }
    for usage in [
        &["--device", "cuda", "--prompt", "x"][..],
        &["--isa", "sse9", "--prompt", "x"],
        &["--temperature", "-1", "--prompt", "x"],
        &["--prompt", "x", "--prompt-ids", "1"],
        &["--weights", "other.gguf", "--prompt", "x"],
        &["--system", "s", "--raw-prompt", "--prompt", "x"],
        &[],
    ] {
        let output = generate(usage);
        assert_eq!(output.status.code(), Some(2), "{usage:?}: {}", stderr(&output));
    }
    assert!(error_line(&run(&["chat", "--weights", &weights, ""])).contains("the message is empty"));
}

#[test]
fn bad_weights_are_one_line() {
    let files = Files::new();
    let bytes = fs::read(files.gguf()).unwrap();
    let prompt = ["--prompt", "x", "-n", "2"];
    let generate = |path: &str| run(&[&["generate", path], &prompt[..]].concat());
    assert!(error_line(&generate("no/such/file.gguf")).contains("no/such/file.gguf"));
    assert!(error_line(&generate(&files.write("empty.gguf", b""))).contains("empty.gguf"));
    assert!(error_line(&generate(&files.write("noise.gguf", &[7; 4096]))).contains("noise.gguf"));
    for part in 1..64 {
        let cut = &bytes[..bytes.len() * part / 64];
        let line = error_line(&generate(&files.write("cut.gguf", cut)));
        assert!(line.contains("cut.gguf"), "{part}/64: {line}");
    }
    // Counts of tensors and of keys.
    for at in [8, 16] {
        let mut huge = bytes.clone();
        huge[at..at + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
        error_line(&generate(&files.write("huge.gguf", &huge)));
    }
    // The element type follows the dims in a tensor's entry.
    let name = b"blk.0.attn_q.weight";
    let entry = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let mut unknown = bytes.clone();
    unknown[entry + 4 + 16..][..4].copy_from_slice(&200u32.to_le_bytes());
    let line = error_line(&generate(&files.write("type.gguf", &unknown)));
    assert!(line.contains("blk.0.attn_q.weight") && line.contains("200"), "{line}");
    // An offset that is another tensor's.
    let mut overlap = bytes.clone();
    overlap[entry + 4 + 16 + 4..][..8].copy_from_slice(&0u64.to_le_bytes());
    error_line(&generate(&files.write("overlap.gguf", &overlap)));
}

#[test]
fn other_architectures_are_pointed_to_their_command() {
    let files = Files::new();
    let other = files.gguf_of("qwen3");
    let line = error_line(&run(&["llama32", "--weights", &other, "--prompt", "x"]));
    assert!(line.contains("qwen3 file") && line.contains("rlx-run qwen3"), "{line}");
    let unknown = files.gguf_of("nosuch");
    for command in ["llama32", "auto"] {
        let line = error_line(&run(&[command, "--weights", &unknown, "--prompt", "x"]));
        assert!(line.contains("architecture `nosuch` is not supported"), "{line}");
    }
}

#[test]
fn without_weights_there_is_the_default_model() {
    let files = Files::new();
    let cache = files.path("cache");
    for command in ["chat", "generate", "llama32"] {
        let mut args = vec![command, "--offline", "--cache-dir", &cache];
        args.extend(if command == "chat" { vec!["hi"] } else { vec!["--prompt", "hi"] });
        let output = run(&args);
        assert!(error_line(&output).contains("smollm2-135m-instruct"), "{}", stderr(&output));
        assert!(stderr(&output).contains("help: "), "the manual steps are told");
    }
    let blocked = files.write("file", b"");
    let line = error_line(&run(&[
        "chat",
        "--cache-dir",
        &format!("{blocked}/cache"),
        "--hub-endpoint",
        "http://127.0.0.1:9",
        "hi",
    ]));
    assert!(line.contains("file/cache"), "{line}");
}

#[test]
fn conversations_reuse_what_has_run() {
    use rlx_models::cli::run::chat::Conversation;
    use rlx_models::core::{Event, GenerateOptions};
    let files = Files::new();
    let options = rlx_models::runtime::SessionOptions { max_seq: 256, ..Default::default() };
    let generate = GenerateOptions { max_tokens: 6, ignore_eos: true, ..GenerateOptions::default() };
    let mut talk = Conversation::new(files.model(), options, generate).unwrap();
    // The answer, and how many tokens of the prompt had to run for it.
    let say = |talk: &mut Conversation, text: &str| {
        let mut ran = 0;
        let answer = talk.say(text, &mut |event| {
            if let Event::Prompt { total, .. } = event {
                ran = total;
            }
            std::ops::ControlFlow::Continue(())
        });
        answer.map(|answer| (answer.text, ran))
    };
    let (first, full) = say(&mut talk, "hello").unwrap();
    let (_, second) = say(&mut talk, "and now?").unwrap();
    talk.reset();
    let (again, rest) = say(&mut talk, "hello").unwrap();
    assert_eq!((full, again), ("<user>hello</user><assistant>".len(), first));
    assert!(second < full + 30, "{second} tokens ran: the first turn again?");
    assert_eq!(rest, 1, "the whole prompt is in the cache");
    // A message that does not fit leaves the conversation as it was.
    let before = json!(talk.messages());
    assert!(say(&mut talk, &"x".repeat(300)).is_err());
    assert_eq!(json!(talk.messages()), before);
    assert!(say(&mut talk, "short").is_ok());
}
