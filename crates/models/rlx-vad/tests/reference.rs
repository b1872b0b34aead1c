//! Probabilities, segments and events against those of the published models (`scripts/reference/record_silero.py`, and the fixtures
//! silero_vad and earshot).

use std::path::{Path, PathBuf};

use rlx_audio::load;
use rlx_core::testing::Random;
use rlx_vad::{
    Backend, Detector, Segment, SegmentOptions, Segmenter, Silero, SileroWeights, SpeechEvent, SpeechEvents, VadRunner,
};
use rlx_weights::{Checkpoint, OpenOptions};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Map, Value};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn floats(file: &str, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(data(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor(name).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The recorded sound at 16 kHz, and every second sample of it as 8 kHz.
fn sound(rate: u32) -> Vec<f32> {
    let whole = load(data("jfk.flac"), 16_000).unwrap().samples;
    whole.into_iter().step_by(if rate == 8000 { 2 } else { 1 }).collect()
}

#[track_caller]
fn assert_close(name: &str, got: &[f32], expected: &[f32], atol: f32) {
    assert_eq!(got.len(), expected.len(), "{name}");
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: largest difference {worst:e}");
    assert!(worst <= atol, "{name}: {worst:e} > {atol:e}");
}

/// Probabilities of a sound that comes in pieces of these lengths, over and over.
fn streamed(detector: &mut Detector, sound: &[f32], mut pieces: impl FnMut() -> usize) -> Vec<f32> {
    let (mut probabilities, mut rest) = (Vec::new(), sound);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(pieces().min(rest.len()));
        detector.push(piece, &mut probabilities);
        rest = tail;
    }
    detector.finish(&mut probabilities);
    probabilities
}

#[test]
fn silero_is_that_of_onnxruntime_in_any_pieces() {
    for (rate, name) in [(16_000, "probs.16k"), (8000, "probs.8k")] {
        let (sound, expected) = (sound(rate), floats("silero.safetensors", name));
        let mut detector = Detector::new(Backend::Silero, rate).unwrap();
        let whole = streamed(&mut detector, &sound, || usize::MAX);
        assert_close(name, &whole, &expected, 1e-4);
        let mut random = Random::new(1);
        for piece in [0, 1, 100, detector.window(), 5000] {
            // 0: pieces of random length.
            let pieces = || if piece == 0 { random.below(2000) } else { piece };
            // What runs together does not change the order of any sum.
            assert_eq!(streamed(&mut detector, &sound, pieces), whole, "{rate} Hz, pieces of {piece}");
        }
    }
}

#[test]
fn silero_fixture() {
    for (rate, suffix) in [(16_000, "16k"), (8000, "8k")] {
        let sound = floats("silero_vad.safetensors", &format!("in.wav{suffix}"));
        let mut model = Silero::new(rate).unwrap();
        let mut probabilities = Vec::new();
        let states = floats("silero_vad.safetensors", "out.state16k_first3");
        for (i, window) in sound.chunks_exact(model.window()).enumerate() {
            model.run(window, &mut probabilities);
            if rate == 16_000 && i < 3 {
                let (hidden, cell) = model.state();
                assert_close("state", &[hidden, cell].concat(), &states[i * 256..][..256], 1e-5);
            }
        }
        let expected = floats("silero_vad.safetensors", &format!("out.prob{suffix}"));
        assert_close(suffix, &probabilities, &expected, 1e-5);
    }
}

#[test]
fn earshot_fixture() {
    let sound = floats("earshot.safetensors", "in.wav16k");
    let mut detector = Detector::new(Backend::Earshot, 16_000).unwrap();
    let expected = floats("earshot.safetensors", "out.prob");
    assert_close("earshot", &streamed(&mut detector, &sound, || 300), &expected, 1e-5);
    // A second stream with the same detector is like the first.
    assert_close("earshot", &streamed(&mut detector, &sound, || usize::MAX), &expected, 1e-5);
}

#[derive(Deserialize)]
struct Group {
    probs: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    rate: u32,
    samples: u64,
    options: Map<String, Value>,
    segments: Vec<[u64; 2]>,
    events: Option<Vec<(usize, String, i64)>>,
}

fn options(given: &Map<String, Value>) -> SegmentOptions {
    let mut options = SegmentOptions::default();
    for (name, value) in given {
        let ms = value.as_u64().map(|ms| ms as u32);
        let number = value.as_f64().unwrap();
        match name.as_str() {
            "threshold" => options.threshold = number as f32,
            "neg_threshold" => options.neg_threshold = Some(number as f32),
            "min_speech_duration_ms" => options.min_speech_ms = ms.unwrap(),
            "min_silence_duration_ms" => options.min_silence_ms = ms.unwrap(),
            "speech_pad_ms" => options.speech_pad_ms = ms.unwrap(),
            "max_speech_duration_s" => options.max_speech_s = number,
            "min_silence_at_max_speech" => options.min_silence_at_max_ms = ms.unwrap(),
            other => panic!("{other}"),
        }
    }
    options
}

fn groups() -> Vec<Group> {
    serde_json::from_slice(&std::fs::read(data("segments.json")).unwrap()).unwrap()
}

fn window(rate: u32) -> usize {
    if rate == 16_000 { 512 } else { 256 }
}

#[test]
fn segments_are_the_official_ones() {
    let mut seen = 0;
    for (i, group) in groups().iter().enumerate() {
        for case in &group.cases {
            let mut segmenter = Segmenter::new(&options(&case.options), case.rate, window(case.rate)).unwrap();
            // Twice: `finish` leaves it as new.
            for _ in 0..2 {
                let mut segments = Vec::new();
                group.probs.iter().for_each(|&p| segmenter.push(p, &mut segments));
                segmenter.finish(case.samples, &mut segments);
                let expected: Vec<_> = case.segments.iter().map(|&[start, end]| Segment { start, end }).collect();
                assert_eq!(segments, expected, "group {i}, {:?}", case.options);
            }
            seen += case.segments.len();
        }
    }
    assert!(seen > 500, "{seen}");
}

#[test]
fn events_are_the_official_ones() {
    let mut seen = 0;
    for (i, group) in groups().iter().enumerate() {
        for case in &group.cases {
            let Some(expected) = &case.events else { continue };
            let options = options(&case.options);
            // Below 0.16 the official iterator never ends speech; ours does, at 0.01.
            if options.threshold < 0.16 {
                continue;
            }
            let mut events = SpeechEvents::new(&options, case.rate, window(case.rate)).unwrap();
            let got: Vec<_> = (group.probs.iter().enumerate())
                .filter_map(|(i, &p)| match events.push(p)? {
                    SpeechEvent::Start(at) => Some((i, "start".to_owned(), at as i64)),
                    SpeechEvent::End(at) => Some((i, "end".to_owned(), at as i64)),
                })
                .collect();
            assert_eq!(&got, expected, "group {i}, {:?}", case.options);
            seen += got.len();
        }
    }
    assert!(seen > 200, "{seen}");
}

#[test]
fn the_speech_of_a_speech() {
    // The official segments at 16 kHz, as printed by the recording script.
    let expected = [(5152, 36_320), (52_256, 71_136), (86_048, 122_848), (130_592, 169_952)];
    let mut vad = VadRunner::builder().backend(Backend::Silero).build().unwrap();
    let sound = sound(16_000);
    let segments = vad.segments(&sound);
    assert_eq!(segments, expected.map(|(start, end)| Segment { start, end }));
    assert_eq!(segments[0].seconds(16_000), (0.322, 2.27));
    // Earshot draws nearly the same borders: four fifths of what either hears, both hear.
    let mut inside = vec![0u8; sound.len()];
    let earshot = VadRunner::builder().build().unwrap().segments(&sound);
    for segment in segments.iter().chain(&earshot) {
        inside[segment.start as usize..segment.end as usize].iter_mut().for_each(|n| *n += 1);
    }
    let both = inside.iter().filter(|&&n| n == 2).count() as f64;
    let either = inside.iter().filter(|&&n| n > 0).count() as f64;
    assert!(both > 0.8 * either, "{both} of {either}: {earshot:?}");
}

#[test]
fn what_is_no_speech_is_none() {
    let mut random = Random::new(2);
    let noise: Vec<f32> = (0..160_000).map(|_| 0.1 * random.normal()).collect();
    let tone: Vec<f32> = (0..160_000).map(|i| 0.3 * (i as f32 * 0.17).sin()).collect();
    let broken = vec![f32::NAN; 160_000];
    for backend in [Backend::Silero, Backend::Earshot] {
        let mut vad = VadRunner::builder().backend(backend).build().unwrap();
        for (name, sound) in [("noise", &noise), ("tone", &tone), ("silence", &vec![0.0; 160_000]), ("NaN", &broken)] {
            // Earshot itself hears speech in some steady tones (0.6 in this one, by its Python package too).
            if (name, backend) != ("tone", Backend::Earshot) {
                assert_eq!(vad.segments(sound), [], "{name}, {}", backend.name());
            }
            assert!(vad.probabilities(sound).iter().all(|p| (0.0..=1.0).contains(p)), "{name}");
        }
        assert_eq!(vad.segments(&[]), []);
        assert_eq!(vad.probabilities(&[]), [] as [f32; 0]);
        // What was heard before is forgotten, even if it was absurd.
        vad.segments(&[f32::INFINITY, 1e9, -1e9].repeat(1000));
        let again = vad.segments(&sound(16_000));
        assert!(!again.is_empty(), "{}", backend.name());
    }
}

#[test]
fn weights_and_options_are_checked() {
    for (backend, rate) in [(Backend::Silero, 44_100), (Backend::Silero, 0), (Backend::Earshot, 8000)] {
        let error = VadRunner::builder().backend(backend).sample_rate(rate).build().unwrap_err().to_string();
        assert!(error.contains("Hz") && error.contains("resample"), "{error}");
    }
    let bad = [
        SegmentOptions { threshold: 1.5, ..SegmentOptions::default() },
        SegmentOptions { threshold: f32::NAN, ..SegmentOptions::default() },
        SegmentOptions { neg_threshold: Some(-0.1), ..SegmentOptions::default() },
        SegmentOptions { max_speech_s: 0.0, ..SegmentOptions::default() },
        SegmentOptions { max_speech_s: f64::NAN, ..SegmentOptions::default() },
    ];
    for options in bad {
        let error = VadRunner::builder().options(options).build().unwrap_err().to_string();
        assert!(error.contains("is needed"), "{error}");
    }
    let open = |path: &Path| Checkpoint::open(path, &OpenOptions::default()).unwrap();
    let weights = SileroWeights::from_checkpoint(&open(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/silero_v6_8k.safetensors"),
    ));
    let mut vad = VadRunner::builder().weights(weights.unwrap()).build().unwrap();
    assert_eq!((vad.sample_rate(), vad.window()), (8000, 256));
    assert_close("from a file", &vad.probabilities(&sound(8000)), &floats("silero.safetensors", "probs.8k"), 1e-4);
    let error = SileroWeights::from_checkpoint(&open(&data("silero.safetensors"))).unwrap_err().to_string();
    assert!(error.contains("conv1.weight is missing"), "{error}");
}

#[test]
fn extreme_options_do_no_harm() {
    let most = u32::MAX;
    let options = SegmentOptions {
        threshold: 0.0,
        neg_threshold: Some(1.0),
        min_speech_ms: 0,
        min_silence_ms: 0,
        max_speech_s: f64::MIN_POSITIVE,
        min_silence_at_max_ms: 0,
        speech_pad_ms: most,
    };
    for options in [options.clone(), SegmentOptions { speech_pad_ms: 0, threshold: 1.0, ..options }] {
        let mut segmenter = Segmenter::new(&options, u32::MAX, usize::MAX / (1 << 20)).unwrap();
        let mut segments = Vec::new();
        for i in 0..1000 {
            segmenter.push([0.0, 1.0, f32::NAN, 0.5][i % 4], &mut segments);
        }
        segmenter.finish(0, &mut segments);
    }
}
