//! Times of the network alone: an encoded window of 30 s, and a token.
//!
//! ```text
//! cargo run --release -p rlx-whisper --example network_speed -- MODEL [--threads N] [--profile]
//! ```
//!
//! MODEL is a checkpoint, or `tiny` or `base` for random F16 weights of those sizes.

use std::path::Path;
use std::time::Instant;

use rlx_cli::run::report::profile_table;
use rlx_core::LoadOptions;
use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::{Checkpoint, OpenOptions, TensorView};
use rlx_whisper::decode::{Feed, SpeechModel};
use rlx_whisper::{WhisperConfig, WhisperModel, register_formats};
use serde_json::json;

const RUNS: usize = 7;
const TOKENS: usize = 64;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let model = args.first().map_or("tiny", String::as_str);
    register_formats()?;
    let checkpoint = match model {
        "tiny" => random(384, 4, 6)?,
        "base" => random(512, 6, 8)?,
        path => Checkpoint::open(Path::new(path), &OpenOptions::default())?,
    };
    let mut options = LoadOptions::default();
    if let Some(threads) = value("--threads") {
        options.compile.threads = threads.parse()?;
    }
    let mut model = WhisperModel::load(&checkpoint, &options)?;
    println!("{}", model.executables()[0].describe());
    let profile = args.iter().any(|arg| arg == "--profile");
    model.set_profiling(profile);

    let size = model.config().window_frames() * model.config().num_mel_bins;
    let window: Vec<f32> = (0..size).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut times = vec![];
    let mut encoded = None;
    for _ in 0..RUNS {
        if let Some(id) = encoded.take() {
            model.release(id)?;
        }
        let start = Instant::now();
        encoded = model.encode(&[&window])?.first().copied();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("encoder: {:.1} ms a window (median of {RUNS})", median(&mut times));

    let Some(id) = encoded else { return Ok(()) };
    for beams in [1, 5] {
        let first = model.add_sequence(id)?;
        let mut sequences = vec![first];
        model.step(&[Feed { sequence: first, tokens: &[50257, 50362] }])?;
        for _ in 1..beams {
            sequences.push(model.fork(first)?);
        }
        let mut times = vec![];
        for token in 0..TOKENS as u32 {
            let tokens = [token];
            let feeds: Vec<Feed<'_>> = sequences.iter().map(|&sequence| Feed { sequence, tokens: &tokens }).collect();
            let start = Instant::now();
            model.step(&feeds)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        println!("decoder: {:.2} ms a token, {beams} sequence(s) (median of {TOKENS})", median(&mut times));
        for sequence in sequences {
            model.remove(sequence)?;
        }
    }
    for (name, steps) in ["encoder", "decoder"].into_iter().zip(model.profile()).filter(|_| profile) {
        print!("{}", profile_table(name, &steps));
    }
    Ok(())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Random F16 weights of a model of English.
fn random(d_model: usize, layers: usize, heads: usize) -> anyhow::Result<Checkpoint> {
    let json = json!({
        "model_type": "whisper", "vocab_size": 51864, "num_mel_bins": 80, "d_model": d_model, "encoder_layers": layers,
        "decoder_layers": layers, "encoder_attention_heads": heads, "decoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * d_model, "decoder_ffn_dim": 4 * d_model, "max_source_positions": 1500,
        "max_target_positions": 448,
    });
    let config = WhisperConfig::from_hf(&json)?;
    let mut state = 1u64;
    let mut tensors = vec![];
    for (name, shape) in WhisperModel::parameters(&config)? {
        let count: usize = shape.iter().product();
        let mut bytes = Vec::with_capacity(2 * count);
        for _ in 0..count {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Halves of either sign up to 2^-5.
            bytes.extend(((state >> 48) as u16 & 0xa7ff).to_le_bytes());
        }
        tensors.push(TensorView::new(name, DType::F16, shape, Bytes::copy_from(&bytes))?);
    }
    Ok(Checkpoint::custom("random", Path::new("random"), vec![], tensors)?.with_config(json))
}
