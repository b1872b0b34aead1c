//! `inspect` and `check`, custom formats.

use std::fs;
use std::path::{Path, PathBuf};

use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::check::{Architectures, Verdict, check};
use rlx_weights::gguf::GgufWriter;
use rlx_weights::inspect::inspect;
use rlx_weights::safetensors_file::write_safetensors;
use rlx_weights::{
    Checkpoint, CustomFormat, Format, OpenOptions, TensorView, WeightsError, list_formats, register_format,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llama32").join(name)
}

fn model(change: impl FnOnce(&mut GgufWriter)) -> GgufWriter {
    let mut writer = GgufWriter::new("llama");
    for key in ["context_length", "embedding_length", "block_count"] {
        writer.set(format!("llama.{key}"), 2u32);
    }
    writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "smollm");
    let tokens: Vec<String> = (0..300).map(|i| format!("t{i}")).collect();
    writer.set("tokenizer.ggml.tokens", &tokens[..]).set("tokenizer.chat_template", "x".repeat(1000));
    writer.set("general.file_type", 15u32).set("general.name", "Tiny").set("llama.rope.freq_base", 0.1f32);
    writer.set("general.odd", f32::INFINITY);
    writer.add_tensor("a", DType::F32, &[2, 3]).unwrap();
    writer.add_tensor("q", DType::Q4_0, &[4, 32]).unwrap();
    change(&mut writer);
    writer
}

fn write(path: &Path, writer: GgufWriter) {
    let mut stream = writer.create(path).unwrap();
    while let Some((_, dtype, shape)) = stream.current() {
        let bytes = dtype.bytes_for(shape.iter().product()).unwrap();
        stream.write(&vec![0; bytes]).unwrap();
    }
    stream.finish().unwrap();
}

#[test]
fn inspect_gguf() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write(
        &path,
        model(|writer| {
            writer.set("llama.nextn_predict_layers", 1u32);
            writer.add_tensor("blk.2.nextn.eh_proj.weight", DType::F32, &[1]).unwrap();
        }),
    );
    let report = inspect(&path, &OpenOptions::default()).unwrap();
    assert_eq!((report.format.as_str(), report.architecture.as_deref()), ("gguf", Some("llama")));
    assert_eq!((report.name.as_deref(), report.quant.as_deref()), (Some("Tiny"), Some("Q4_K_M")));
    assert_eq!((report.tensors, report.parameters, report.tensor_bytes), (3, 6 + 128 + 1, 24 + 72 + 4));
    assert_eq!(report.file_bytes, fs::metadata(&path).unwrap().len());
    let dtypes: Vec<_> = report.dtypes.iter().map(|s| (s.dtype.as_str(), s.tensors, s.parameters, s.bytes)).collect();
    assert_eq!(dtypes, [("Q4_0", 1, 128, 72), ("F32", 2, 7, 28)]);
    let tokens = &report.metadata["tokenizer.ggml.tokens"];
    assert_eq!((&tokens["length"], &tokens["first"][1]), (&300.into(), &"t1".into()));
    assert_eq!(report.metadata["llama.rope.freq_base"].to_string(), "0.1");
    assert_eq!(report.metadata["general.odd"], "inf");
    assert!(report.metadata["tokenizer.chat_template"].as_str().unwrap().ends_with("(1000 bytes)"));
    let tokenizer = report.tokenizer.as_ref().unwrap();
    assert_eq!(
        (tokenizer.kind.as_deref(), tokenizer.pre.as_deref(), tokenizer.vocab_size),
        (Some("gpt2"), Some("smollm"), Some(300))
    );
    assert!(report.chat_template);
    let mtp = report.mtp.as_ref().unwrap();
    assert_eq!((&mtp.keys[..], mtp.tensors), (&["llama.nextn_predict_layers".to_owned()][..], 1));
    assert_eq!((mtp.parameters, mtp.bytes), (1, 4));
    assert!(report.split.is_none());
    serde_json::to_string(&report).unwrap();
}

#[test]
fn inspect_directory_and_missing_parts() {
    let dir = tempfile::tempdir().unwrap();
    let part = |i| dir.path().join(format!("m-Q8_0-0000{i}-of-00003.gguf"));
    for i in [1u16, 3] {
        let mut writer = GgufWriter::new("llama");
        writer.set("split.no", i - 1).set("split.count", 3u16);
        writer.add_tensor(&format!("t{i}"), DType::F32, &[1]).unwrap();
        write(&part(i), writer);
    }
    write(&dir.path().join("z.gguf"), model(|_| ()));
    let report = inspect(&part(3), &OpenOptions::default()).unwrap();
    let split = report.split.unwrap();
    assert_eq!((split.parts, &split.missing[..]), (3, &[part(2)][..]));
    assert_eq!(report.tensors, 2);
    assert!(report.directory.is_empty());

    let report = inspect(dir.path(), &OpenOptions::default()).unwrap();
    let listing: Vec<_> =
        report.directory.iter().map(|e| (e.index, e.quant.as_deref(), e.parts, e.missing.len())).collect();
    assert_eq!(listing, [(0, Some("Q8_0"), 3, 1), (1, Some("Q4_K_M"), 1, 0)]);
    assert_eq!(report.files, [dir.path().join("z.gguf")]);
    let by_index = OpenOptions { gguf_index: Some(0), ..OpenOptions::default() };
    assert_eq!(inspect(dir.path(), &by_index).unwrap().files, [part(1), part(3)]);
}

#[test]
fn inspect_hugging_face_folder() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "config.json"] {
        fs::copy(fixture(file), dir.path().join(file)).unwrap();
    }
    let report = inspect(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!((report.format.as_str(), report.architecture.as_deref()), ("safetensors", Some("llama")));
    assert_eq!((report.tensors, report.quant, report.chat_template), (29, None, false));
    assert_eq!(report.metadata["rope_parameters"]["rope_type"], "llama3");
    assert!(report.tokenizer.is_none() && report.mtp.is_none());

    let tokenizer = r#"{"added_tokens":[{"id":1,"content":"a"},{"id":3,"content":"<x>"}],
        "model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2},"merges":[]}}"#;
    fs::write(dir.path().join("tokenizer.json"), tokenizer).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"chat_template":"{{ x }}"}"#).unwrap();
    fs::write(dir.path().join("config.json"), r#"{"model_type":"llama","num_nextn_predict_layers":1}"#).unwrap();
    let report = inspect(dir.path(), &OpenOptions::default()).unwrap();
    let tokenizer = report.tokenizer.unwrap();
    assert_eq!(
        (tokenizer.source.as_str(), tokenizer.kind.as_deref(), tokenizer.vocab_size),
        ("tokenizer.json", Some("BPE"), Some(4))
    );
    assert!(report.chat_template);
    assert_eq!(report.mtp.unwrap().keys, ["num_nextn_predict_layers"]);
    let unigram = r#"{"model":{"type":"Unigram","vocab":[["a",0.0],["b",-1.5]]}}"#;
    fs::write(dir.path().join("tokenizer.json"), unigram).unwrap();
    assert_eq!(inspect(dir.path(), &OpenOptions::default()).unwrap().tokenizer.unwrap().vocab_size, Some(2));
}

#[test]
fn verdicts() {
    const ARCHITECTURES: Architectures<'static> =
        Architectures { supported: &["llama"], known: &[("mamba2", "selective scan with heads")] };
    let judge = |path: &Path| check(path, &OpenOptions::default(), &ARCHITECTURES).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write(&path, model(|_| ()));
    assert_eq!(judge(&path).to_string(), "SUPPORTED");
    assert_eq!(serde_json::to_string(&judge(&path)).unwrap(), r#"{"verdict":"SUPPORTED","architecture":"llama"}"#);
    write(&path, GgufWriter::new("mamba2"));
    assert_eq!(judge(&path).to_string(), "KnownUnimplemented(selective scan with heads)");
    write(&path, GgufWriter::new("gpt5"));
    assert_eq!(judge(&path), Verdict::Unknown { architecture: "gpt5".into() });
    write(&path, GgufWriter::from_metadata(Default::default()));
    assert_eq!(judge(&path).to_string(), "MissingMetadata(general.architecture)");
    write(
        &path,
        model(|writer| {
            writer.set("tokenizer.ggml.tokens", 1u32).set("llama.block_count", "two");
        }),
    );
    assert_eq!(judge(&path).to_string(), "MissingMetadata(llama.block_count, tokenizer.ggml.tokens)");
    // The fixture was converted without vocabulary: its tokenizer is `none`, which has no tokens.
    assert_eq!(judge(&fixture("model.f32.gguf")).to_string(), "SUPPORTED");
    assert_eq!(judge(&fixture("model.safetensors")).to_string(), "SUPPORTED");
    // One type number in the file is made unknown.
    let mut writer = GgufWriter::new("llama");
    writer.add_tensor("only", DType::F32, &[8]).unwrap();
    write(&path, writer);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|w| w == b"only").unwrap() + 4 + 4 + 8;
    bytes[at] = 200;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(judge(&path).to_string(), "KnownUnimplemented(tensor type 200 (a newer format, or a corrupt file))");
    let lone = dir.path().join("x.safetensors");
    write_safetensors(&lone, &[("a", DType::U8, &[1], &[0])]).unwrap();
    assert_eq!(judge(&lone).to_string(), "MissingMetadata(config.json: model_type)");
    assert!(check(&dir.path().join("none.gguf"), &OpenOptions::default(), &ARCHITECTURES).is_err());
}

/// `.raw32`: nothing but f32 numbers.
struct Raw;

impl CustomFormat for Raw {
    fn name(&self) -> &str {
        "raw32"
    }
    fn extensions(&self) -> &[&str] {
        &["raw32"]
    }
    fn open(&self, path: &Path) -> Result<Checkpoint, WeightsError> {
        let data = fs::read(path).map_err(|source| WeightsError::Io { path: path.into(), source })?;
        let tensor = TensorView::new("all".into(), DType::F32, vec![data.len() / 4], Bytes::copy_from(&data))?;
        let checkpoint = Checkpoint::custom(self.name(), path, vec![path.into()], vec![tensor])?;
        Ok(checkpoint.with_config(serde_json::json!({ "model_type": "raw" })))
    }
}

#[test]
fn custom_formats_open_by_extension() {
    register_format(Box::new(Raw)).unwrap();
    assert!(register_format(Box::new(Raw)).is_err(), "the extension is taken");
    assert!(list_formats().iter().any(|(name, _)| name == "raw32"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.RAW32");
    fs::write(&path, 2.5f32.to_le_bytes()).unwrap();
    for path in [path.as_path(), dir.path()] {
        let checkpoint = Checkpoint::open(path, &OpenOptions::default()).unwrap();
        assert_eq!(checkpoint.format(), &Format::Custom("raw32".into()));
        assert_eq!(checkpoint.tensor("all").unwrap().to_f32().unwrap(), [2.5]);
        assert_eq!(checkpoint.architecture(), Some("raw"));
    }
    fs::write(&path, [0; 7]).unwrap();
    assert!(Checkpoint::open(&path, &OpenOptions::default()).is_err());
    assert_eq!(inspect(&fixture("model.f32.gguf"), &OpenOptions::default()).unwrap().format, "gguf");
}
