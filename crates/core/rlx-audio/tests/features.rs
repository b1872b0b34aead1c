//! Log-mel features against those recorded from transformers by `scripts/reference/record_mel.py`.

use rlx_audio::{Fbank, KaldiFbank, Mel, WhisperMel};
use safetensors::SafeTensors;

/// As in the script: every so many columns of a 30 s window are recorded.
const COLUMNS: usize = 47;

fn floats(tensors: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (tensor.shape().to_vec(), values.collect())
}

#[track_caller]
fn close(name: &str, shape: [usize; 2], got: &[f32], expected: &(Vec<usize>, Vec<f32>), atol: f32) {
    assert_eq!(shape.as_slice(), expected.0, "{name}");
    let worst = got.iter().zip(&expected.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: largest difference {worst:e}");
    assert!(got.len() == expected.1.len() && worst <= atol, "{name}: {worst:e} > {atol:e}");
}

fn recorded() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mel.safetensors")).unwrap()
}

#[test]
fn whisper_log_mel_is_that_of_transformers() {
    let bytes = recorded();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = 0;
    for name in tensors.names() {
        let Some((kind, rest)) = name.split_once('.').filter(|(kind, _)| matches!(*kind, "whisper" | "window")) else {
            continue;
        };
        let (mels, sound) = rest.split_once('.').unwrap();
        let (_, samples) = floats(&tensors, &format!("in.{sound}"));
        let mut whisper = WhisperMel::new(mels.parse().unwrap()).unwrap();
        let expected = floats(&tensors, name);
        let Mel { mels, frames, data } = match kind {
            "whisper" => whisper.log_mel(&samples),
            _ => {
                let whole = whisper.log_mel_padded(&samples, WhisperMel::WINDOW);
                assert_eq!(whole.frames, 3000);
                let kept = (0..whole.mels).flat_map(|mel| whole.band(mel).iter().copied().step_by(COLUMNS));
                Mel { mels: whole.mels, frames: 3000_usize.div_ceil(COLUMNS), data: kept.collect() }
            }
        };
        close(name, [mels, frames], &data, &expected, 1e-5);
        seen += 1;
    }
    assert_eq!(seen, 14);
}

#[test]
fn silence_around_a_sound_is_not_transformed_but_right() {
    let (_, samples) = floats(&SafeTensors::deserialize(&recorded()).unwrap(), "in.speech");
    let mut whisper = WhisperMel::new(80).unwrap();
    for len in [0, 1, 159, 160, 9_990, 10_006, 10_007, 10_008, 10_150, 10_207, 10_208, 10_400, 20_000] {
        let short = whisper.log_mel_padded(&samples, len);
        let mut explicit = samples.clone();
        explicit.resize(len, 0.0);
        assert_eq!(short, whisper.log_mel(&explicit), "{len}");
        assert_eq!(short.frames, len / 160);
    }
    let nothing = whisper.log_mel_padded(&[], WhisperMel::WINDOW);
    assert!(nothing.data.iter().all(|&x| x == -1.5));
}

#[test]
fn kaldi_fbank_is_that_of_transformers() {
    let bytes = recorded();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut fbank = KaldiFbank::new().unwrap();
    let mut seen = 0;
    for name in tensors.names() {
        let Some(sound) = name.strip_prefix("fbank.") else { continue };
        let (_, samples) = floats(&tensors, &format!("in.{sound}"));
        let Fbank { rows, dim, data } = fbank.log_mel(&samples);
        close(name, [rows, dim], &data, &floats(&tensors, name), 1e-5);
        // The extractor sums and divides in single precision: some units in the last place of values up to 42, divided by the deviation.
        let (Fbank { rows, dim, data }, whole) = fbank.stacked(&samples, 0.0);
        close(&format!("rows.{sound}"), [rows, dim], &data, &floats(&tensors, &format!("rows.{sound}")), 2e-5);
        let mask = tensors.tensor(&format!("mask.{sound}")).unwrap();
        assert_eq!(mask.data().iter().filter(|&&b| b == 1).count(), whole, "{sound}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn short_sounds_have_no_frames_and_no_nan() {
    let mut fbank = KaldiFbank::new().unwrap();
    for (len, rows) in [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2)] {
        let features = fbank.normalised(&vec![0.1; len]);
        assert_eq!((features.rows, features.data.len()), (rows, rows * 80));
        assert!(features.data.iter().all(|x| x.is_finite()));
        let (stacked, whole) = fbank.stacked(&vec![0.1; len], 1.0);
        assert_eq!((stacked.rows, whole), (rows.div_ceil(2), rows / 2));
        assert_eq!(stacked.data.len(), stacked.rows * 160);
    }
    let mut whisper = WhisperMel::new(128).unwrap();
    // The largest samples that are read, and the smallest numbers there are.
    for level in [rlx_audio::MAX_SAMPLE, f32::MIN_POSITIVE, 1e-40, 0.0] {
        let samples: Vec<f32> = (0..800).map(|i| if i % 3 == 0 { level } else { -level }).collect();
        let mel = whisper.log_mel(&samples);
        assert!(mel.frames == 5 && mel.data.iter().all(|x| x.is_finite()), "{level}");
        assert!(fbank.normalised(&samples).data.iter().all(|x| x.is_finite()), "{level}");
    }
    assert!(WhisperMel::new(0).is_err() && WhisperMel::new(1025).is_err());
}
