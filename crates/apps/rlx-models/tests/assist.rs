//! `--draft`, `--json-schema` and the like, on tiny models of random weights.

mod tiny;

use std::process::{Command, Output};

use serde_json::Value;
use tiny::Files;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rlx-run")).args(args).output().unwrap()
}

fn json_of(args: &[&str]) -> Value {
    let output = run(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn drafts_leave_the_answer_as_it_is() {
    let files = Files::new();
    let model = files.gguf();
    for sampling in [&["--temperature", "0"][..], &["--temperature", "0.9", "--seed", "7"]] {
        let base = ["generate", "--weights", &model, "--prompt", "abcabcabcabcabc", "-n", "60", "--ignore-eos"];
        let base = [&base[..], sampling].concat();
        let plain = json_of(&base);
        assert!(plain["results"][0]["timing"]["drafts"].is_null());
        for draft in ["ngram", &model] {
            let found = json_of(&[&base[..], &["--draft", draft, "--draft-tokens", "3"]].concat());
            assert_eq!(found["results"][0]["ids"], plain["results"][0]["ids"], "{draft}");
            let drafts = &found["results"][0]["timing"]["drafts"];
            let number = |name: &str| drafts[name].as_u64().unwrap();
            assert_eq!(number("plain_steps") + number("verify_steps") + number("accepted_tokens"), 59, "{drafts}");
        }
    }
    let chat = ["chat", "--weights", &model, "-n", "20", "hello"];
    assert_eq!(json_of(&chat)["ids"], json_of(&[&chat[..], &["--draft", &model]].concat())["ids"]);
}

#[test]
fn drafts_that_cannot_be() {
    let files = Files::new();
    let model = files.gguf();
    let fails = |args: &[&str]| {
        let output = run(&[&["generate", "--weights", &model, "--prompt", "x"], args].concat());
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let text = fails(&["--draft", &files.path("none.gguf")]);
    assert!(text.contains("none.gguf"), "{text}");
    let other = files.gguf_with_token(65, "zz");
    let text = fails(&["--draft", &other]);
    assert!(text.contains("vocabulary") && text.contains("token 65 is \"zz\""), "{text}");
    let text = fails(&["--draft", "ngram", "--draft-tokens", "16"]);
    assert!(text.contains("from 1 to 15"), "{text}");
}

#[test]
fn prompts_run_together_answer_as_alone() {
    let files = Files::new();
    let model = files.gguf();
    let rows = ["65,66,67", "70", "80,81,82,83,84,85,86", "65,66"];
    for sampling in [&["--temperature", "0"][..], &["--temperature", "0.9", "--seed", "5"]] {
        let ids = |rows: &str| {
            let found =
                json_of(&[&["generate", "--weights", &model, "-n", "30", "--prompt-ids", rows], sampling].concat());
            let results = found["results"].as_array().unwrap().clone();
            results.iter().map(|result| (result["ids"].clone(), result["text"].clone())).collect::<Vec<_>>()
        };
        let together = ids(&rows.join(";"));
        let alone: Vec<_> = rows.iter().flat_map(|row| ids(row)).collect();
        assert_eq!(together, alone);
    }
}

#[test]
fn profiles_beside_the_weights() {
    let files = Files::new();
    let model = files.gguf();
    let base = ["llama32", "--weights", &model, "--prompt", "abc", "-n", "20", "--ignore-eos"];
    files.write("qwen3.rlx.toml", b"not of this family");
    files.write("llama32.rlx.toml", b"max_seq = 8");
    assert_eq!(json_of(&base)["results"][0]["stop_reason"], "max_seq");
    assert_eq!(json_of(&[&base[..], &["--max-seq", "100"]].concat())["results"][0]["stop_reason"], "max_tokens");
    let explained = run(&["llama32", "--weights", &model, "--explain"]);
    assert!(String::from_utf8_lossy(&explained.stdout).starts_with("profile "));
    files.write("llama32.rlx.toml", b"thread = 2");
    let failed = run(&base);
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && text.contains("llama32.rlx.toml"), "{text}");
    assert!(text.contains("unknown key `thread`; did you mean `threads`?"), "{text}");
}

#[cfg(feature = "grammar")]
#[test]
fn answers_have_the_form_that_is_asked_for() {
    let files = Files::new();
    let model = files.gguf();
    let schema = r#"{"type": "object", "properties": {"a": {"type": "integer", "maximum": 99, "minimum": 0},
        "b": {"enum": ["x", "y"]}}, "required": ["a", "b"], "additionalProperties": false}"#;
    let file = files.write("schema.json", schema.as_bytes());
    let base = ["--weights", &model, "-n", "100", "--json-schema"];
    for draft in [&[][..], &["--draft", "ngram"], &["--draft", &model]] {
        for args in [&["generate", "--prompt", "x"][..], &["chat", "say"], &["llama32", "--prompt-ids", "65,66"]] {
            for schema in [schema, &file] {
                let found =
                    json_of(&[args, &base, &[schema], draft, &["--temperature", "1.5", "--seed", "3"]].concat());
                let found = found.get("results").map_or(&found, |results| &results[0]);
                assert_eq!((&found["complete"], &found["stop_reason"]), (&true.into(), &"stop".into()));
                let value: Value = serde_json::from_str(found["text"].as_str().unwrap()).unwrap();
                assert!(value["a"].as_u64().is_some_and(|a| a <= 99) && value["b"].is_string(), "{value}");
            }
        }
    }
    let found = json_of(&["generate", "--weights", &model, "--prompt", "x", "--regex", "(ab|cd){3}"]);
    let text = found["results"][0]["text"].as_str().unwrap();
    assert!(text.len() == 6 && text.as_bytes().chunks(2).all(|pair| pair == b"ab" || pair == b"cd"), "{text}");

    let cut = run(&["generate", "--weights", &model, "--prompt", "x", "-n", "4", "--json-schema", schema]);
    assert!(cut.status.success());
    assert!(String::from_utf8_lossy(&cut.stderr).contains("not complete"));
    let output = run(&["generate", "--weights", &model, "--prompt", "x", "--regex", "a", "--ignore-eos"]);
    assert_eq!(output.status.code(), Some(2));
    let bad = files.write("bad.lark", b"start: \"a\"\n  nope");
    let output = run(&["generate", "--weights", &model, "--prompt", "x", "--grammar", &bad]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("bad.lark: grammar: 2("), "{text}");
}
