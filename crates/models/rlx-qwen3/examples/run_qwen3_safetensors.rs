//! Continues a prompt with a Qwen3 model from a folder with config.json, *.safetensors and tokenizer.json:
//!
//! ```console
//! $ cargo run --release -p rlx-qwen3 --example run_qwen3_safetensors -- DIR "The capital of France is"
//! ```

use std::io::Write;
use std::path::Path;

use rlx_core::CoreError;
use rlx_qwen3::Qwen3Runner;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let weights = args.next().ok_or("usage: run_qwen3_safetensors DIR [PROMPT]")?;
    let prompt = args.next().map_or("The capital of France is".into(), |text| text.to_string_lossy().into_owned());
    let mut out = std::io::stdout();
    run(Path::new(&weights), &prompt, 32, &mut out)?;
    writeln!(out)?;
    Ok(())
}

/// Writes the prompt's continuation as it comes.
pub fn run(weights: &Path, prompt: &str, max_tokens: usize, out: &mut dyn Write) -> Result<Vec<u32>, CoreError> {
    let mut runner = Qwen3Runner::builder().weights(weights).max_seq(2048).build()?;
    // Without a tokenizer the prompt is a list of ids, as in "1,2,3".
    let ids = match runner.model().tokenizer() {
        Ok(_) => runner.model().encode(prompt)?,
        Err(_) => prompt.split(',').filter_map(|id| id.trim().parse().ok()).collect(),
    };
    let answer = runner.generate(&ids, max_tokens, |token| {
        let shown = write!(out, "{}", token.text).and_then(|()| out.flush());
        // Whoever reads the text may stop reading; the answer is complete all the same.
        drop(shown);
    })?;
    Ok(answer.ids)
}
