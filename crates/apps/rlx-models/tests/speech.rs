//! `wer`, and the wrong usage of `transcribe` that needs no model.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rlx-run")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn word_error_rate() {
    let output = run(&["wer", "--text", "ask not what your country", "ask what your own county"]);
    assert_eq!(stdout(&output), "60.00 %  (5 words: 1 substitutions, 1 deletions, 1 insertions)\n");
    let args = [
        "wer",
        "--text",
        "It's $20, Mr. Grey!",
        "it is twenty dollars mister gray",
        "--normalize",
        "english",
        "--json",
    ];
    let value: Value = serde_json::from_str(&stdout(&run(&args))).unwrap();
    assert_eq!((&value["rate"], &value["reference"]), (&0.0.into(), &5.into()));
}

#[test]
fn word_error_rate_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("ref"), "a b\nc d\n").unwrap();
    std::fs::write(path("hyp"), "a b c\nd\n").unwrap();
    std::fs::write(path("bad"), [0xff, 0xfe]).unwrap();
    assert!(stdout(&run(&["wer", &path("ref"), &path("hyp")])).starts_with("0.00 %"));
    assert!(stdout(&run(&["wer", &path("ref"), &path("hyp"), "--lines"])).starts_with("50.00 %"));
    for (hyp, args) in [("bad", [].as_slice()), ("missing", &[]), ("bad", &["--unit", "lines"])] {
        let (reference, hypothesis) = (path("ref"), path(hyp));
        let output = run(&[["wer", &reference, &hypothesis].as_slice(), args].concat());
        assert!(!output.status.success() && stderr(&output).starts_with("error: "), "{}", stderr(&output));
    }
}

#[test]
fn wrong_usage_of_transcribe() {
    for (args, part) in [
        (["transcribe"].as_slice(), "sound file is needed"),
        (&["transcribe", "a.wav", "--highlight-words"], "--word-align dtw"),
        (&["transcribe", "a.wav", "--language", "klingon"], "language code"),
        (&["whisper", "x/a.wav", "y/a.wav", "-o", "out"], "same name"),
        (&["whisper", "--wav", "a.wav", "--output-format", "srt,vtt"], "--output DIR"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
    }
    assert!(stdout(&run(&["transcribe", "--help"])).contains("Examples:"));
}
