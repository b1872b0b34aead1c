//! How many times faster than real time the detectors are, on one thread:
//! `cargo run --release -p rlx-vad --example speed`.

use std::time::Instant;

use rlx_vad::{Backend, Detector};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jfk.flac");
    for (backend, rate) in [(Backend::Silero, 16_000), (Backend::Silero, 8000), (Backend::Earshot, 16_000)] {
        let sound = rlx_audio::load(path, rate)?;
        let mut detector = Detector::new(backend, rate)?;
        // All at once, and window by window as from a microphone.
        for piece in [sound.samples.len(), detector.window()] {
            let mut times: Vec<f64> = (0..15)
                .map(|_| {
                    let mut probabilities = Vec::new();
                    let start = Instant::now();
                    sound.samples.chunks(piece).for_each(|samples| detector.push(samples, &mut probabilities));
                    detector.finish(&mut probabilities);
                    start.elapsed().as_secs_f64()
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let factor = sound.seconds() / times[times.len() / 2];
            println!("{} {rate} Hz, pieces of {piece}: {factor:.0} times real time", backend.name());
        }
    }
    Ok(())
}
