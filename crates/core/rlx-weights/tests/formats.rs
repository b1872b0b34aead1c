//! Both formats through the public API: round trips, split files, directories, broken headers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::gguf::{self, GgufArray, GgufValue, GgufWriter, StringArray};
use rlx_weights::safetensors_file::{self, write_safetensors};
use rlx_weights::{Checkpoint, Format, OpenOptions, WeightsError};

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A small GGUF with every value type and three tensors.
fn sample() -> Vec<u8> {
    let mut writer = GgufWriter::new("llama");
    writer.set("a.u8", 1u8).set("a.i8", -1i8).set("a.u16", 2u16).set("a.i16", -2i16).set("a.u32", 3u32);
    writer.set("a.i32", -3i32).set("a.f32", 0.5f32).set("a.bool", true).set("a.str", "two words").set("a.u64", 4u64);
    writer.set("a.i64", -4i64).set("a.f64", 0.25f64);
    writer.set("a.tokens", &["<s>", "", "wörd"][..]).set("a.types", vec![1i32, 2, 3]).set("a.flags", vec![true, false]);
    let nested = vec![GgufArray::U16(vec![1, 2]), GgufArray::Array(vec![]), GgufArray::String(StringArray::default())];
    writer.set("a.nested", GgufArray::Array(nested));
    writer.add_tensor("w", DType::F32, &[2, 3]).unwrap();
    writer.add_tensor("q", DType::Q8_0, &[1, 32]).unwrap();
    writer.add_tensor("none", DType::F32, &[0, 3]).unwrap();
    writer.add_tensor("s", DType::F16, &[]).unwrap();
    let mut stream = writer.start(Vec::new()).unwrap();
    let w = f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    stream.write(&w[..5]).unwrap();
    assert_eq!(stream.current().unwrap().0, "w");
    assert!(stream.write(&[0; 20]).is_err(), "across the end of a tensor");
    stream.write(&w[5..]).unwrap();
    stream.write(&[1; 34]).unwrap();
    stream.write(&[0, 0x3c]).unwrap();
    stream.finish().unwrap()
}

fn parse(bytes: &[u8]) -> Result<gguf::GgufFile, WeightsError> {
    gguf::parse(&Bytes::copy_from(bytes), "x.gguf".as_ref())
}

fn message(bytes: &[u8]) -> String {
    let text = parse(bytes).expect_err("must not parse").to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn gguf_round_trip() {
    let bytes = sample();
    let file = parse(&bytes).unwrap();
    assert_eq!((file.version, file.alignment), (3, 32));
    assert_eq!(file.data_offset % 32, 0);
    let meta = &file.metadata;
    assert_eq!(meta.architecture(), Some("llama"));
    assert_eq!(meta.arch_key("block_count"), "llama.block_count");
    assert_eq!(meta.get("a.i16"), Some(&GgufValue::I16(-2)));
    assert_eq!(meta.get("a.f64"), Some(&GgufValue::F64(0.25)));
    assert_eq!(meta.get_u64("a.u64"), Some(4));
    assert_eq!(meta.get_strings("a.tokens").unwrap().to_vec(), ["<s>", "", "wörd"]);
    assert_eq!(meta.get_array("a.flags"), Some(&GgufArray::Bool(vec![true, false])));
    assert_eq!(meta.get_array("a.nested").unwrap().len(), 3);
    assert_eq!(meta.iter().last().unwrap().0, "a.nested");
    let names: Vec<&str> = file.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["w", "q", "none", "s"]);
    assert_eq!(file.tensors[0].shape, [2, 3]);
    assert_eq!(file.tensors[0].to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(&*file.tensors[1].data, &[1; 34]);
    assert_eq!(file.tensors[1].to_f32().unwrap().len(), 32);
    assert_eq!(file.tensors[3].to_f32().unwrap(), [1.0]);

    // Writing what was read gives the same file.
    let mut writer = GgufWriter::from_metadata(file.metadata.clone());
    for tensor in &file.tensors {
        writer.add_tensor(&tensor.name, tensor.dtype, &tensor.shape).unwrap();
    }
    let mut stream = writer.start(Vec::new()).unwrap();
    for tensor in &file.tensors {
        stream.write(&tensor.data).unwrap();
    }
    assert_eq!(stream.finish().unwrap(), bytes);
}

#[test]
fn alignment_is_obeyed() {
    for (alignment, fine) in [(1u32, true), (64, true), (4096, true), (48, false), (0, false), (1 << 30, false)] {
        let mut writer = GgufWriter::new("x");
        // An unusable alignment must be written past the writer's own check.
        writer.set("general.alignment", if fine { alignment } else { 32 });
        writer.add_tensor("a", DType::I8, &[3]).unwrap().add_tensor("b", DType::I8, &[5]).unwrap();
        let mut stream = writer.start(Vec::new()).unwrap();
        stream.write(&[7; 3]).unwrap();
        stream.write(&[9; 5]).unwrap();
        let mut bytes = stream.finish().unwrap();
        if fine {
            let file = parse(&bytes).unwrap();
            assert_eq!(file.data_offset % alignment as usize, 0);
            assert_eq!(&*file.tensors[1].data, &[9; 5]);
        } else {
            let key = b"general.alignment";
            let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
            bytes[at..at + 4].copy_from_slice(&alignment.to_le_bytes());
            assert!(message(&bytes).contains("general.alignment"));
        }
    }
}

/// A header by hand: counts, then raw bytes.
fn raw(version: u32, tensors: u64, keys: u64, rest: &[&[u8]]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(version.to_le_bytes());
    out.extend(tensors.to_le_bytes());
    out.extend(keys.to_le_bytes());
    rest.iter().for_each(|part| out.extend(*part));
    out
}

fn record(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut out = (name.len() as u64).to_le_bytes().to_vec();
    out.extend(name.as_bytes());
    out.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
    out.extend(kind.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

#[test]
fn broken_headers_are_named() {
    let pad = [0u8; 4096];
    let one = |dims: &[u64], kind, offset| message(&raw(3, 1, 0, &[&record("t.weight", dims, kind, offset), &pad]));
    assert!(message(b"").contains("empty"));
    assert!(message(b"GG").contains("cut short"));
    assert!(message(b"PK\x03\x04....").contains("not a GGUF"));
    assert!(message(&raw(1, 0, 0, &[])).contains("version 1"));
    assert!(message(&raw(4, 0, 0, &[])).contains("version 4"));
    assert!(message(&raw(3u32.swap_bytes(), 0, 0, &[])).contains("big-endian"));
    assert!(message(&raw(3, 1 << 60, 0, &[&pad])).contains("1152921504606846976 tensors"));
    assert!(message(&raw(3, 0, 1 << 60, &[&pad])).contains("metadata keys"));
    assert!(message(&raw(3, 0, 1, &[&(1u64 << 60).to_le_bytes(), &pad])).contains("announces"));
    assert!(one(&[1 << 60, 1 << 60], 0, 0).contains("too many elements"));
    assert!(one(&[u64::MAX], 0, 0).contains("impossible dim"));
    assert!(one(&[1; 9], 0, 0).contains("9 dims"));
    let unknown = one(&[32], 36, 0);
    assert!(unknown.contains("`t.weight`") && unknown.contains("36") && unknown.contains("removed"), "{unknown}");
    assert!(one(&[32], 999, 0).contains("unknown type 999"));
    assert!(one(&[33], 8, 0).contains("not a multiple of 32"));
    assert!(one(&[32], 0, 1 << 50).contains("cut short"));
    assert!(one(&[32], 0, u64::MAX - 31).contains("impossible offset"));
    assert!(one(&[32], 0, 7).contains("alignment"));
    let two = |a: &[u8], b: &[u8]| message(&raw(3, 2, 0, &[a, b, &pad]));
    assert!(two(&record("a", &[32], 0, 0), &record("b", &[32], 0, 64)).contains("overlap"));
    assert!(two(&record("a", &[8], 0, 0), &record("a", &[8], 0, 32)).contains("twice"));
    // Array counts: numbers, strings, nesting without end.
    let value = |kind: u32, count: u64, rest: &[u8]| {
        let head =
            [&1u64.to_le_bytes()[..], b"k", &9u32.to_le_bytes(), &kind.to_le_bytes(), &count.to_le_bytes()].concat();
        message(&raw(3, 0, 1, &[&head, rest]))
    };
    assert!(value(6, 1 << 61, &pad).contains("cut short"));
    assert!(value(6, u64::MAX, &pad).contains("cut short"));
    assert!(value(8, 1 << 60, &pad).contains("cut short"));
    assert!(value(77, 1, &pad).contains("unknown array type"));
    let deep: Vec<u8> =
        std::iter::repeat_n([&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat(), 10_000).flatten().collect();
    assert!(value(9, 1, &deep).contains("nests"));
    let wide: Vec<u8> =
        std::iter::repeat_n([&0u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat(), 70_000).flatten().collect();
    assert!(value(9, 70_000, &wide).contains("nested arrays"));
    // Control characters of a name do not reach the terminal.
    let evil = message(&raw(3, 1, 0, &[&record("a\n\x1b[31m", &[32], 999, 0), &pad]));
    assert!(!evil.contains('\x1b'));
}

fn write_part(path: &Path, no: u16, count: u16, total: i32, name: &str) {
    let mut writer = GgufWriter::new("llama");
    writer.set("split.no", no).set("split.count", count).set("split.tensors.count", total);
    writer.add_tensor(name, DType::F32, &[2]).unwrap();
    let mut stream = writer.create(path).unwrap();
    stream.write(&f32s(&[no.into(), 1.0])).unwrap();
    stream.finish().unwrap();
}

#[test]
fn split_gguf_merges_from_any_part() {
    let dir = tempfile::tempdir().unwrap();
    let part = |i: usize| dir.path().join(format!("m-0000{i}-of-00003.gguf"));
    for i in 0..3u16 {
        write_part(&part(i as usize + 1), i, 3, 3, &format!("t{i}"));
    }
    for from in [part(1), part(2), part(3), dir.path().to_path_buf()] {
        let checkpoint = Checkpoint::open(&from, &OpenOptions::default()).unwrap();
        assert_eq!(checkpoint.files().len(), 3);
        assert_eq!(checkpoint.tensors().len(), 3);
        assert_eq!(checkpoint.tensor("t2").unwrap().to_f32().unwrap(), [2.0, 1.0]);
        assert!(checkpoint.tensor("t3").is_none());
    }
    fs::remove_file(part(2)).unwrap();
    let error = Checkpoint::open(&part(3), &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("m-00002-of-00003.gguf") && !error.contains("m-00001"), "{error}");
    let options = OpenOptions { allow_missing_parts: true, ..OpenOptions::default() };
    let checkpoint = Checkpoint::open(&part(3), &options).unwrap();
    assert_eq!(checkpoint.missing_parts(), [part(2)]);
    // A part of another model, and one that was renamed.
    write_part(&part(2), 0, 3, 3, "t1");
    assert!(Checkpoint::open(&part(1), &OpenOptions::default()).unwrap_err().to_string().contains("split.no is 0"));
    let renamed = dir.path().join("other.gguf");
    fs::rename(part(1), &renamed).unwrap();
    assert!(Checkpoint::open(&renamed, &OpenOptions::default()).unwrap_err().to_string().contains("rename it"));
}

fn tiny_gguf(path: &Path, marker: f32) {
    let mut writer = GgufWriter::new("llama");
    writer.add_tensor("t", DType::F32, &[1]).unwrap();
    let mut stream = writer.create(path).unwrap();
    stream.write(&f32s(&[marker])).unwrap();
    stream.finish().unwrap();
}

#[test]
fn directories_choose_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let open = |options: OpenOptions| Checkpoint::open(dir.path(), &options);
    let value = |options| open(options).unwrap().tensor("t").unwrap().to_f32().unwrap()[0];
    let prefer = |tag: &str| OpenOptions { prefer_quant: Some(tag.into()), ..OpenOptions::default() };
    let number = |index| OpenOptions { gguf_index: Some(index), ..OpenOptions::default() };
    assert!(open(OpenOptions::default()).unwrap_err().to_string().contains("no checkpoint here"));
    fs::write(dir.path().join("pytorch_model.bin"), b"x").unwrap();
    assert!(open(OpenOptions::default()).unwrap_err().to_string().contains("pytorch_model.bin"));
    for (i, name) in ["m-F16", "m-Q4_K_M", "m-Q4_K_S", "m-Q8_0", "mmproj-Q4_K_M"].iter().enumerate() {
        tiny_gguf(&dir.path().join(format!("{name}.gguf")), i as f32);
    }
    assert_eq!(value(OpenOptions::default()), 1.0);
    assert_eq!(value(prefer("q8_0")), 3.0);
    assert_eq!(value(prefer("Q4_K")), 1.0);
    assert_eq!(value(number(2)), 2.0);
    assert_eq!(value(number(4)), 4.0);
    assert!(open(number(5)).unwrap_err().to_string().contains("m-Q4_K_S.gguf"));
    assert!(open(prefer("Q5_K_M")).unwrap_err().to_string().contains("Q5_K_M"));
    write_safetensors(&dir.path().join("model.safetensors"), &[("t", DType::F32, &[1], &f32s(&[9.0]))]).unwrap();
    fs::write(dir.path().join("config.json"), r#"{"model_type":"llama"}"#).unwrap();
    let checkpoint = open(OpenOptions::default()).unwrap();
    assert_eq!((checkpoint.format(), checkpoint.architecture()), (&Format::Safetensors, Some("llama")));
    assert_eq!(checkpoint.sidecar("config.json"), Some(dir.path().join("config.json")));
    assert_eq!(checkpoint.sidecar("../config.json"), None);
    assert_eq!(checkpoint.sidecar("tokenizer.json"), None);
    assert_eq!(value(prefer("Q8_0")), 3.0);
    fs::write(dir.path().join("config.json"), "{").unwrap();
    assert!(open(OpenOptions::default()).unwrap_err().to_string().contains("bad JSON"));
}

#[test]
fn files_without_extension_are_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b179c952");
    tiny_gguf(&path, 1.0);
    assert_eq!(Checkpoint::open(&path, &OpenOptions::default()).unwrap().format(), &Format::Gguf);
    write_safetensors(&path, &[("t", DType::F32, &[1], &[0; 4])]).unwrap();
    assert_eq!(Checkpoint::open(&path, &OpenOptions::default()).unwrap().format(), &Format::Safetensors);
    fs::write(&path, "hello").unwrap();
    assert!(Checkpoint::open(&path, &OpenOptions::default()).unwrap_err().to_string().contains("not a checkpoint"));
    let missing = Checkpoint::open(&dir.path().join("no.gguf"), &OpenOptions::default());
    assert!(matches!(missing, Err(WeightsError::Io { .. })));
}

#[test]
fn safetensors_agree_with_the_reference_crate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let (a, b, c) = (f32s(&[1.0, 2.0]), [5u8, 6, 7], 3i64.to_le_bytes());
    let tensors: [(&str, DType, &[usize], &[u8]); 4] = [
        ("b", DType::U8, &[3], &b),
        ("a", DType::F32, &[1, 2], &a),
        ("c", DType::I64, &[], &c),
        ("none", DType::F16, &[0], &[]),
    ];
    write_safetensors(&path, &tensors).unwrap();
    let bytes = fs::read(&path).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.tensor("a").unwrap().data(), a);
    assert_eq!(theirs.tensor("a").unwrap().shape(), [1, 2]);
    assert_eq!(theirs.tensor("c").unwrap().dtype(), safetensors::Dtype::I64);

    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &a).unwrap();
    let note = [("k".to_owned(), "v".to_owned())].into();
    let written = safetensors::serialize([("x", view)], Some(note)).unwrap();
    let ours = safetensors_file::parse(&Bytes::copy_from(&written), &path).unwrap();
    assert_eq!(ours.metadata, BTreeMap::from([("k".to_owned(), "v".to_owned())]));
    assert_eq!(ours.tensors[0].to_f32().unwrap(), [1.0, 2.0]);
}

fn safetensors_message(header: &str, data: usize) -> String {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    let text = safetensors_file::parse(&Bytes::copy_from(&bytes), "x".as_ref()).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn broken_safetensors_are_named() {
    let one = |entry: &str, data| safetensors_message(&format!("{{{entry}}}"), data);
    let entry = |name: &str, dtype: &str, shape: &str, at: &str| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{at}}}"#)
    };
    assert!(one(&entry("t", "F8_E4M3", "[4]", "[0,4]"), 4).contains("`F8_E4M3`"));
    assert!(one(&entry("t", "F32", "[4]", "[0,8]"), 8).contains("needs 16"));
    assert!(one(&entry("t", "F32", "[2]", "[4,12]"), 12).contains("expected it to begin at 0"));
    assert!(one(&entry("t", "F32", "[2]", "[0,8]"), 4).contains("cut short"));
    assert!(one(&entry("t", "F32", "[2]", "[0,8]"), 12).contains("4 bytes after"));
    assert!(one(&entry("t", "F32", "[18446744073709551615,2]", "[0,8]"), 8).contains("too many elements"));
    assert!(one(&entry("t", "F32", "[-1]", "[0,8]"), 8).contains("bad safetensors header"));
    assert!(one(&entry("t", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4).contains("at most 8 dims"));
    let both = format!("{},{}", entry("t", "U8", "[2]", "[0,2]"), entry("t", "U8", "[2]", "[2,4]"));
    assert!(one(&both, 4).contains("twice"));
    let overlap = format!("{},{}", entry("a", "U8", "[3]", "[0,3]"), entry("b", "U8", "[2]", "[2,4]"));
    assert!(one(&overlap, 4).contains("begin at 3"));
    assert!(safetensors_message("[]", 0).contains("no JSON object"));
    assert!(safetensors_message("{\"a\":1}\n", 0).contains("bad safetensors header"));
    let huge = safetensors_file::parse(&Bytes::copy_from(&[0xff; 16]), "x".as_ref()).unwrap_err();
    assert!(huge.to_string().contains("header of"));
}

#[test]
fn sharded_safetensors_merge_from_index_or_shard() {
    let dir = tempfile::tempdir().unwrap();
    let shard = |i| dir.path().join(format!("model-0000{i}-of-00002.safetensors"));
    let index = dir.path().join("model.safetensors.index.json");
    write_safetensors(&shard(1), &[("a", DType::F32, &[1], &f32s(&[1.0]))]).unwrap();
    write_safetensors(&shard(2), &[("b", DType::F32, &[1], &f32s(&[2.0]))]).unwrap();
    let write_index = |map: &str| fs::write(&index, format!(r#"{{"metadata":{{}},"weight_map":{map}}}"#)).unwrap();
    let open = |path: &Path| Checkpoint::open(path, &OpenOptions::default());
    // Without an index the names suffice.
    assert_eq!(open(&shard(2)).unwrap().tensors().len(), 2);
    let good = r#"{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}"#;
    write_index(good);
    for path in [dir.path(), &index, &shard(1), &shard(2)] {
        let checkpoint = open(path).unwrap();
        assert_eq!(checkpoint.tensor("b").unwrap().to_f32().unwrap(), [2.0]);
        assert_eq!(checkpoint.files().len(), 2);
    }
    write_index(r#"{"a":"../secret.safetensors"}"#);
    assert!(open(dir.path()).unwrap_err().to_string().contains("outside"));
    write_index(r#"{"zz":"model-00001-of-00002.safetensors"}"#);
    assert!(open(dir.path()).unwrap_err().to_string().contains("`zz`"));
    write_index("{}");
    assert!(open(dir.path()).unwrap_err().to_string().contains("empty"));
    write_index(good);
    fs::remove_file(shard(2)).unwrap();
    assert!(open(dir.path()).unwrap_err().to_string().contains("model-00002-of-00002"));
}
