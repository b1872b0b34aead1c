//! Properties over random texts, ids and vocabularies.

mod common;

use common::{data, json, stream};
use proptest::prelude::*;
use rlx_text::{GgufVocab, Sampler, SamplerOptions, StreamDecoder, Tokenizer};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

fn byte_level(pre: &str) -> Tokenizer {
    let file = json("tiny/byte_level/tokenizer.json");
    let map = file["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::new(); map.len()];
    for (token, id) in map {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    let merges = file["model"]["merges"].as_array().unwrap().iter();
    let merges = merges.map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap())).collect();
    let v = GgufVocab {
        model: "gpt2".into(),
        pre: Some(pre.into()),
        tokens: tokens.into(),
        merges: Some(merges),
        ..GgufVocab::default()
    };
    Tokenizer::from_gguf(&v).unwrap()
}

thread_local! {
    static TOKENIZERS: Vec<Tokenizer> = {
        let mut all: Vec<Tokenizer> =
            ["gpt-2", "smollm", "llama-bpe", "qwen2", "deepseek-v3", "tekken", "gpt-4o", "default"].map(byte_level).into();
        all.extend(["byte_level", "spm"].map(|n| Tokenizer::from_file(&data(&format!("tiny/{n}/tokenizer.json"))).unwrap()));
        all
    };
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn text_survives(text in ".{0,60}", spaces in "[ \t\n\r\u{3000}a'1]{0,30}") {
        TOKENIZERS.with(|all| -> Result<(), TestCaseError> {
            for t in all {
                for text in [&text, &spaces, &format!("{spaces}{text}{spaces}")] {
                    let ids = t.encode_plain(text).unwrap();
                    prop_assert_eq!(&t.decode(&ids, false).unwrap(), text);
                    prop_assert_eq!(&stream(t, &ids), text);
                    t.encode(text, true).unwrap();
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_ids_stream_as_they_decode(ids in prop::collection::vec(0u32..364, 0..40)) {
        TOKENIZERS.with(|all| -> Result<(), TestCaseError> {
            for t in all {
                prop_assert_eq!(stream(t, &ids), t.decode(&ids, true).unwrap());
                let mut shown = StreamDecoder::new(t).show_special();
                let text: String = ids.iter().map(|&id| shown.push(id)).collect();
                prop_assert_eq!(text + &shown.finish(), t.decode(&ids, false).unwrap());
            }
            Ok(())
        })?;
    }

    #[test]
    fn broken_vocabularies_are_errors(
        model in prop::sample::select(vec!["gpt2", "llama", "bert", "t5", "gemma4", "rwkv", ""]),
        tokens in prop::collection::vec("[a-c▁Ġ<>0xF ]{0,4}", 0..20),
        scores in prop::option::of(prop::collection::vec(prop::num::f32::ANY, 0..20)),
        types in prop::option::of(prop::collection::vec(-1i32..9, 0..20)),
        merges in prop::option::of(prop::collection::vec("[abcĠ ]{0,5}", 0..20)),
        ids in prop::collection::vec(prop::option::of(0u32..25), 4),
        charsmap in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        fit in any::<bool>(),
        text in "[abc ▁é]{0,20}",
    ) {
        let n = tokens.len();
        let v = GgufVocab {
            model: model.into(),
            scores: scores.map(|mut s| { if fit { s.resize(n, 0.5) }; s }),
            token_types: types.map(|mut t| { if fit { t.resize(n, 1) }; t }),
            tokens: tokens.into(),
            merges: merges.map(Into::into),
            bos_id: ids[0],
            eos_id: ids[1],
            unk_id: ids[2],
            sep_id: ids[3],
            precompiled_charsmap: charsmap,
            ..GgufVocab::default()
        };
        if let Ok(t) = Tokenizer::from_gguf(&v) {
            let ids = t.encode(&text, true).unwrap_or_default();
            let all: Vec<u32> = (0..n as u32).collect();
            t.decode(&ids, false).unwrap();
            prop_assert_eq!(stream(&t, &all), t.decode(&all, true).unwrap());
            prop_assert!(t.decode(&[n as u32], true).is_err());
            prop_assert!(t.eos_ids().iter().all(|&id| (id as usize) < n));
        }
    }

    #[test]
    fn broken_tokenizer_files_are_errors(cut in 0usize..4000, insert in "[\\[\\]{}\":,a0-]{0,6}") {
        let whole = std::fs::read_to_string(data("tiny/unigram/tokenizer.json")).unwrap();
        let at = (0..=cut.min(whole.len())).rev().find(|&i| whole.is_char_boundary(i)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, format!("{}{insert}{}", &whole[..at], &whole[at..])).unwrap();
        if let Ok(t) = Tokenizer::from_file(&path) {
            let _ = t.encode("the cat sat", true);
        }
    }

    #[test]
    fn samples_are_allowed_tokens(
        logits in prop::collection::vec(prop_oneof![-1e4f32..1e4, -5f32..5.0, Just(f32::NEG_INFINITY)], 1..200),
        temperature in prop_oneof![Just(0.0f32), 0.01f32..3.0, Just(1e-30f32), Just(1e30f32)],
        top_k in 0usize..50,
        top_p in 0.001f32..=1.0,
        min_p in 0f32..=1.0,
        repeat_penalty in 0.5f32..2.0,
        history in prop::collection::vec(0u32..250, 0..30),
        seed in any::<u64>(),
    ) {
        let options = SamplerOptions {
            temperature, top_k, top_p, min_p, repeat_penalty, seed: Some(seed), ..SamplerOptions::default()
        };
        let mut a = Sampler::new(options.clone()).unwrap();
        let mut b = Sampler::new(options).unwrap();
        let possible = logits.iter().any(|l| l.is_finite());
        for _ in 0..3 {
            let got = a.sample(&mut logits.clone(), &history);
            prop_assert_eq!(got.is_ok(), possible);
            if let Ok(id) = got {
                prop_assert!(logits[id as usize].is_finite());
                prop_assert_eq!(id, b.sample(&mut logits.clone(), &history).unwrap());
            }
        }
    }
}
