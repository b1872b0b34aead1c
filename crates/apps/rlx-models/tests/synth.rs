//! Files of random weights run: each published shape, made small, loads, reads a prompt and goes on by single tokens.

use rlx_cli::synth::{FileType, SHAPES, Shape, write};
use rlx_core::{CausalLm, LoadOptions};
use rlx_runtime::{CompileOptions, Entry, Logits, Precision, SessionOptions};
use rlx_weights::{Checkpoint, OpenOptions};

/// Longer than the windows of small shapes.
const PROMPT: [u32; 9] = [5, 300, 699, 42, 7, 7, 256, 123, 600];

fn load(shape: &Shape, kind: FileType, precision: Precision) -> CausalLm {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write(shape, kind, 1, &path).unwrap();
    let checkpoint = Checkpoint::open(&path, &OpenOptions::default()).unwrap();
    let registry = rlx_models::registry();
    let family = registry.families().find(&checkpoint).unwrap();
    let compile = CompileOptions { precision, ..CompileOptions::default() };
    CausalLm::load(&checkpoint, family, &LoadOptions { compile, ..LoadOptions::default() }).unwrap()
}

/// Logits of a prompt, and of one token more.
fn logits(model: &CausalLm) -> [Vec<f32>; 2] {
    let mut session = model.session(SessionOptions { max_seq: 32, ..SessionOptions::default() }).unwrap();
    let sequence = session.add_sequence();
    [&PROMPT[..], &[11]].map(|tokens| {
        session.step(&[Entry { sequence, tokens, logits: Logits::Last }]).unwrap();
        session.logits().to_vec()
    })
}

#[test]
fn every_shape_runs() {
    for published in SHAPES {
        let shape = published.tiny();
        let model = load(&shape, FileType::Q4_K_M, Precision::Auto);
        for logits in logits(&model) {
            assert_eq!(logits.len(), shape.vocab_size, "{}", shape.name);
            let mean = logits.iter().sum::<f32>() / logits.len() as f32;
            let variance = logits.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / logits.len() as f32;
            assert!(variance > 0.01 && variance < 1e4, "{}: {variance}", shape.name);
        }
        let text = model.tokenizer().unwrap().encode("some words", true).unwrap();
        assert!(!text.is_empty(), "{}", shape.name);
    }
}

/// Without rounding the single token gives what it gives at the end of the prompt.
#[test]
fn single_tokens_continue_prompts() {
    for name in ["qwen3-30b-a3b", "gemma4-e2b", "gemma4-26b-a4b"] {
        let model = load(&Shape::named(name).unwrap().tiny(), FileType::F32, Precision::F32);
        let [_, stepped] = logits(&model);
        let mut session = model.session(SessionOptions { max_seq: 32, ..SessionOptions::default() }).unwrap();
        let sequence = session.add_sequence();
        let tokens = [&PROMPT[..], &[11]].concat();
        session.step(&[Entry { sequence, tokens: &tokens, logits: Logits::Last }]).unwrap();
        for (a, b) in session.logits().iter().zip(&stepped) {
            assert!((a - b).abs() < 1e-3, "{name}: {a} {b}");
        }
    }
}

/// Of experts those that a token takes are counted, of the tables by layer nothing.
#[test]
fn bytes_of_a_token_are_those_it_reads() {
    for name in ["llama-3.2-1b", "qwen3-30b-a3b", "gemma4-e2b", "gemma4-26b-a4b"] {
        let shape = Shape::named(name).unwrap().tiny();
        let model = load(&shape, FileType::F32, Precision::F32);
        let executable = model.executable();
        let all = executable.weight_bytes();
        let idle = shape.moe.map_or(0, |moe| {
            let expert = 3 * moe.moe_intermediate_size * shape.hidden_size * 4;
            (moe.num_experts - moe.num_experts_per_tok) * expert * shape.num_hidden_layers
        });
        let read = executable.weight_bytes_per_token();
        // Factors of experts and of RoPE are a few numbers.
        assert!(read.abs_diff(all - idle) < 256, "{name}: {read} of {all}, of which idle {idle}");
        if let Some(gemma4) = shape.gemma4.filter(|gemma4| gemma4.hidden_size_per_layer_input > 0) {
            let table = shape.vocab_size * gemma4.hidden_size_per_layer_input * shape.num_hidden_layers * 4;
            let params = executable.graph().params();
            let file: usize = params.iter().map(|param| 4 * param.shape.iter().product::<usize>()).sum();
            assert!(all + table / 2 < file, "{name}: {all} of {file} are packed, with the table of {table}");
        }
    }
}
