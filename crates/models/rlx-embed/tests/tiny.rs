//! A tiny BERT of random weights with a tokenizer: batches, settings of the files, pairs, GGUF, and files that are wrong.

use std::fs;
use std::path::Path;

use rlx_core::encoder::{l2_normalise, pool};
use rlx_core::testing::letters_tokenizer;
use rlx_core::{ConvertOptions, Families, gguf_source, read_tensors};
use rlx_embed::{EmbedBuilder, EmbedError, LongTexts, Pooling, Prompt, RlxEmbed};
use rlx_ir::DType;
use rlx_weights::quantize::{FileType, Plan, QuantizeOptions};
use rlx_weights::safetensors_file::write_safetensors;
use rlx_weights::{Checkpoint, OpenOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../rlx-bert/tests/fixtures/bert");

/// The fixture of rlx-bert with a tokenizer of letters.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "modules.json"] {
        fs::copy(Path::new(FIXTURE).join(file), dir.path().join(file)).unwrap();
    }
    fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    fs::copy(Path::new(FIXTURE).join("1_Pooling/config.json"), dir.path().join("1_Pooling/config.json")).unwrap();
    write(&dir, "tokenizer.json", &letters_tokenizer());
    dir
}

fn write(dir: &TempDir, file: &str, json: &Value) {
    fs::write(dir.path().join(file), json.to_string()).unwrap();
}

fn builder(dir: &TempDir) -> EmbedBuilder {
    RlxEmbed::builder().path(dir.path()).threads(2)
}

fn error(builder: EmbedBuilder) -> String {
    match builder.build() {
        Ok(_) => panic!("was taken"),
        Err(error) => error.to_string(),
    }
}

fn texts() -> Vec<String> {
    (0..23).map(|i| "abc xyz q".chars().cycle().skip(i).take(i * 5 % 37).collect()).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn vectors_do_not_depend_on_the_batch() {
    let dir = folder();
    let texts = texts();
    let together = builder(&dir).build().unwrap().embed(&texts).unwrap();
    let small = builder(&dir).batch_tokens(1).threads(1).build().unwrap();
    assert_eq!(small.embed(&texts).unwrap(), together);
    assert!(together.iter().all(|v| v.len() == 52 && (v.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5));
    assert!(small.embed::<&str>(&[]).unwrap().is_empty());
    // In a flat buffer, after what it holds.
    let mut flat = vec![7.0];
    let stats = small.embed_into(&texts, Prompt::None, &mut flat).unwrap();
    assert_eq!((flat[0], stats.texts), (7.0, 23));
    assert_eq!(flat[1..], together.concat());
}

#[test]
fn a_stream_ends_at_the_first_error() {
    let dir = folder();
    let model = builder(&dir).batch_tokens(1).build().unwrap();
    let mut seen = 0;
    let texts = ["a", "b", "c", "d"].into_iter().map(Ok::<_, EmbedError>);
    let result = model.embed_each(texts, Prompt::Default, |_| {
        seen += 1;
        if seen == 2 { Err(EmbedError::NoModel) } else { Ok(()) }
    });
    assert!(matches!(result, Err(EmbedError::NoModel)) && seen == 2);
    // What it left does not show in the next call.
    assert_eq!(model.embed(&["a"]).unwrap().len(), 1);
}

#[test]
fn forward_is_the_reference_class() {
    let dir = folder();
    let model = builder(&dir).build().unwrap();
    let recorded = read_tensors(&Path::new(FIXTURE).join("expected.safetensors")).unwrap();
    let input = |name: &str| recorded[&format!("in.{name}")].to_f32();
    let (ids, mask, types) = (input("input_ids"), input("attention_mask"), input("token_type_ids"));
    let named = [("input_ids", &ids[..]), ("attention_mask", &mask[..]), ("token_type_ids", &types[..])];
    let hidden = model.forward(&named, 3, 13).unwrap();
    let expected = recorded["out.last_hidden_state"].to_f32();
    for (i, real) in mask.iter().enumerate() {
        let (found, expected) = (&hidden[i * 52..][..52], &expected[i * 52..][..52]);
        match *real == 1.0 {
            true => assert!(distance(found, expected) < 6e-5, "{i}"),
            false => assert!(found.iter().all(|x| *x == 0.0)),
        }
    }
    assert!(model.forward(&[("input_ids", &[1i64, 2])], 1, 3).is_err());
    assert!(model.forward(&[("input_ids", &[1i64, 149])], 1, 2).is_err());
    assert!(model.forward(&[("input_ids", &[-1i32])], 1, 1).is_err());
    assert!(model.forward(&[("input_ids", &[0.5f32])], 1, 1).is_err());
    assert!(model.forward(&[("pixels", &[1i64])], 1, 1).is_err());
    assert!(model.forward::<i64>(&[], usize::MAX, 2).is_err());
}

#[test]
fn long_texts_are_cut_or_split() {
    let dir = folder();
    let long = "a b c d e f g h ".repeat(20);
    let cut = builder(&dir).build().unwrap();
    assert_eq!(cut.max_length(), 40);
    let mut vector = Vec::new();
    let stats = cut.embed_into(&[&long], Prompt::None, &mut vector).unwrap();
    assert_eq!((stats.tokens, stats.too_long), (40, 1));
    let head: String = long.chars().take(2 * 38).collect();
    assert_eq!(cut.embed(&[&head]).unwrap()[0], vector);
    // 160 letters: five pieces of 32, whose vectors are the same but for where they begin, here nowhere else.
    let split = builder(&dir).long_texts(LongTexts::Split).normalize(false).build().unwrap();
    let whole = split.embed(&[long.as_str(), "x"]).unwrap();
    let piece: String = long.chars().take(2 * 32).collect();
    let plain = builder(&dir).normalize(false).build().unwrap();
    assert!(distance(&plain.embed(&[&piece]).unwrap()[0], &whole[0]) < 1e-6);
    assert_eq!(plain.embed(&["x"]).unwrap()[0], whole[1]);
    assert!(error(builder(&dir).max_length(41)).contains("41"));
    assert!(error(builder(&dir).max_length(2)).contains("not between"));
}

#[test]
fn prompts_stand_before_texts() {
    let dir = folder();
    write(
        &dir,
        "config_sentence_transformers.json",
        &json!({ "prompts": { "query": "q r " }, "default_prompt_name": null }),
    );
    let model = builder(&dir).build().unwrap();
    let embed = |text: &str, prompt| {
        let mut out = Vec::new();
        model.embed_into(&[text], prompt, &mut out).unwrap();
        out
    };
    let expected = embed("q r abc", Prompt::None);
    assert_eq!(embed("abc", Prompt::Named("query")), expected);
    assert_eq!(embed("abc", Prompt::Text("q r ")), expected);
    assert_eq!(model.embed_query("abc").unwrap(), expected);
    assert_ne!(embed("abc", Prompt::Default), expected);
    let always = builder(&dir).prompt_name("query").build().unwrap();
    assert_eq!(always.embed(&["abc"]).unwrap()[0], expected);
    assert!(error(builder(&dir).prompt_name("document")).contains("it has: query"));
    // Where the prompt is not pooled, only the text's own tokens and what ends it are.
    let pooling = json!({ "pooling_mode_mean_tokens": true, "include_prompt": false });
    write(&dir, "1_Pooling/config.json", &pooling);
    let left_out = builder(&dir).normalize(false).build().unwrap();
    let mut vector = Vec::new();
    left_out.embed_into(&["a b"], Prompt::Named("query"), &mut vector).unwrap();
    let ids = [2i64, 4 + 16, 4 + 17, 4, 5, 3];
    let hidden = left_out.forward(&[("input_ids", &ids)], 1, 6).unwrap();
    let mut mean = vec![0.0; 52];
    pool(Pooling::Mean, &hidden[3 * 52..], &mut mean);
    assert_eq!(vector, mean);
}

#[test]
fn pooling_and_dims_are_chosen() {
    let dir = folder();
    let hidden = builder(&dir).build().unwrap().forward(&[("input_ids", &[2i64, 4, 5, 3])], 1, 4).unwrap();
    for pooling in Pooling::ALL {
        let mut expected = vec![0.0; 52];
        pool(pooling, &hidden, &mut expected);
        let found = builder(&dir).pooling(pooling).normalize(false).build().unwrap().embed(&["a b"]).unwrap();
        assert_eq!(found[0], expected, "{pooling:?}");
        let cut = builder(&dir).pooling(pooling).dims(7).build().unwrap();
        l2_normalise(&mut expected[..7]);
        assert_eq!(cut.embed(&["a b"]).unwrap()[0], expected[..7]);
    }
    assert!(error(builder(&dir).dims(53)).contains("53") && error(builder(&dir).dims(0)).contains("0 dims"));
}

#[test]
fn pairs_are_scored() {
    let dir = folder();
    assert!(matches!(builder(&dir).build().unwrap().rerank("a", &["b"]), Err(EmbedError::NoCrossEncoder)));
    let checkpoint = Checkpoint::open(dir.path(), &OpenOptions::default()).unwrap();
    let weight: Vec<u8> = (0..52).flat_map(|i| (i as f32 / 26.0 - 1.0).to_le_bytes()).collect();
    let bias = 0.25f32.to_le_bytes();
    let mut tensors: Vec<_> =
        checkpoint.tensors().map(|t| (t.name.as_str(), t.dtype, t.shape.as_slice(), &*t.data)).collect();
    tensors.push(("classifier.weight", DType::F32, &[1, 52][..], &weight[..]));
    tensors.push(("classifier.bias", DType::F32, &[1][..], &bias[..]));
    let out = folder();
    write_safetensors(&out.path().join("model.safetensors"), &tensors).unwrap();
    let model = builder(&out).batch_tokens(12).build().unwrap();
    assert!(model.is_cross_encoder() && matches!(model.embed(&["a"]), Err(EmbedError::CrossEncoder)));
    let long = "b c ".repeat(50);
    let documents = ["b", "c d e", "", long.as_str()];
    let scores = model.rerank("a a", &documents).unwrap();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
    for (document, score) in documents.iter().zip(&scores) {
        assert!((model.rerank("a a", &[document]).unwrap()[0] - score).abs() < 1e-6);
    }
    // The logit itself, from the hidden states and the pooler's own matrices.
    let mut config: Value = serde_json::from_slice(&fs::read(out.path().join("config.json")).unwrap()).unwrap();
    config["sbert_ce_default_activation_function"] = json!("torch.nn.modules.linear.Identity");
    write(&out, "config.json", &config);
    let raw = builder(&out).build().unwrap();
    let types = [0i64, 0, 0, 0, 1, 1];
    let hidden =
        raw.forward(&[("input_ids", &[2i64, 4, 4, 3, 5, 3][..]), ("token_type_ids", &types[..])], 1, 6).unwrap();
    let tensor = |name: &str| checkpoint.tensor(name).unwrap().to_f32().unwrap();
    let (dense, dense_bias) = (tensor("pooler.dense.weight"), tensor("pooler.dense.bias"));
    let pooled = (0..52).map(|i| {
        let dot: f32 = dense[i * 52..][..52].iter().zip(&hidden).map(|(w, x)| w * x).sum();
        (dot + dense_bias[i]).tanh()
    });
    let logit: f32 = 0.25 + pooled.enumerate().map(|(i, x)| x * (i as f32 / 26.0 - 1.0)).sum::<f32>();
    let found = raw.rerank("a a", &["b"]).unwrap()[0];
    assert!((found - logit).abs() < 1e-5, "{found} {logit}");
    assert!((scores[0] - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-5);
}

#[test]
fn plans_and_times_are_those_of_what_runs() {
    let dir = folder();
    let model = builder(&dir).build().unwrap();
    let long = "a b c d e f g h ".repeat(20);
    let tokens = |model: &RlxEmbed, text: &str| model.tokens_at_once(text, Prompt::None).unwrap();
    // Two around the text; cut at the model's length, or in five equal pieces.
    assert_eq!((tokens(&model, "abc"), tokens(&model, ""), tokens(&model, &long)), (5, 2, 40));
    let split = builder(&dir).long_texts(LongTexts::Split).build().unwrap();
    assert_eq!(tokens(&split, &long), 34);
    assert_eq!(model.tokens_at_once("a", Prompt::Text("b c ")).unwrap(), 5);
    assert_eq!((model.pair_tokens_at_once("a", "b").unwrap(), model.pair_tokens_at_once("a", &long).unwrap()), (5, 40));
    assert!(model.explain(5).unwrap().starts_with("plan for T=5: "));
    assert!(model.profile().is_empty());
    model.set_profiling(true);
    model.embed(&["abc"]).unwrap();
    model.embed(&["a"]).unwrap();
    assert!(model.profile().iter().any(|step| step.op == "fused_linear" && step.runs == 2), "{:?}", model.profile());
}

#[test]
fn a_gguf_file_gives_the_same_vectors() {
    let dir = folder();
    let checkpoint = Checkpoint::open(dir.path(), &OpenOptions::default()).unwrap();
    let mut families = Families::new();
    families.register(rlx_bert::FAMILY);
    let (source, _) = gguf_source(&checkpoint, &families, &ConvertOptions::default()).unwrap();
    let plan = Plan::new(source, &QuantizeOptions::new(FileType::F32), None).unwrap();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("tiny.gguf");
    plan.write(&path, false, 1, &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
    let texts = [texts(), vec!["Ünknown wörds, [SEP] and 河".to_string()]].concat();
    let expected = builder(&dir).build().unwrap().embed(&texts).unwrap();
    let found = RlxEmbed::from_gguf(&path).unwrap();
    assert_eq!(found.settings().pooling, Pooling::Mean);
    assert_eq!(found.embed(&texts).unwrap(), expected);
}

#[test]
fn files_that_are_wrong_are_errors() {
    let dir = folder();
    assert!(matches!(RlxEmbed::builder().build(), Err(EmbedError::NoModel)));
    assert!(RlxEmbed::from_dir("no/such/folder").is_err());
    let with = |file: &str, json: Value| {
        let dir = folder();
        write(&dir, file, &json);
        error(builder(&dir))
    };
    let both = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true });
    assert!(with("1_Pooling/config.json", both.clone()).contains("several pooling modes (cls, mean)"));
    assert!(with("1_Pooling/config.json", json!({})).contains("no pooling mode"));
    assert!(with("1_Pooling/config.json", json!({ "word_embedding_dimension": 99 })).contains("99"));
    assert!(with("modules.json", json!([{ "type": "x.Dense" }])).contains("`Dense` is not supported"));
    assert!(with("modules.json", json!([{ "type": "x.Pooling", "path": "../../etc" }])).contains("not there"));
    assert!(with("modules.json", json!("x")).contains("no list"));
    assert!(with("sentence_bert_config.json", json!({ "max_seq_length": -1 })).contains("max_seq_length"));
    assert!(
        with("config_sentence_transformers.json", json!({ "prompts": {}, "default_prompt_name": "q" })).contains("`q`")
    );
    // A choice makes up for the contradiction.
    write(&dir, "1_Pooling/config.json", &both);
    assert!(builder(&dir).pooling(Pooling::Mean).build().is_ok());

    let config: Value = serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    for (field, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1u64 << 50)),
        ("num_attention_heads", json!(5)),
        ("num_hidden_layers", json!(u64::MAX)),
        ("num_hidden_layers", json!(4)),
        ("max_position_embeddings", json!(1u64 << 40)),
        ("vocab_size", json!(150)),
        ("type_vocab_size", json!(1u64 << 33)),
        ("hidden_act", json!("x")),
        ("layer_norm_eps", json!(-1.0)),
        ("position_embedding_type", json!("relative_key")),
        ("is_decoder", json!(true)),
        ("model_type", json!("gpt5")),
    ] {
        let mut config = config.clone();
        config[field] = value.clone();
        let message = with("config.json", config);
        assert!(!message.is_empty() && !message.contains('\n'), "{field} = {value}: {message}");
    }
    let other = folder();
    fs::remove_file(other.path().join("tokenizer.json")).unwrap();
    assert!(matches!(builder(&other).build(), Err(EmbedError::NoTokenizer)));
    fs::write(other.path().join("tokenizer.json"), "{").unwrap();
    assert!(builder(&other).build().is_err());
}
