//! One model in every format; and what is wrong with damaged files.

use std::path::Path;

use rlx_core::{CoreError, LoadOptions, NamedTensor, NamedTensors, Trace, load_tokenizer};
use rlx_runtime::Precision;
use rlx_weights::{Checkpoint, OpenOptions};
use rlx_whisper::{FAMILY, WhisperConfig, WhisperText, register_formats};
use tempfile::TempDir;

use crate::files::{Tensor, config, ct2_bytes, ggml_bytes, json_of, tensors, wide, write_gguf, write_hf};

fn open(path: &Path) -> Result<Checkpoint, CoreError> {
    register_formats().unwrap();
    Ok(Checkpoint::open(path, &OpenOptions::default())?)
}

/// Two windows, two sequences.
fn inputs(config: &WhisperConfig) -> NamedTensors {
    let frames = config.window_frames();
    let mels: Vec<f32> = (0..2 * config.num_mel_bins * frames).map(|i| (i as f32 * 0.37).sin()).collect();
    let ids = (0..10).map(|i| (i * 7 + 3) % config.vocab_size as i64).collect();
    let mut inputs = NamedTensors::new();
    inputs.insert("in.input_features".into(), NamedTensor::f32(&[2, config.num_mel_bins, frames], mels));
    inputs.insert("in.decoder_input_ids".into(), NamedTensor::i64(&[2, 5], ids));
    inputs
}

fn outputs(path: &Path, config: &WhisperConfig) -> NamedTensors {
    let mut options = LoadOptions::default();
    options.compile.precision = Precision::F32;
    let rlx_core::Task::Network { forward, .. } = FAMILY.task else { panic!("Whisper is no decoder-only model") };
    forward(&open(path).unwrap(), &options, &inputs(config), &mut Trace::default()).unwrap()
}

/// Squared error over squared size of the logits.
fn distance(a: &NamedTensors, b: &NamedTensors) -> f32 {
    let (a, b) = (a["out.logits"].to_f32(), b["out.logits"].to_f32());
    let error: f32 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    error / b.iter().map(|b| b * b).sum::<f32>()
}

#[test]
fn every_format_gives_the_same() {
    let (config, dir) = (config(), TempDir::new().unwrap());
    let tensors = tensors(&config, 1);
    write_hf(dir.path(), &config, &tensors);
    let expected = outputs(dir.path(), &config);
    assert_eq!(expected["out.logits"].shape, [2, 5, config.vocab_size]);
    // Sizes are seen from the tensors, heads are told by the metadata, since these are not 64 wide.
    let apart = TempDir::new().unwrap();
    for openai in [false, true] {
        let path = apart.path().join("model.gguf");
        write_gguf(&path, &config, &tensors, openai);
        assert_eq!(outputs(&path, &config), expected, "GGUF, names of openai: {openai}");
    }
    for (name, bytes) in
        [("ggml.bin", ggml_bytes(&config, &tensors, &[])), ("ct2.bin", ct2_bytes(&config, &tensors, false))]
    {
        let path = apart.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(outputs(&path, &config), expected, "{name}");
    }
    // A folder of CTranslate2's, whose config.json knows nothing of sizes.
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("model.bin"), ct2_bytes(&config, &tensors, false)).unwrap();
    std::fs::write(folder.path().join("config.json"), r#"{ "alignment_heads": [[1, 1]], "suppress_ids": [] }"#)
        .unwrap();
    assert_eq!(outputs(folder.path(), &config), expected);
    let checkpoint = open(folder.path()).unwrap();
    assert_eq!(WhisperConfig::from_checkpoint(&checkpoint).unwrap().alignment_heads, [(1, 1)]);
    // A checkpoint of the base model, without `model.`.
    let bare: Vec<Tensor> =
        tensors.iter().map(|tensor| Tensor { name: tensor.name.replacen("model.", "", 1), ..tensor.clone() }).collect();
    write_hf(dir.path(), &config, &bare);
    assert_eq!(outputs(dir.path(), &config), expected);
}

#[test]
fn int8_is_near() {
    // Rows of 64 become Q8_0, rows of 24 become F32; both are within half a step of int8 per weight.
    for config in [wide(), config()] {
        let dir = TempDir::new().unwrap();
        let tensors = tensors(&config, 2);
        write_hf(dir.path(), &config, &tensors);
        let path = dir.path().join("int8.bin");
        std::fs::write(&path, ct2_bytes(&config, &tensors, true)).unwrap();
        let error = distance(&outputs(&path, &config), &outputs(dir.path(), &config));
        assert!(error > 0.0 && error < 1e-3, "{error:e}");
        let dtype = open(&path).unwrap().tensor("model.decoder.layers.0.fc2.weight").unwrap().dtype;
        assert_eq!(dtype == rlx_ir::DType::Q8_0, config.d_model == 64);
    }
}

#[test]
fn encoder_positions_can_be_computed() {
    let (config, dir) = (config(), TempDir::new().unwrap());
    let mut tensors = tensors(&config, 3);
    let at = tensors.iter().position(|tensor| tensor.name == "model.encoder.embed_positions.weight").unwrap();
    // openai/whisper, `sinusoids`: sin and cos of position / 10000^(i / (d / 2 - 1)).
    let half = config.d_model / 2;
    let angle = |row: usize, i: usize| row as f64 / 10_000f64.powf(i as f64 / (half - 1) as f64);
    tensors[at].values = (0..config.max_source_positions)
        .flat_map(|row| {
            let sines = (0..half).map(move |i| angle(row, i).sin() as f32);
            sines.chain((0..half).map(move |i| angle(row, i).cos() as f32))
        })
        .collect();
    write_hf(dir.path(), &config, &tensors);
    let stored = outputs(dir.path(), &config);
    tensors.remove(at);
    write_hf(dir.path(), &config, &tensors);
    assert!(distance(&outputs(dir.path(), &config), &stored) < 1e-10);
}

#[test]
fn the_vocabulary_of_a_whisper_cpp_file_becomes_a_tokenizer() {
    let config = WhisperConfig { vocab_size: 51_865, ..config() };
    let dir = TempDir::new().unwrap();
    let mut words: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    words.extend([" a", "sk", " ask"].map(|word| word.as_bytes().to_vec()));
    words.extend((words.len()..50_257).map(|i| format!("\u{1}{i}").into_bytes()));
    let path = dir.path().join("ggml.bin");
    std::fs::write(&path, ggml_bytes(&config, &tensors(&config, 4), &words)).unwrap();
    let checkpoint = open(&path).unwrap();
    assert_eq!(WhisperConfig::from_checkpoint(&checkpoint).unwrap().vocab_size, 51_865);
    let tokenizer = load_tokenizer(&checkpoint, None).unwrap().expect("the file has a vocabulary");
    let text = WhisperText::new(tokenizer, true).unwrap();
    // As in multilingual.tiktoken of openai/whisper.
    assert_eq!((text.eot, text.sot, text.timestamp_begin), (50_257, 50_258, 50_364));
    assert_eq!((text.translate, text.transcribe, text.no_speech), (Some(50_358), Some(50_359), Some(50_362)));
    assert_eq!(text.languages().len(), 99);
    assert_eq!(text.tokenizer().token_to_id("<|30.00|>"), Some(51_864));
    assert_eq!(text.encode(" ask").unwrap(), [258]);
    assert_eq!(text.decode(&[258, 0xc3, 0xa9]).unwrap(), " ask\u{e9}");
}

/// Opening and reading the config must end in a model or an error.
fn try_to_load(path: &Path, config: &WhisperConfig) -> Result<NamedTensors, CoreError> {
    let rlx_core::Task::Network { forward, check, .. } = FAMILY.task else {
        panic!("Whisper is no decoder-only model")
    };
    let checkpoint = open(path)?;
    check(&checkpoint)?;
    forward(&checkpoint, &LoadOptions::default(), &inputs(config), &mut Trace::default())
}

#[test]
fn damaged_files_are_errors() {
    let (config, dir) = (config(), TempDir::new().unwrap());
    let path = dir.path().join("model.bin");
    let tensors = tensors(&config, 5);
    let words = vec![b"ab".to_vec(); 3];
    for whole in [ggml_bytes(&config, &tensors, &words), ct2_bytes(&config, &tensors, true)] {
        for cut in (0..whole.len()).step_by(whole.len() / 150).chain([1, 3, 4, 5, 17]) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(try_to_load(&path, &config).is_err(), "{cut} of {} bytes", whole.len());
        }
        // Any byte of the header may be anything.
        let mut state = 7u64;
        for _ in 0..400 {
            let mut damaged = whole.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % 6000.min(whole.len());
                damaged[at] = (state >> 20) as u8;
            }
            std::fs::write(&path, &damaged).unwrap();
            drop(try_to_load(&path, &config));
        }
    }
    let error = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        try_to_load(&path, &config).unwrap_err().to_string()
    };
    assert!(error(b"PK\x03\x04 and so on").contains("PyTorch"));
    assert!(error(b"hello, world").contains("neither"));
    assert!(error(b"").contains("shorter"));
    // A model of another specification.
    assert!(error(b"\x06\0\0\0\x04\0Abc\0\x03\0\0\0").contains("Abc revision 3, not WhisperSpec"));
}

#[test]
fn impossible_configs_are_errors() {
    let (config, dir) = (config(), TempDir::new().unwrap());
    write_hf(dir.path(), &config, &tensors(&config, 6));
    std::fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    let plain = json_of(&config);
    for (key, value, text) in [
        ("d_model", 0u64.into(), "d_model = 0 is not between 1 and"),
        ("d_model", (1u64 << 60).into(), "d_model = "),
        ("d_model", serde_json::Value::Null, "d_model is missing"),
        ("encoder_attention_heads", 5.into(), "encoder_attention_heads = 5 do not divide d_model = 24"),
        ("decoder_layers", 3.into(), "decoder.layers.2."),
        ("decoder_layers", 1.into(), "decoder.layers.1."),
        ("encoder_layers", (1u64 << 40).into(), "encoder_layers = "),
        ("vocab_size", 60.into(), "embed_tokens"),
        ("max_source_positions", 12.into(), "embed_positions"),
        ("num_mel_bins", 10.into(), "conv1"),
        ("activation_function", "mish".into(), "mish"),
        ("alignment_heads", serde_json::json!([[1]]), "pairs"),
    ] {
        let mut json = plain.clone();
        json[key] = value;
        let checkpoint = open(dir.path()).unwrap().with_config(json);
        let rlx_core::Task::Network { forward, .. } = FAMILY.task else { panic!("Whisper is no decoder-only model") };
        let result = forward(&checkpoint, &LoadOptions::default(), &inputs(&config), &mut Trace::default());
        let error = result.unwrap_err().to_string();
        assert!(error.contains(text), "{key}: {error}");
    }
    std::fs::write(dir.path().join("generation_config.json"), r#"{ "alignment_heads": [[9, 0]] }"#).unwrap();
    let error = WhisperConfig::from_checkpoint(&open(dir.path()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("head 0 of layer 9"), "{error}");
}
