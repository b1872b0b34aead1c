//! Small tokenizers of every kind against the answers of the `tokenizers` library, read both from tokenizer.json and
//! as the GGUF vocabulary that the same tokenizer would be stored as.

mod common;

use common::{Check, cases, check, data, json};
use rlx_text::{FromHf, GgufVocab, TokenKind, Tokenizer};
use serde_json::Value;

const ALL: Check = Check { full: true, plain: true, decoded: true };

fn load(name: &str) -> Tokenizer {
    Tokenizer::from_file(&data(&format!("tiny/{name}/tokenizer.json"))).unwrap()
}

#[test]
fn tokenizer_json_files() {
    for name in ["byte_level", "spm", "word_piece", "unigram"] {
        check(&load(name), &cases(&format!("tiny/{name}/cases.json")), ALL);
    }
}

/// Tokens in id order and their GGUF types.
fn vocabulary(file: &Value) -> (Vec<String>, Vec<i32>) {
    let mut tokens: Vec<String> = Vec::new();
    if let Some(list) = file["model"]["vocab"].as_array() {
        tokens.extend(list.iter().map(|entry| entry[0].as_str().unwrap().to_owned()));
    }
    if let Some(map) = file["model"]["vocab"].as_object() {
        tokens.resize(map.len(), String::new());
        for (token, id) in map {
            tokens[id.as_u64().unwrap() as usize] = token.clone();
        }
    }
    let mut types = vec![1; tokens.len()];
    for added in file["added_tokens"].as_array().unwrap() {
        let id = added["id"].as_u64().unwrap() as usize;
        if id >= tokens.len() {
            tokens.resize(id + 1, String::new());
            types.resize(id + 1, 5);
        }
        tokens[id] = added["content"].as_str().unwrap().to_owned();
        types[id] = if added["special"].as_bool().unwrap() { 3 } else { 4 };
    }
    (tokens, types)
}

#[test]
fn gguf_byte_level_bpe() {
    let file = json("tiny/byte_level/tokenizer.json");
    let (tokens, types) = vocabulary(&file);
    let merges = file["model"]["merges"].as_array().unwrap().iter();
    let v = GgufVocab {
        model: "gpt2".into(),
        pre: Some("smollm".into()),
        tokens: tokens.into(),
        token_types: Some(types),
        merges: Some(merges.map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap())).collect()),
        bos_id: Some(1),
        eos_id: Some(2),
        add_bos: Some(true),
        add_eos: Some(true),
        ..GgufVocab::default()
    };
    let t = Tokenizer::from_gguf(&v).unwrap();
    assert!(t.warnings().is_empty(), "{:?}", t.warnings());
    check(&t, &cases("tiny/byte_level/cases.json"), Check { full: false, ..ALL });
    let ids = t.encode("x", true).unwrap();
    assert_eq!((ids[0], *ids.last().unwrap()), (1, 2));
    assert_eq!(t.eos_ids(), [0, 2]);
    assert_eq!(t.token_kind(2), Some(TokenKind::Control));
    assert_eq!(t.token_bytes(t.token_to_id("Ġ").unwrap()), b" ");
    assert_eq!(t.token_to_id("<tool_call>"), Some(t.vocab_size() as u32 - 1));

    let unknown = Tokenizer::from_gguf(&GgufVocab { pre: Some("no-such".into()), ..v.clone() }).unwrap();
    assert!(unknown.warnings()[0].contains("no-such"));
    assert_eq!(unknown.decode(&unknown.encode("Hello  12", false).unwrap(), true).unwrap(), "Hello  12");
}

#[test]
fn gguf_word_piece() {
    let file = json("tiny/word_piece/tokenizer.json");
    let (mut tokens, types) = vocabulary(&file);
    for (token, &kind) in tokens.iter_mut().zip(&types) {
        if kind == 1 {
            *token = match token.strip_prefix("##") {
                Some(rest) => rest.to_owned(),
                None => format!("▁{token}"),
            };
        }
    }
    let v = GgufVocab {
        model: "bert".into(),
        tokens: tokens.into(),
        token_types: Some(types),
        bos_id: Some(2),
        sep_id: Some(3),
        unk_id: Some(1),
        ..GgufVocab::default()
    };
    let t = Tokenizer::from_gguf(&v).unwrap();
    // A ▁ in the text itself cannot be told from a word start in this storage.
    let mut cases = cases("tiny/word_piece/cases.json");
    cases.retain(|c| !c.text.contains('▁'));
    check(&t, &cases, Check { decoded: false, plain: false, full: true });
    assert_eq!(t.decode(&t.encode("the other brother", true).unwrap(), true).unwrap(), "the other brother");
}

#[test]
fn gguf_unigram() {
    let file = json("tiny/unigram/tokenizer.json");
    let (tokens, types) = vocabulary(&file);
    let scores = file["model"]["vocab"].as_array().unwrap().iter().map(|e| e[1].as_f64().unwrap() as f32).collect();
    let v = GgufVocab {
        model: "t5".into(),
        tokens: tokens.into(),
        token_types: Some(types),
        scores: Some(scores),
        eos_id: Some(1),
        unk_id: Some(2),
        ..GgufVocab::default()
    };
    let t = Tokenizer::from_gguf(&v).unwrap();
    // The two treat white space around special tokens and at the ends differently; words are the same.
    let words: Vec<_> = cases("tiny/unigram/cases.json")
        .into_iter()
        .filter(|c| {
            let inner = c.text.trim() == c.text && !c.text.contains("  ") && !c.text.contains('<');
            inner && !c.text.is_empty() && !c.text.contains('▁')
        })
        .collect();
    assert!(words.len() > 100);
    check(&t, &words, Check { decoded: false, plain: true, full: true });
    assert_eq!(t.decode(&t.encode("the cat  sat ", true).unwrap(), true).unwrap(), "the cat sat");
}

fn spm() -> GgufVocab {
    let file = json("tiny/spm/tokenizer.json");
    let (tokens, mut types) = vocabulary(&file);
    types[0] = 2;
    for (token, kind) in tokens.iter().zip(&mut types) {
        if token.starts_with("<0x") {
            *kind = 6;
        }
    }
    let scores = (0..tokens.len()).map(|i| -(i as f32)).collect();
    GgufVocab {
        model: "llama".into(),
        tokens: tokens.into(),
        token_types: Some(types),
        scores: Some(scores),
        ..GgufVocab::default()
    }
}

/// The definition, slowly: merge the best neighbouring pair until none is a token.
fn naive_spm(v: &GgufVocab, text: &str) -> Vec<u32> {
    let id = |s: &str| v.tokens.iter().position(|t| t == s);
    let scores = v.scores.as_ref().unwrap();
    let mut parts: Vec<String> = format!(" {text}").replace(' ', "▁").chars().map(String::from).collect();
    loop {
        let mut best: Option<(f32, usize)> = None;
        for i in 1..parts.len() {
            if let Some(id) = id(&format!("{}{}", parts[i - 1], parts[i]))
                && best.is_none_or(|(s, _)| scores[id] > s)
            {
                best = Some((scores[id], i));
            }
        }
        let Some((_, i)) = best else { break };
        let right = parts.remove(i);
        parts[i - 1].push_str(&right);
    }
    let mut out = Vec::new();
    for part in parts {
        match id(&part) {
            Some(id) => out.push(id as u32),
            None => out.extend(part.bytes().map(|b| id(&format!("<0x{b:02X}>")).unwrap() as u32)),
        }
    }
    out
}

#[test]
fn gguf_spm_is_merging_by_score() {
    let v = spm();
    let t = Tokenizer::from_gguf(&v).unwrap();
    assert_eq!((t.bos_id(), t.eos_id(), t.unk_id()), (Some(1), Some(2), Some(0)));
    for c in cases("tiny/spm/cases.json").iter().filter(|c| !c.text.contains('<')) {
        if c.text.is_empty() {
            assert!(t.encode("", false).unwrap().is_empty());
            continue;
        }
        assert_eq!(t.encode(&c.text, false).unwrap(), naive_spm(&v, &c.text), "{:?}", c.text);
    }
}

#[test]
fn gguf_spm_spaces_and_specials() {
    let t = Tokenizer::from_gguf(&spm()).unwrap();
    assert_eq!(t.encode("", true).unwrap(), [1]);
    let ids = t.encode("the</s>the", true).unwrap();
    assert_eq!(ids[0], 1);
    // The word behind a special token gets its leading space too.
    let at = ids.iter().position(|&i| i == 2).unwrap();
    assert_eq!(ids[1..at], ids[at + 1..]);
    assert_eq!(t.decode(&ids, false).unwrap(), "<s>the</s> the".replace("<s>the", "<s> the"));
    assert_eq!(t.decode(&ids, true).unwrap(), "the the");
    // As untrusted text the markers are text.
    let plain = t.encode_plain("the</s>the").unwrap();
    assert!(!plain.contains(&2));
    assert_eq!(t.decode(&plain, true).unwrap(), "the</s>the");

    let no_prefix = Tokenizer::from_gguf(&GgufVocab { add_space_prefix: Some(false), ..spm() }).unwrap();
    assert_eq!(no_prefix.decode(&no_prefix.encode(" the", false).unwrap(), true).unwrap(), " the");

    let phi = Tokenizer::from_gguf(&GgufVocab { model_name: Some("Phi-3 mini".into()), ..spm() }).unwrap();
    assert_eq!(phi.encode("<s> \n the", false).unwrap(), phi.encode("<s>the", false).unwrap());
}

#[test]
fn a_continuation_keeps_its_space() {
    let t = Tokenizer::from_gguf(&spm()).unwrap();
    let prompt = t.encode("the cat", true).unwrap();
    let answer = t.encode("sat", false).unwrap();
    let mut start = rlx_text::StreamDecoder::new(&t);
    let mut joined = rlx_text::StreamDecoder::continuing(&t, &prompt);
    let run = |d: &mut rlx_text::StreamDecoder| -> String { answer.iter().map(|&i| d.push(i)).collect() };
    assert_eq!(run(&mut start), "sat");
    assert_eq!(run(&mut joined), " sat");
    // BERT's words are joined by the library; the same holds.
    let t = load("word_piece");
    let mut joined = rlx_text::StreamDecoder::continuing(&t, &t.encode("the", false).unwrap());
    let ids = t.encode("cat", false).unwrap();
    let text: String = ids.iter().map(|&i| joined.push(i)).collect();
    assert_eq!(text + &joined.finish(), " cat");
}

#[test]
fn characters_are_never_split() {
    let t = load("byte_level");
    let ids = t.encode("né 👩🏻‍💻日", false).unwrap();
    let mut d = rlx_text::StreamDecoder::new(&t);
    let pieces: Vec<String> = ids.iter().map(|&id| d.push(id)).collect();
    assert!(pieces.iter().all(|p| !p.contains('\u{FFFD}')));
    assert!(pieces.iter().any(String::is_empty));
    assert_eq!(pieces.concat(), "né 👩🏻‍💻日");
    // Cut inside a character: what is there is shown as U+FFFD at the end, once.
    let mut d = rlx_text::StreamDecoder::new(&t);
    let text: String = ids[..ids.len() - 1].iter().map(|&id| d.push(id)).collect();
    assert_eq!(text + &d.finish(), t.decode(&ids[..ids.len() - 1], true).unwrap());
    assert_eq!(d.push(u32::MAX), "");
}

#[test]
fn side_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::copy(data("tiny/byte_level/tokenizer.json"), at("tokenizer.json")).unwrap();
    let config = r#"{"add_bos_token": true, "bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>",
        "chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
    std::fs::write(at("tokenizer_config.json"), config).unwrap();
    std::fs::write(at("generation_config.json"), r#"{"eos_token_id": [7, 2]}"#).unwrap();
    let t = Tokenizer::from_file(&at("tokenizer.json")).unwrap();
    assert_eq!((t.bos_id(), t.eos_id()), (Some(1), Some(2)));
    assert_eq!(t.eos_ids(), [0, 2, 7]);
    assert_eq!(t.chat_template(), Some("D"));
    assert_eq!(t.encode("", true).unwrap(), [1]);
    std::fs::write(at("chat_template.jinja"), "J").unwrap();
    assert_eq!(Tokenizer::from_file(&at("tokenizer.json")).unwrap().chat_template(), Some("J"));
    std::fs::write(at("generation_config.json"), "{").unwrap();
    let e = Tokenizer::from_file(&at("tokenizer.json")).unwrap_err().to_string();
    assert!(e.contains("generation_config.json"), "{e}");
    assert!(Tokenizer::from_file(&at("missing.json")).is_err());
}

/// The vocabulary of a file, in a table of `vocab_size` rows.
fn converted(name: &str, architecture: &str, vocab_size: usize) -> (GgufVocab, Vec<String>) {
    let dir = data(&format!("tiny/{name}"));
    GgufVocab::from_hf(&dir, FromHf { architecture, vocab_size, pre: None }).unwrap().unwrap()
}

#[test]
fn vocabularies_are_converted() {
    let (v, notes) = converted("byte_level", "llama", 510);
    assert_eq!((v.model.as_str(), v.pre.as_deref(), v.tokens.len()), ("gpt2", Some("smollm"), 510));
    assert!(notes.is_empty() && v.scores.is_none(), "{notes:?}");
    let types = v.token_types.as_ref().unwrap();
    assert_eq!((types[1], types[500], types[501], types[100]), (3, 4, 5, 1));
    assert_eq!(&v.tokens[501], "[PAD501]");
    check(&Tokenizer::from_gguf(&v).unwrap(), &cases("tiny/byte_level/cases.json"), Check { full: false, ..ALL });

    let (v, notes) = converted("spm", "llama", 364);
    assert_eq!((v.model.as_str(), v.add_space_prefix, v.bos_id, v.add_bos), ("llama", Some(true), Some(1), Some(true)));
    assert!(notes.is_empty() && v.merges.is_none(), "{notes:?}");
    assert_eq!(v.token_types.as_ref().unwrap().iter().filter(|&&kind| kind == 6).count(), 256);
    check(&Tokenizer::from_gguf(&v).unwrap(), &cases("tiny/spm/cases.json"), Check { decoded: false, ..ALL });

    let (v, _) = converted("spm", "gemma4", 364);
    assert_eq!((v.model.as_str(), v.add_space_prefix, v.add_bos), ("gemma4", Some(false), Some(true)));
    assert!(v.merges.is_some());
}

#[test]
fn vocabularies_that_do_not_fit_are_errors() {
    let of = |name: &str, vocab_size| {
        GgufVocab::from_hf(&data(&format!("tiny/{name}")), FromHf { architecture: "llama", vocab_size, pre: None })
    };
    // An added token beyond the table is left out; a token of the vocabulary is not.
    let (v, notes) = of("byte_level", 500).unwrap().unwrap();
    assert!(v.tokens.len() == 500 && notes[0].contains("<tool_call>"), "{notes:?}");
    assert!(of("byte_level", 499).unwrap_err().to_string().contains("beyond the 499 rows"));
    assert!(of("byte_level", 0).is_err() && of("byte_level", usize::MAX).is_err());
    assert_eq!(of("word_piece", 1000).unwrap().unwrap().0.model, "bert");
    assert!(of("unigram", 1000).unwrap_err().to_string().contains("Unigram"));
    assert!(of("no such directory", 1000).unwrap().is_none());

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut file = json("tiny/byte_level/tokenizer.json");
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "x+y".into();
    std::fs::write(&path, file.to_string()).unwrap();
    let options = FromHf { architecture: "llama", vocab_size: 501, pre: None };
    assert!(GgufVocab::from_hf(dir.path(), options).unwrap_err().to_string().contains("--pre"));
    let named = GgufVocab::from_hf(dir.path(), FromHf { pre: Some("gpt-2"), ..options }).unwrap().unwrap();
    assert_eq!(named.0.pre.as_deref(), Some("gpt-2"));
    for broken in
        ["", "{", "[]", r#"{"model":{"type":"BPE"}}"#, r#"{"model":{"byte_fallback":true,"vocab":{"a":"b"}}}"#]
    {
        std::fs::write(&path, broken).unwrap();
        assert!(GgufVocab::from_hf(dir.path(), options).is_err(), "{broken}");
    }
    // SentencePiece files that are none.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(dir.path().join("tokenizer.model"), b"\xff\xff").unwrap();
    assert!(GgufVocab::from_hf(dir.path(), options).unwrap_err().to_string().contains("SentencePiece"));
}

#[test]
fn settings_beside_the_tokenizer_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(data("tiny/byte_level/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let settings = r#"{"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "add_bos_token": true}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
    std::fs::write(dir.path().join("chat_template.jinja"), "{{ messages }}").unwrap();
    std::fs::write(dir.path().join("config.json"), r#"{"eos_token_id": 0, "pad_token_id": 0, "bos_token_id": 999}"#)
        .unwrap();
    let options = FromHf { architecture: "llama", vocab_size: 501, pre: None };
    let (v, _) = GgufVocab::from_hf(dir.path(), options).unwrap().unwrap();
    assert_eq!((v.bos_id, v.eos_id, v.pad_id), (Some(1), Some(2), Some(0)));
    assert_eq!((v.add_bos, v.add_eos), (Some(true), None));
    assert_eq!(v.chat_template.as_deref(), Some("{{ messages }}"));
}
