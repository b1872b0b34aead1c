//! `--profile` and `--explain` of every command that runs a model.

mod tiny;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rlx_core::testing::{Random, letters_tokenizer};
use rlx_ir::DType;
use rlx_models::whisper::{WhisperConfig, WhisperModel};
use rlx_weights::gguf::GgufWriter;
use rlx_weights::safetensors_file::write_safetensors;
use rlx_weights::{Checkpoint, GgufMetadata, OpenOptions};
use tiny::Files;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rlx-run")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn fixture(family: &str, name: &str) -> String {
    format!("{}/../../models/{family}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Both flags tell on stderr what is expected, of these networks, and leave the answer alone. Without an input, the plan is the answer.
#[track_caller]
fn both_flags(command: &[&str], input: &[&str], networks: &[&str], titles: &[&str]) {
    let whole = [command, input].concat();
    let plain = run(&whole);
    let (answer, silence) = (stdout(&plain), stderr(&plain));
    assert!(!silence.contains("regions") && !silence.contains("profile of"), "{silence}");
    let output = run(&[&whole[..], &["--profile", "--explain"]].concat());
    // Speeds may be part of an answer; its words are not.
    let words = |text: &str| text.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().to_owned();
    assert_eq!(words(&stdout(&output)), words(&answer));
    let text = stderr(&output);
    for network in networks {
        let table =
            text.split(&format!("profile of {network}: ")).nth(1).unwrap_or_else(|| panic!("{network}: {text}"));
        assert!(table.contains(" runs, ") && table.contains("fused_linear") && table.contains("ms per run"), "{text}");
    }
    let lines: Vec<&str> = text.lines().collect();
    for title in titles {
        let mut pairs = lines.windows(2).filter(|pair| pair[0].starts_with(title));
        assert!(
            pairs.any(|pair| pair[1].starts_with("plan for ") && pair[1].contains(" regions, ")),
            "{title}: {text}"
        );
    }
    let quiet = run(&[&whole[..], &["--profile", "--explain", "--quiet"]].concat());
    assert_eq!(stderr(&quiet), "");
}

/// A plan on stdout, and nothing on stderr.
#[track_caller]
fn plan_alone(command: &[&str], titles: &[&str]) {
    let output = run(&[command, &["--explain", "--quiet"]].concat());
    let text = stdout(&output);
    assert!(titles.iter().all(|title| text.contains(title)) && text.contains(" regions, "), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&run(&[command, &["--explain", "--json"]].concat()))).unwrap();
    assert_eq!(json["plan"].as_str(), Some(text.as_str()));
}

#[test]
fn language_models() {
    let files = Files::new();
    let weights = files.gguf();
    let weights = ["--weights", weights.as_str()];
    let with = |command: &'static str| [&[command], &weights[..]].concat();
    let prompt = ["--prompt", "Once upon", "-n", "4", "--ignore-eos"];
    let networks = ["prefill of 9 tokens", "decode"];
    both_flags(&with("generate"), &prompt, &networks, &["prefill of 9 tokens", "decode: "]);
    both_flags(&with("llama32"), &prompt, &networks, &["prefill of 9 tokens"]);
    both_flags(&with("generate"), &["--prompt", "Once", "-n", "0"], &["prefill"], &["prefill of 4 tokens"]);
    plan_alone(&with("generate"), &["prefill of 512 tokens", "decode: "]);
    both_flags(&with("chat"), &["-n", "3", "Hello"], &["the turn"], &["prefill of 512 tokens"]);
    let bench = ["-p", "8", "-n", "2", "-r", "1", "-t", "1"];
    both_flags(&with("bench"), &bench, &["pp8", "tg2"], &["pp8", "tg2"]);
    let text = files.write("text.txt", "The quick brown fox jumps over the lazy dog. ".repeat(6).as_bytes());
    let of_text = ["--text", text.as_str(), "--ctx", "200"];
    both_flags(
        &with("perplexity"),
        &of_text,
        &["the windows"],
        &["100 tokens of context", "64 tokens that are scored"],
    );
    plan_alone(&with("perplexity"), &["256 tokens of context", "64 tokens that are scored"]);
    assert_eq!(run(&with("perplexity")).status.code(), Some(2), "a text is needed where no plan is asked for");
}

#[test]
fn one_pass_on_tensors() {
    let files = Files::new();
    let out = files.path("out.safetensors");
    for (family, name, networks) in [
        ("rlx-llama32", "llama32", &["decoder"][..]),
        ("rlx-bert", "bert", &["encoder"]),
        ("rlx-whisper", "whisper", &["encoder", "decoder"]),
        ("rlx-wav2vec2-bert", "relative", &["encoder"]),
    ] {
        let dir = fixture(family, name);
        let inputs = format!("{dir}/expected.safetensors");
        both_flags(&["forward", "--model", &dir], &["--inputs", &inputs, "--outputs", &out], networks, networks);
    }
    let dir = fixture("rlx-llama32", "llama32");
    let of = |form: &str| format!("{dir}/{form}: decoder");
    let networks = [of("config.json"), of("model.f32.gguf")];
    let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
    both_flags(&["parity"], &[&dir], &networks, &networks);
}

/// The fixture of rlx-bert with a tokenizer; `classifier` makes a cross-encoder of it.
fn encoder(files: &Files, classifier: bool) -> String {
    let dir = files.path(if classifier { "cross-encoder" } else { "encoder" });
    let from = fixture("rlx-bert", "bert");
    fs::create_dir_all(format!("{dir}/1_Pooling")).unwrap();
    for file in ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json"] {
        fs::copy(format!("{from}/{file}"), format!("{dir}/{file}")).unwrap();
    }
    fs::write(format!("{dir}/tokenizer.json"), letters_tokenizer().to_string()).unwrap();
    if classifier {
        let checkpoint = Checkpoint::open(Path::new(&from), &OpenOptions::default()).unwrap();
        let mut tensors: Vec<_> =
            checkpoint.tensors().map(|t| (t.name.as_str(), t.dtype, t.shape.as_slice(), &*t.data)).collect();
        let (weight, bias) = ([1u8; 52 * 4], [0u8; 4]);
        tensors.push(("classifier.weight", DType::F32, &[1, 52][..], &weight));
        tensors.push(("classifier.bias", DType::F32, &[1][..], &bias));
        write_safetensors(Path::new(&format!("{dir}/model.safetensors")), &tensors).unwrap();
    }
    dir
}

#[test]
fn encoders() {
    let files = Files::new();
    let (encoder, cross) = (encoder(&files, false), encoder(&files, true));
    let with = |command: &'static str| [command, "--weights", encoder.as_str()];
    let texts = ["abc", "abcd"];
    both_flags(&with("embed"), &texts, &["encoder"], &["encoder: 6 tokens"]);
    both_flags(&with("similarity"), &texts, &["encoder"], &["encoder: 6 tokens"]);
    let lines = files.write("texts.txt", b"ab\nabcdefgh\n");
    // Of a file nobody knows the longest text before the end.
    both_flags(&with("embed"), &["--input", &lines], &["encoder"], &["encoder: 40 tokens"]);
    let index = files.path("index.npy");
    stdout(&run(&[&with("embed")[..], &["--input", &lines, "--output", &index]].concat()));
    let query = ["--index", index.as_str(), "--query", "ab", "--query", "abc"];
    both_flags(&with("search"), &query, &["encoder"], &["encoder: 5 tokens"]);
    plan_alone(&with("search"), &["encoder: 40 tokens"]);
    let rerank = ["rerank", "--weights", cross.as_str()];
    both_flags(&rerank, &["--query", "ab", "a", "abc"], &["encoder"], &["encoder: 8 tokens"]);
    plan_alone(&rerank, &["encoder: 40 tokens"]);
    for command in [&with("search")[..], &rerank] {
        assert_eq!(run(command).status.code(), Some(2), "{command:?}: a query is needed where no plan is asked for");
    }
}

/// A Whisper model of random weights whose windows are short, with a vocabulary of bytes.
fn whisper(files: &Files) -> String {
    let special = ["<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"];
    let times = (0..60).map(|i| format!("<|{:.2}|>", f64::from(i) * 0.02));
    let tokens: Vec<String> = (0..=255).map(tiny::byte_token).chain(special.map(str::to_owned)).chain(times).collect();
    let types: Vec<i32> = (0..tokens.len()).map(|id| if id < 256 { 1 } else { 3 }).collect();
    let config = WhisperConfig { vocab_size: tokens.len(), num_mel_bins: 80, ..WhisperConfig::tiny() };
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", "whisper");
    metadata.set("whisper.encoder.attention.head_count", config.encoder_attention_heads as u32);
    metadata.set("whisper.decoder.attention.head_count", config.decoder_attention_heads as u32);
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", "gpt-2");
    metadata.set("tokenizer.ggml.tokens", &tokens[..]);
    metadata.set("tokenizer.ggml.token_type", types);
    metadata.set("tokenizer.ggml.merges", &[""; 0][..]);
    metadata.set("tokenizer.ggml.eos_token_id", 256u32);
    let mut writer = GgufWriter::from_metadata(metadata);
    let parameters = WhisperModel::parameters(&config).unwrap();
    for (name, shape) in &parameters {
        writer.add_tensor(name, DType::F32, shape).unwrap();
    }
    let path = files.path("whisper.gguf");
    let mut stream = writer.create(Path::new(&path)).unwrap();
    let mut random = Random::new(1);
    for (_, shape) in &parameters {
        let values = (0..shape.iter().product()).flat_map(|_| (0.2 * random.normal()).to_le_bytes());
        stream.write(&values.collect::<Vec<u8>>()).unwrap();
    }
    stream.finish().unwrap();
    path
}

/// Half a second of a hum, as a WAV file.
fn hum(files: &Files) -> String {
    let samples = (0..8000).map(|i| ((f64::from(i) * 0.1).sin() * 9000.0) as i16).map(i16::to_le_bytes);
    let mut wav =
        b"RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\x80\x3e\0\0".to_vec();
    wav.extend(samples.flatten());
    files.write("hum.wav", &wav)
}

#[test]
fn speech() {
    let files = Files::new();
    let (weights, sound) = (whisper(&files), hum(&files));
    let input = [
        sound.as_str(),
        "--no-speech-check",
        "--no-timestamps",
        "--temperature-increment=0",
        "--suppress-tokens=",
        "--beam-size=3",
        "--max-tokens=4",
    ];
    for command in ["transcribe", "whisper"] {
        let command = [command, "--weights", weights.as_str()];
        let titles = ["encoder: a window of 22 frames", "decoder: a token of each of 3 beams"];
        both_flags(&command, &input, &["encoder", "decoder"], &titles);
        plan_alone(&command, &["encoder: a window of 22 frames", "decoder: a token of each of 5 beams"]);
    }
    let weights = fixture("rlx-wav2vec2-bert", "ctc");
    let command = ["wav2vec2-bert", "--weights", weights.as_str()];
    both_flags(&command, &["--seq", "20"], &["encoder"], &["encoder: 20 rows of features"]);
    let dry = run(&[&command[..], &["--dry", "--explain"]].concat());
    assert!(stderr(&dry).starts_with("encoder: 100 rows of features\nplan for "), "{}", stderr(&dry));
    stdout(&dry);
    let long = run(&[&command[..], &["--seq", "18446744073709551615", "--explain"]].concat());
    assert_eq!(long.status.code(), Some(2), "{}", stderr(&long));
    // What runs no graph says so instead.
    let help = stdout(&run(&["vad", "--help"]));
    assert!(help.contains("no steps to --profile"), "{help}");
}
