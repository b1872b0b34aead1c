//! SmolLM2-135M-Instruct as published. Run by `cargo xtask real-weights`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use rlx_core::Perplexity;
use rlx_llama32::Llama32Runner;
use rlx_runtime::{KvType, Precision, SessionOptions};
use rlx_text::Message;

/// The opening of Alice's Adventures in Wonderland (Carroll 1865): about 2,500 tokens.
const TEXT: &str = include_str!("data/alice.txt");

fn smollm2() -> Option<PathBuf> {
    let Some(dir) = std::env::var_os("RLX_REAL_WEIGHTS_DIR") else {
        eprintln!("skipped: RLX_REAL_WEIGHTS_DIR is not set; `cargo xtask real-weights` sets it");
        return None;
    };
    let path = PathBuf::from(dir).join("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.is_file() {
        eprintln!("skipped: {} is missing; `cargo xtask real-weights` fetches it", path.display());
        return None;
    }
    Some(path)
}

fn runner(path: &PathBuf, precision: Precision) -> Llama32Runner {
    Llama32Runner::builder().weights(path).precision(precision).max_seq(1024).build().unwrap()
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn smollm2_135m_instruct_completes() {
    let Some(path) = smollm2() else { return };
    let mut runner = runner(&path, Precision::Auto);
    let ids = runner.model().encode("The capital of France is").unwrap();
    let mut streamed = String::new();
    let answer = runner.generate(&ids, 4, |token| streamed.push_str(token.text)).unwrap();
    assert!(answer.text.starts_with(" Paris."), "{:?}", answer.text);
    assert_eq!(streamed, answer.text);
    // The most probable next token is the first that was generated.
    let logits = runner.predict_logits(&ids).unwrap();
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    assert_eq!(best as u32, answer.ids[0]);
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn smollm2_135m_instruct_answers() {
    let Some(path) = smollm2() else { return };
    for precision in [Precision::Auto, Precision::F32] {
        let mut runner = runner(&path, precision);
        let ids = runner.model().encode_chat(&[Message::new("user", "What is 2+2?")], None).unwrap();
        let answer = runner.generate(&ids, 64, |_| ()).unwrap();
        assert!(answer.text.contains('4'), "{:?}", answer.text);
        assert_eq!(answer.reason, rlx_core::StopReason::Stop, "{:?}", answer.text);
    }
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn smollm2_135m_instruct_perplexity_of_packed_arithmetic() {
    let Some(path) = smollm2() else { return };
    let perplexity = |precision, kv_type| -> Perplexity {
        let runner = runner(&path, precision);
        let model = runner.model();
        let ids = model.encode(TEXT).unwrap();
        assert!(ids.len() >= 2000, "{} tokens", ids.len());
        let options = SessionOptions { max_seq: 512, kv_type, ..SessionOptions::default() };
        let mut session = model.session(options).unwrap();
        model.perplexity(&mut session, &ids, 512, None, &mut |_, _, _| ControlFlow::Continue(())).unwrap()
    };
    let exact = perplexity(Precision::F32, KvType::F32);
    println!("f32, KV f32: {exact:?}");
    for (precision, kv_type, limit) in [
        (Precision::Auto, KvType::F16, 0.005),
        (Precision::Auto, KvType::Q8, 0.01),
        (Precision::F32, KvType::F16, 0.002),
    ] {
        let found = perplexity(precision, kv_type);
        let off = found.perplexity / exact.perplexity - 1.0;
        println!("{precision:?}, KV {kv_type:?}: {:.4} ({:+.3} %)", found.perplexity, 100.0 * off);
        assert!(off.abs() < limit, "{precision:?}, KV {kv_type:?}: {off}");
    }
}
