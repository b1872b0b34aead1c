//! Windows in batches and alone, tokens at once and one by one, forks, alignment, and what is refused.

use rlx_core::LoadOptions;
use rlx_runtime::Precision;
use rlx_weights::{Checkpoint, OpenOptions};
use rlx_whisper::decode::{Feed, SequenceId, SpeechModel, WindowId};
use rlx_whisper::{WhisperConfig, WhisperModel};
use tempfile::TempDir;

use crate::files::{config, tensors, write_hf};

fn model(precision: Precision) -> (WhisperModel, WhisperConfig) {
    let (config, dir) = (config(), TempDir::new().unwrap());
    write_hf(dir.path(), &config, &tensors(&config, 9));
    let checkpoint = Checkpoint::open(dir.path(), &OpenOptions::default()).unwrap();
    let mut options = LoadOptions::default();
    options.compile.precision = precision;
    options.compile.threads = 2;
    (WhisperModel::load(&checkpoint, &options).unwrap(), config)
}

fn window(config: &WhisperConfig, seed: usize) -> Vec<f32> {
    let size = config.window_frames() * config.num_mel_bins;
    (0..size).map(|i| ((i * (seed + 2)) as f32 * 0.23).sin()).collect()
}

fn step(model: &mut WhisperModel, feeds: &[(SequenceId, &[u32])]) -> Vec<Vec<f32>> {
    let vocab = model.facts().vocab;
    let feeds: Vec<Feed<'_>> = feeds.iter().map(|&(sequence, tokens)| Feed { sequence, tokens }).collect();
    model.step(&feeds).unwrap().chunks_exact(vocab).map(<[f32]>::to_vec).collect()
}

/// Logits after `tokens` about one window, in a model of its own.
fn alone(seed: usize, tokens: &[u32]) -> Vec<f32> {
    let (mut model, config) = model(Precision::F32);
    let id = model.encode(&[&window(&config, seed)]).unwrap()[0];
    let sequence = model.add_sequence(id).unwrap();
    step(&mut model, &[(sequence, tokens)]).remove(0)
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(a.len() == b.len() && worst < tolerance, "{worst}");
}

#[test]
fn a_batch_is_its_windows_alone() {
    let (mut model, config) = model(Precision::F32);
    let windows: Vec<Vec<f32>> = (0..5).map(|seed| window(&config, seed)).collect();
    let ids: Vec<WindowId> = model.encode(&windows.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let prompts: [&[u32]; 5] = [&[1, 2, 3], &[4], &[5, 6], &[7, 8, 9, 10, 11, 12, 13], &[14]];
    let sequences: Vec<SequenceId> = ids.iter().map(|&id| model.add_sequence(id).unwrap()).collect();
    let feeds: Vec<_> = sequences.iter().copied().zip(prompts).collect();
    let rows = step(&mut model, &feeds);
    for ((seed, row), prompt) in rows.iter().enumerate().zip(prompts) {
        // The same sums in another order.
        assert_close(row, &alone(seed, prompt), 2e-5);
    }
    // One token at a time, with a fork on the way.
    let other = model.add_sequence(ids[3]).unwrap();
    let mut last = vec![];
    for token in prompts[3] {
        last = step(&mut model, &[(other, &[*token])]).remove(0);
    }
    assert_close(&last, &rows[3], 2e-5);
    let fork = model.fork(other).unwrap();
    let rows = step(&mut model, &[(other, &[20]), (fork, &[21])]);
    assert_close(&rows[0], &alone(3, &[prompts[3], &[20]].concat()), 2e-5);
    assert_close(&rows[1], &alone(3, &[prompts[3], &[21]].concat()), 2e-5);
    for sequence in sequences.into_iter().chain([other, fork]) {
        model.remove(sequence).unwrap();
    }
    let bytes = model.window_bytes();
    ids.iter().for_each(|&id| model.release(id).unwrap());
    // The room of the old windows is used again.
    model.encode(&[&windows[0], &windows[1]]).unwrap();
    assert_eq!(model.window_bytes(), bytes);
}

#[test]
fn half_precision_is_near() {
    let (mut model, config) = model(Precision::Auto);
    let id = model.encode(&[&window(&config, 1)]).unwrap()[0];
    let sequence = model.add_sequence(id).unwrap();
    let found = step(&mut model, &[(sequence, &[3, 4, 5])]).remove(0);
    // Keys and values are kept as f16 (2^-11 each), and bf16 tiles (2^-9) may multiply.
    let exact = alone(1, &[3, 4, 5]);
    let size = exact.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    assert_close(&found, &exact, 0.02 * size);
}

#[test]
fn alignment_has_a_row_for_every_head_and_token() {
    let (mut model, config) = model(Precision::F32);
    let ids = model.encode(&[&window(&config, 1), &window(&config, 2)]).unwrap();
    let tokens = [1, 2, 3, 4];
    let sequence = model.add_sequence(ids[1]).unwrap();
    let logits = step(&mut model, &[(sequence, &tokens)]).remove(0);
    let found = model.align(ids[1], &tokens).unwrap();
    assert_eq!((found.heads, found.tokens, found.positions), (3, 4, config.max_source_positions));
    assert_eq!(found.weights.len(), 3 * 4 * config.max_source_positions);
    for row in found.weights.chunks_exact(config.max_source_positions) {
        assert!(row.iter().all(|&x| x >= 0.0) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
    }
    assert_close(&found.logits[3 * config.vocab_size..], &logits, 2e-5);
    // A token knows nothing of those after it.
    let shorter = model.align(ids[1], &tokens[..2]).unwrap();
    for head in 0..3 {
        let row = |of: &rlx_whisper::decode::Alignment| {
            of.weights[(head * of.tokens + 1) * of.positions..][..of.positions].to_vec()
        };
        assert_close(&row(&shorter), &row(&found), 1e-5);
    }
    assert!(model.align(ids[0], &[99]).is_err() && model.align(ids[0], &[]).is_err());
    assert!(model.align(WindowId(999), &tokens).is_err());
}

#[test]
fn what_is_not_there_is_refused() {
    let (mut model, config) = model(Precision::F32);
    assert!(model.encode(&[&[0.0; 3]]).is_err());
    assert!(model.encode(&[]).unwrap().is_empty());
    let id = model.encode(&[&window(&config, 1)]).unwrap()[0];
    let sequence = model.add_sequence(id).unwrap();
    let mut runs = |tokens: &[u32]| model.step(&[Feed { sequence, tokens }]).is_ok();
    assert!(!runs(&[]) && !runs(&[1000]) && !runs(&vec![1; config.max_target_positions + 1]));
    assert!(runs(&vec![1; config.max_target_positions]) && !runs(&[1]));
    assert!(model.step(&[]).is_err());
    assert!(model.add_sequence(WindowId(999)).is_err() && model.fork(SequenceId(999)).is_err());
    // A window that is released lives on for its sequences.
    model.release(id).unwrap();
    assert!(model.release(id).is_err() && model.add_sequence(id).is_err());
    assert!(model.fork(sequence).is_ok());
    model.remove(sequence).unwrap();
    assert!(model.remove(sequence).is_err());
    // NaN in, NaN out, and nothing else.
    let id = model.encode(&[&vec![f32::NAN; config.window_frames() * config.num_mel_bins]]).unwrap()[0];
    let sequence = model.add_sequence(id).unwrap();
    assert_eq!(step(&mut model, &[(sequence, &[1])])[0].len(), config.vocab_size);
}
