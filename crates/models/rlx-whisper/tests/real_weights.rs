//! Published weights on real speech.

use std::path::PathBuf;

use rlx_text::wer::{Normalization, Unit, error_counts};
use rlx_whisper::decode::DecodeOptions;
use rlx_whisper::transcribe::{StreamOptions, TranscribeOptions, Transcript};
use rlx_whisper::{WhisperRunner, merge_spans};

/// What is said in the recording.
const JFK: &str =
    "And so my fellow Americans ask not what your country can do for you ask what you can do for your country";

fn whisper(options: TranscribeOptions) -> Option<WhisperRunner> {
    let Some(dir) = std::env::var_os("RLX_REAL_WEIGHTS_DIR") else {
        eprintln!("skipped: RLX_REAL_WEIGHTS_DIR is not set; `cargo xtask real-weights` sets it");
        return None;
    };
    let path = PathBuf::from(dir).join("whisper-tiny.en");
    if !path.is_dir() {
        eprintln!("skipped: {} is missing; `cargo xtask real-weights` fetches it", path.display());
        return None;
    }
    Some(WhisperRunner::builder().weights(path).options(options).build().unwrap())
}

fn jfk() -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../rlx-vad/tests/data/jfk.flac");
    rlx_audio::load(path, 16_000).unwrap().samples
}

fn with_beams(beam_size: usize) -> TranscribeOptions {
    TranscribeOptions {
        decode: DecodeOptions { beam_size, ..DecodeOptions::default() },
        ..TranscribeOptions::default()
    }
}

fn errors(transcript: &Transcript, said: &str) -> usize {
    error_counts(said, &transcript.text, Unit::Words, Normalization::English).errors()
}

#[test]
#[ignore = "needs published weights: cargo xtask real-weights"]
fn whisper_tiny_en_hears_every_word() {
    let Some(mut greedy) = whisper(with_beams(1)) else { return };
    let found = greedy.transcribe_samples(&jfk()).unwrap();
    // Word for word, as faster-whisper 1.2.1 with the same weights and one beam.
    assert_eq!(found.text.trim(), JFK);
    let times: Vec<(f64, f64)> = found.segments.iter().map(|s| (s.start, s.end)).collect();
    assert_eq!(times.len(), 2);
    for ((start, end), want) in times.iter().zip([(0.0, 7.74), (7.74, 10.74)]) {
        assert!((start - want.0).abs() <= 0.1 && (end - want.1).abs() <= 0.1, "{times:?}");
    }
    // Five beams put a comma and a stop.
    let Some(mut beams) = whisper(with_beams(5)) else { return };
    let found = beams.transcribe_samples(&jfk()).unwrap();
    let want =
        " And so, my fellow Americans ask not what your country can do for you ask what you can do for your country.";
    assert_eq!(found.text, want);
}

#[test]
#[ignore = "needs published weights: cargo xtask real-weights"]
fn whisper_tiny_en_tells_when_words_are_said() {
    let options = TranscribeOptions { word_timestamps: true, ..with_beams(5) };
    let Some(mut whisper) = whisper(options) else { return };
    let found = whisper.transcribe_samples(&jfk()).unwrap();
    let words: Vec<_> = found.segments.iter().flat_map(|s| s.words.clone().unwrap()).collect();
    assert_eq!(words.len(), JFK.split(' ').count());
    assert!(words.windows(2).all(|w| w[0].start <= w[0].end && w[0].end <= w[1].start + 1e-9), "{words:?}");
    // Ends of words as faster-whisper 1.2.1 has them with the same weights.
    for (word, end) in [(0, 0.76), (4, 2.26), (6, 4.54), (13, 8.02), (21, 10.5)] {
        assert!((words[word].end - end).abs() <= 0.1, "{:?}, not {end}", words[word]);
    }
}

#[test]
#[ignore = "needs published weights: cargo xtask real-weights"]
fn whisper_tiny_en_is_silent_in_silence() {
    let Some(mut whisper) = whisper(with_beams(1)) else { return };
    let mut state = 1u32;
    let mut noise = |peak: f32| -> Vec<f32> {
        let sample = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / 8_388_608.0 - 1.0) * peak
        };
        (0..20 * 16_000).map(sample).collect()
    };
    // Of the loudest alone the model would make up a word.
    for sound in [vec![0.0; 40 * 16_000], noise(0.01), noise(0.1), noise(0.5)] {
        let found = whisper.transcribe_samples(&sound).unwrap();
        assert_eq!(found.text, "");
    }
}

#[test]
#[ignore = "needs published weights: cargo xtask real-weights"]
fn whisper_tiny_en_reads_long_sound_in_every_way() {
    let (speech, pause) = (jfk(), vec![0.0; 3 * 16_000]);
    let sound: Vec<f32> = [&speech, &pause, &speech, &pause, &speech].into_iter().flatten().copied().collect();
    let said = [JFK; 3].join(" ");
    // Speech that truly repeats itself is taken for a loop, for which the model draws at higher temperatures; faster-whisper does too.
    let mut options = with_beams(1);
    options.decode.temperatures = vec![0.0];
    let Some(mut whisper) = whisper(options) else { return };
    let found = whisper.transcribe_samples(&sound).unwrap();
    assert!(errors(&found, &said) <= 2, "{}", found.text);

    let mel = rlx_whisper::transcribe::LogMel::of(&sound, 80).unwrap();
    let spans = [0..1100, 1400..2500, 2800..3900];
    assert_eq!(merge_spans(&spans, 3000).len(), 2);
    let go_on = &mut |_: rlx_whisper::transcribe::Event<'_>| std::ops::ControlFlow::Continue(());
    let found = whisper.transcribe_spans(&mel, &spans, 2, go_on).unwrap();
    assert!(errors(&found, &said) <= 2, "{}", found.text);

    let mut stream = whisper.stream(StreamOptions { interval: 4.0 }).unwrap();
    for piece in sound.chunks(5000) {
        assert!(stream.push(piece, go_on).unwrap().is_continue());
    }
    let found = stream.finish(go_on).unwrap();
    assert!(errors(&found, &said) <= 4, "{}", found.text);
}
