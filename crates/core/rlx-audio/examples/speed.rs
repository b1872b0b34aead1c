//! Times of features and resampling on one thread: `cargo run --release -p rlx-audio --example speed`.

use std::hint::black_box;
use std::time::Instant;

use rlx_audio::{KaldiFbank, WhisperMel, resample};

/// Median of some runs, in ms.
fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..21)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), rlx_audio::AudioError> {
    // 30 s of a sweep; what the sound is makes no difference.
    let sound: Vec<f32> = (0..480_000).map(|i| (i as f32 * i as f32 * 1e-7).sin() * 0.3).collect();
    for mels in [80, 128] {
        let mut whisper = WhisperMel::new(mels)?;
        println!("Whisper log-mel, {mels} bands, 30 s: {:.2} ms", median(|| drop(black_box(whisper.log_mel(&sound)))));
    }
    let mut fbank = KaldiFbank::new()?;
    println!("Kaldi filter bank, 30 s: {:.2} ms", median(|| drop(black_box(fbank.normalised(&sound)))));
    for rate in [44_100, 48_000] {
        let long = vec![0.1; 30 * rate as usize];
        println!("{rate} to 16000 Hz, 30 s: {:.2} ms", median(|| drop(black_box(resample(&long, rate, 16_000)))));
    }
    Ok(())
}
