//! Whole published vocabularies against llama.cpp's answers. Needs the GGUF files.

mod common;

use std::path::PathBuf;

use common::gguf::read_vocab;
use common::{Check, cases, check};
use rlx_text::{ChatInput, Message, Tokenizer};

fn file(checkpoint: &str, name: &str) -> Option<PathBuf> {
    let Some(dir) = std::env::var_os("RLX_REAL_WEIGHTS_DIR") else {
        eprintln!("skipped: RLX_REAL_WEIGHTS_DIR is not set; `cargo xtask real-weights` sets it");
        return None;
    };
    let path = PathBuf::from(dir).join(checkpoint).join(name);
    if !path.is_file() {
        eprintln!("skipped: {} is missing; `cargo xtask real-weights` fetches it", path.display());
        return None;
    }
    Some(path)
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn smollm2_135m_instruct_tokenizer() {
    let Some(path) = file("smollm2-135m-instruct", "SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let t = Tokenizer::from_gguf(&read_vocab(&path)).unwrap();
    assert!(t.warnings().is_empty(), "{:?}", t.warnings());
    assert_eq!((t.vocab_size(), t.bos_id(), t.eos_id()), (49152, Some(1), Some(2)));
    assert_eq!(t.eos_ids(), [0, 2]);
    let cases = cases("smollm2.json");
    check(&t, &cases, Check { full: true, plain: true, decoded: false });
    // The vocabulary lacks some control bytes; those vanish, in the reference too.
    let lacking = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    for c in cases.iter().filter(|c| !c.text.contains(lacking)) {
        assert_eq!(t.decode(&c.plain, false).unwrap(), c.text);
    }
    let messages = [Message::new("user", "What is 2+2?")];
    let input = ChatInput { messages: &messages, add_generation_prompt: true, ..ChatInput::default() };
    let prompt = t.load_chat_template().unwrap().render(&input).unwrap();
    assert_eq!(
        prompt,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
#[ignore = "needs real weights: cargo xtask real-weights"]
fn gemma3_270m_tokenizer() {
    let Some(path) = file("gemma3-270m", "gemma-3-270m-q4_k_m.gguf") else { return };
    let t = Tokenizer::from_gguf(&read_vocab(&path)).unwrap();
    assert!(t.warnings().is_empty(), "{:?}", t.warnings());
    assert_eq!((t.vocab_size(), t.bos_id(), t.eos_id()), (262_144, Some(2), Some(1)));
    assert_eq!(t.eos_ids(), [1, 106]);
    let mut cases = cases("gemma3.json");
    // Here the HTML tag of this name is a user-defined token and no end of text, whatever llama.cpp makes of it.
    cases.retain(|c| c.text != "</s>");
    check(&t, &cases, Check { full: true, plain: true, decoded: false });
    for c in cases.iter().filter(|c| !c.text.contains('▁')) {
        assert_eq!(t.decode(&c.plain, false).unwrap(), c.text);
    }
}
