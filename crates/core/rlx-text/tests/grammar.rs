//! Answers of a model that says anything, held to schemas, grammars and expressions, over byte-level and SentencePiece
//! vocabularies.

#![cfg(feature = "grammar")]

mod common;

use common::data;
use regex::Regex;
use rlx_text::{Grammar, GrammarSource, LogitsProcessor, Sampler, SamplerOptions, TextError, Tokenizer};
use serde_json::{Value, json};

fn load(name: &str) -> Tokenizer {
    Tokenizer::from_file(&data(&format!("tiny/{name}/tokenizer.json"))).unwrap()
}

/// What a model of random logits answers: text, and whether it ended by itself. With `forced`, tokens that the grammar is sure of
/// are taken as they are.
fn answer(tokenizer: &Tokenizer, grammar: &Grammar, seed: u64, forced: bool) -> (String, bool) {
    let options = SamplerOptions { temperature: 1.0, seed: Some(seed), ..SamplerOptions::default() };
    let mut sampler = Sampler::new(options).unwrap();
    let mut processor = grammar.processor();
    let mut history = vec![1, 2, 3];
    let mut bytes = Vec::new();
    let mut sure = Vec::new();
    for _ in 0..400 {
        // More rows than tokens, as models have.
        let mut logits = vec![0.0f32; tokenizer.vocab_size() + 37];
        processor.process(&mut logits, &history).unwrap();
        let id = sampler.sample(&mut logits, &history).unwrap();
        if tokenizer.eos_ids().contains(&id) {
            assert!(processor.is_accepting());
            return (String::from_utf8(bytes).unwrap(), true);
        }
        if forced && let Some(&first) = sure.first() {
            assert_eq!(id, first, "another token than the one that is sure");
        }
        history.push(id);
        bytes.extend(tokenizer.token_bytes(id));
        if processor.is_complete(&history).unwrap() {
            assert!(processor.is_accepting());
            return (String::from_utf8(bytes).unwrap(), true);
        }
        sure.clear();
        processor.forced(&history, &mut sure).unwrap();
    }
    assert!(!processor.is_accepting() || std::str::from_utf8(&bytes).is_ok());
    (String::from_utf8_lossy(&bytes).into_owned(), false)
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 6 },
            "born": { "type": "integer", "minimum": 1000, "maximum": 2025 },
            "kind": { "enum": ["cat", "dog", "ä"] },
            "tags": { "type": "array", "items": { "$ref": "#/$defs/tag" }, "minItems": 1, "maxItems": 3 },
        },
        "required": ["name", "born", "kind", "tags"],
        "additionalProperties": false,
        "$defs": { "tag": { "type": ["boolean", "null"] } },
    })
}

#[test]
fn json_follows_its_schema() {
    for name in ["byte_level", "spm"] {
        let tokenizer = load(name);
        let grammar = Grammar::new(&tokenizer, &GrammarSource::JsonSchema(person())).unwrap();
        for seed in 0..30 {
            let (text, ended) = answer(&tokenizer, &grammar, seed, true);
            assert!(ended, "{name}: {text}");
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
            let object = value.as_object().unwrap();
            let keys: Vec<&str> = object.keys().map(String::as_str).collect();
            assert_eq!(keys, ["name", "born", "kind", "tags"], "{name}");
            assert!(object["name"].as_str().unwrap().chars().count() <= 6, "{name}: {text}");
            assert!((1000..=2025).contains(&object["born"].as_i64().unwrap()), "{name}: {text}");
            assert!(["cat", "dog", "ä"].contains(&object["kind"].as_str().unwrap()), "{name}: {text}");
            let tags = object["tags"].as_array().unwrap();
            assert!((1..=3).contains(&tags.len()) && tags.iter().all(|tag| tag.is_boolean() || tag.is_null()));
            assert!(text.starts_with("{\"name\": \""), "{name}: {text}");
        }
    }
}

#[test]
fn expressions_and_grammars() {
    for name in ["byte_level", "spm"] {
        let tokenizer = load(name);
        let pattern = "[0-9]{4}-(0[1-9]|1[0-2])( [äöü]{2})?";
        let regex = Grammar::new(&tokenizer, &GrammarSource::Regex(pattern.into())).unwrap();
        let lark = "start: item (\"+\" item)*\nitem: /[a-c]{1,3}/ | \"(\" item \")\"\n";
        let lark = Grammar::new(&tokenizer, &GrammarSource::Lark(lark.into())).unwrap();
        let whole = Regex::new(&format!("^(?:{pattern})$")).unwrap();
        let mut ended_sums = 0;
        for seed in 0..30 {
            let (text, ended) = answer(&tokenizer, &regex, seed, false);
            assert!(ended && whole.is_match(&text), "{name}: {text}");
            let (text, ended) = answer(&tokenizer, &lark, seed, false);
            if ended {
                ended_sums += 1;
                assert_eq!(text.matches('(').count(), text.matches(')').count(), "{name}: {text}");
                assert!(text.split('+').all(|item| item.chars().any(|c| c.is_ascii_lowercase())), "{name}: {text}");
            }
        }
        assert!(ended_sums > 10, "{name}: {ended_sums}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    let tokenizer = load("byte_level");
    let error = |source| match Grammar::new(&tokenizer, &source) {
        Err(error @ TextError::Grammar { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{source:?} is accepted"),
    };
    let text = error(GrammarSource::Lark("start: \"yes\"\n  | nope".into()));
    assert!(text.starts_with("grammar: at 1(8)") && text.contains("nope"), "{text}");
    let text = error(GrammarSource::Regex("[0-9".into()));
    assert!(text.contains("unclosed"), "{text}");
    let text = error(GrammarSource::JsonSchema(json!({ "type": "objct" })));
    assert!(text.contains("objct"), "{text}");
    let text = error(GrammarSource::JsonSchema(json!({ "$ref": "#/$defs/none" })));
    assert!(text.contains("/$defs/none"), "{text}");
    let text = error(GrammarSource::JsonSchema(json!({ "$ref": "https://example.org/schema.json" })));
    assert!(text.contains("example.org"), "{text}");
}
