//! Properties that hold whatever the weights are, on the models of the fixtures.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use rlx_core::testing::Random;
use rlx_runtime::{CompileOptions, Isa, Precision};
use rlx_wav2vec2_bert::{Hidden, Wav2Vec2BertError, Wav2Vec2BertRunner};
use rlx_weights::{Checkpoint, OpenOptions};
use serde_json::{Value, json};

const FIXTURES: &[&str] = &[
    "wav2vec2_bert",
    "wav2vec2_bert_adapter",
    "adapter_kernel_5_stride_3",
    "adapter_unmasked",
    "ctc",
    "ctc_adapter",
    "long",
    "no_positions",
    "relative",
    "rotary",
];

fn dir(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR")))
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&dir(name), &OpenOptions::default()).unwrap()
}

fn options(isa: Isa, threads: usize) -> CompileOptions {
    CompileOptions { isa, threads, precision: Precision::F32, ..CompileOptions::default() }
}

fn load(name: &str) -> Wav2Vec2BertRunner {
    Wav2Vec2BertRunner::from_checkpoint(&open(name), &options(Isa::detect(), 2)).unwrap()
}

/// Feature rows of sequences of these lengths.
fn features(runner: &Wav2Vec2BertRunner, lens: &[usize]) -> Vec<Vec<f32>> {
    let width = runner.config().feature_projection_input_dim;
    let mut random = Random::new(lens.iter().sum::<usize>() as u64);
    lens.iter().map(|len| (0..len * width).map(|_| random.normal()).collect()).collect()
}

fn run(runner: &mut Wav2Vec2BertRunner, inputs: &[Vec<f32>]) -> Vec<Hidden> {
    runner.run_features(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
}

/// Hidden states are of the order of 1, after tens of sums of as many products in another order.
fn same(a: &[Hidden], b: &[Hidden], what: &str) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((a.rows, a.width), (b.rows, b.width), "{what}");
        for (x, y) in a.data.iter().zip(&b.data) {
            assert!((x - y).abs() < 1e-4, "{what}: {x} {y}");
        }
    }
}

#[test]
fn batched_is_single() {
    for name in FIXTURES {
        let mut runner = load(name);
        let inputs = features(&runner, &[37, 1, 80, 2, 5]);
        let together = run(&mut runner, &inputs);
        let apart: Vec<Hidden> =
            inputs.iter().flat_map(|input| run(&mut runner, std::slice::from_ref(input))).collect();
        same(&together, &apart, name);
        for (hidden, rows) in together.iter().zip([37, 1, 80, 2, 5]) {
            assert_eq!(hidden.rows, runner.config().output_len(rows), "{name}");
            assert!(hidden.data.iter().all(|x| x.is_finite()), "{name}");
        }
    }
}

#[test]
fn instruction_sets_and_threads_agree() {
    for name in FIXTURES {
        let checkpoint = open(name);
        let mut reference = Wav2Vec2BertRunner::from_checkpoint(&checkpoint, &options(Isa::Scalar, 1)).unwrap();
        let inputs = features(&reference, &[19, 66]);
        let expected = run(&mut reference, &inputs);
        for isa in Isa::available() {
            for threads in 1..=3 {
                let mut runner = Wav2Vec2BertRunner::from_checkpoint(&checkpoint, &options(isa, threads)).unwrap();
                same(&run(&mut runner, &inputs), &expected, &format!("{name} {isa} {threads}"));
            }
        }
    }
}

/// The sound that scripts/reference/record_wav2vec2_bert.py makes.
fn samples(seconds: f64) -> Vec<f32> {
    let (mut state, mut last) = (1u64, 0.0f64);
    let sample = |i: usize| {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        let part = i / 1600;
        let noise = ((state >> 16) % 2001) as f64 - 1000.0;
        last = noise / 32768.0 * (1 + part * 5 % 7) as f64 + last * (part % 4) as f64 / 4.0;
        last as f32
    };
    (0..(16_000.0 * seconds) as usize).map(sample).collect()
}

#[test]
fn words_are_those_of_the_reference() {
    let meta: Value = serde_json::from_slice(&std::fs::read(dir("ctc").join("meta.json")).unwrap()).unwrap();
    let mut runner = load("ctc");
    let transcripts = meta["transcripts"].as_array().unwrap();
    assert_eq!(transcripts.len(), 3);
    let mut sounds = Vec::new();
    for transcript in transcripts {
        let sound = samples(transcript["seconds"].as_f64().unwrap());
        // Far enough from a tie for the features' last digits.
        assert!(transcript["margin"].as_f64().unwrap() > 1e-3);
        assert_eq!(runner.transcribe(&sound).unwrap(), transcript["text"].as_str().unwrap());
        sounds.push(sound);
    }
    let sounds: Vec<&[f32]> = sounds.iter().map(Vec::as_slice).collect();
    let texts = runner.transcribe_batch(&sounds, &mut |_, _| true).unwrap();
    assert!(texts.iter().zip(transcripts).all(|(text, one)| text == one["text"].as_str().unwrap()));
}

#[test]
fn long_sounds_come_in_pieces() {
    let mut runner = load("ctc");
    let sound = samples(75.0);
    let mut steps = Vec::new();
    let text = runner.transcribe_batch(&[&sound], &mut |done, total| {
        steps.push((done, total));
        true
    });
    // 7498 frames, two to a row.
    assert_eq!(steps, [(3000, 3749), (3749, 3749)]);
    assert!(text.unwrap()[0].len() > 100);
    let stopped = runner.transcribe_batch(&[&sound, &sound], &mut |_, _| false).unwrap();
    assert!(!stopped[0].is_empty() && stopped[1].is_empty());
}

#[test]
fn what_cannot_be_run_is_an_error() {
    let mut runner = load("ctc");
    assert!(matches!(runner.features(&[0.0; 100]), Err(Wav2Vec2BertError::TooShort(0))));
    assert!(matches!(runner.run_features(&[&[0.0; 161]]), Err(Wav2Vec2BertError::FeatureShape { found: 161, .. })));
    let long = vec![0.0; 30_001 * 160];
    assert!(matches!(runner.run_features(&[&long]), Err(Wav2Vec2BertError::TooLong { rows: 30_001, .. })));
    assert_eq!(runner.run_features(&[]).unwrap(), []);
    assert_eq!(runner.run_features(&[&[]]).unwrap()[0].rows, 0);
    // Silence, and samples that are no numbers, give numbers or none, but no panic.
    assert!(runner.features(&[0.0; 16_000]).unwrap().data.iter().all(|x| x.is_finite()));
    let _ = runner.transcribe(&[f32::NAN; 8_000]);
    assert!(matches!(load("rotary").features(&[0.0; 16_000]), Err(Wav2Vec2BertError::OtherFeatures(18))));
    assert!(matches!(load("ctc_adapter").transcribe(&[0.0; 16_000]), Err(Wav2Vec2BertError::NoVocabulary)));
    assert!(matches!(load("rotary").transcribe(&[0.0; 16_000]), Err(Wav2Vec2BertError::NoHead)));
}

#[test]
fn hostile_configs_are_errors() {
    let nonsense = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(u64::MAX),
        json!(1e30),
        json!("x"),
        json!([]),
        json!(true),
    ];
    for name in ["wav2vec2_bert_adapter", "relative", "rotary", "ctc"] {
        let checkpoint = open(name);
        let config = checkpoint.config().unwrap().clone();
        let fields: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
        for (field, value) in fields.iter().flat_map(|field| nonsense.iter().map(move |value| (field, value))) {
            let mut hostile = config.clone();
            hostile[field] = value.clone();
            let checkpoint = open(name).with_config(hostile);
            let result = catch_unwind(AssertUnwindSafe(|| {
                let mut runner = Wav2Vec2BertRunner::from_checkpoint(&checkpoint, &options(Isa::detect(), 1))?;
                let inputs = features(&runner, &[5]);
                runner.run_features(&[&inputs[0]])
            }));
            match result {
                Err(_) => panic!("{name}: {field} = {value}: panicked"),
                Ok(Err(error)) => assert!(!error.to_string().contains('\n'), "{field} = {value}: {error}"),
                Ok(Ok(_)) => {}
            }
        }
    }
}

#[test]
fn tensors_that_nobody_knows_are_told() {
    let ctc = open("ctc");
    let mut config = ctc.config().unwrap().clone();
    config["num_hidden_layers"] = json!(1);
    let error = |checkpoint: Checkpoint| {
        Wav2Vec2BertRunner::from_checkpoint(&checkpoint, &options(Isa::detect(), 1)).map(drop).unwrap_err().to_string()
    };
    let text = error(open("ctc").with_config(config.clone()));
    assert!(text.contains("encoder.layers.1."), "{text}");
    config["num_hidden_layers"] = json!(3);
    let text = error(open("ctc").with_config(config));
    assert!(text.contains("encoder.layers.2."), "{text}");
}
