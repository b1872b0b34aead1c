//! Vectors into files and back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rlx_vectors::{SinkOptions, Text, VectorFormat, VectorIndex, create_sink, jsonl_sink};

fn texts(count: usize) -> Vec<Text> {
    (0..count as u64).map(|row| Text { row, text: format!("text {row} \u{e9}\n\"") }).collect()
}

fn options(dims: usize) -> SinkOptions {
    SinkOptions { dims, ..SinkOptions::default() }
}

/// Writes `vectors` in pieces of `step` rows.
fn write(path: &Path, format: VectorFormat, options: &SinkOptions, vectors: &[f32], step: usize) {
    let texts = texts(vectors.len() / options.dims);
    let mut sink = create_sink(path, format, options).unwrap();
    for (texts, vectors) in texts.chunks(step).zip(vectors.chunks(step * options.dims)) {
        sink.write(texts, vectors).unwrap();
    }
    sink.finish().unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn json_lines() {
    let mut out = Vec::new();
    let mut sink = jsonl_sink(&mut out, "out", &SinkOptions { texts: true, ..options(2) });
    sink.write(&texts(2), &[0.1, -0.0, 1e-40, f32::MAX]).unwrap();
    sink.finish().unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({"index": 0, "text": "text 0 \u{e9}\n\"", "embedding": [0.1, -0.0]}));
    assert_eq!(lines[1]["embedding"][0].as_f64().unwrap() as f32, 1e-40);
    assert_eq!(lines[1]["embedding"][1].as_f64().unwrap() as f32, f32::MAX);
    assert!(!serde_json::to_string(&lines[0]["embedding"]).unwrap().contains("0.10000000149"), "the shortest decimal");
}

#[test]
fn nothing_is_there_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    for format in VectorFormat::ALL {
        if format == VectorFormat::Parquet && !cfg!(feature = "parquet") {
            continue;
        }
        let path = dir.path().join("out");
        let mut sink = create_sink(&path, format, &options(3)).unwrap();
        sink.write(&texts(1), &[1.0, 2.0, 3.0]).unwrap();
        assert!(!path.exists());
        drop(sink);
        assert_eq!(names(dir.path()), [""; 0], "{format:?}");
        write(&path, format, &options(3), &[1.0, 2.0, 3.0], 1);
        assert_eq!(names(dir.path()), ["out"], "{format:?}");
        let error = create_sink(&path, format, &options(3)).err().unwrap().to_string();
        assert!(error.contains("--force"), "{error}");
        write(&path, format, &SinkOptions { overwrite: true, ..options(3) }, &[1.0, 2.0, 3.0], 1);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn rows_must_fit_and_be_finite() {
    let dir = tempfile::tempdir().unwrap();
    for format in VectorFormat::ALL {
        if format == VectorFormat::Parquet && !cfg!(feature = "parquet") {
            let error = create_sink(&dir.path().join("x"), format, &options(2)).err().unwrap().to_string();
            assert!(error.contains("feature `parquet`"), "{error}");
            continue;
        }
        let mut sink = create_sink(&dir.path().join("x"), format, &options(2)).unwrap();
        let error = sink.write(&texts(2), &[1.0; 3]).unwrap_err().to_string();
        assert!(error.contains("2 texts of 2 numbers"), "{error}");
        for bad in [f32::NAN, f32::INFINITY] {
            let error = sink.write(&texts(2), &[1.0, 2.0, 3.0, bad]).unwrap_err().to_string();
            assert!(error.contains("text 1 is not finite"), "{error}");
        }
    }
    assert!(create_sink(&dir.path().join("x.npy"), VectorFormat::Npy, &options(0)).is_err());
    let with_texts = SinkOptions { texts: true, ..options(2) };
    let error = create_sink(&dir.path().join("x.npy"), VectorFormat::Npy, &with_texts).err().unwrap().to_string();
    assert!(error.contains("numbers only"), "{error}");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn places_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    for format in VectorFormat::ALL {
        if format == VectorFormat::Parquet && !cfg!(feature = "parquet") {
            continue;
        }
        for (path, words) in
            [(dir.path().join("no/such/folder"), "No such file"), (dir.path().to_path_buf(), "is no file")]
        {
            let error = create_sink(&path, format, &options(2)).err().unwrap().to_string();
            assert!(error.contains(words) && error.contains(path.to_str().unwrap()), "{error}");
        }
    }
}

/// A device that is always full stands for a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let full = Path::new("/dev/full");
    let mut sink = create_sink(full, VectorFormat::Jsonl, &options(2)).unwrap();
    let error = sink.write(&texts(1), &[1.0, 2.0]).unwrap_err().to_string();
    assert!(error.starts_with("/dev/full: No space left"), "{error}");
    let error = create_sink(full, VectorFormat::Npy, &options(2)).err().unwrap().to_string();
    assert!(error.contains("is no file"), "{error}");
    // A device stays a device.
    let mut sink = create_sink(Path::new("/dev/null"), VectorFormat::Jsonl, &options(2)).unwrap();
    sink.write(&texts(1), &[1.0, 2.0]).unwrap();
    sink.finish().unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn no_rows_are_rows_too() {
    let dir = tempfile::tempdir().unwrap();
    for format in [VectorFormat::Npy, VectorFormat::Safetensors] {
        let path = dir.path().join("empty");
        write(&path, format, &SinkOptions { overwrite: true, ..options(7) }, &[], 1);
        let index = VectorIndex::open(&path).unwrap();
        assert_eq!((index.rows(), index.dims(), index.has_texts()), (0, 7, false));
        assert_eq!(index.search(&[1.0; 7], &Default::default()).unwrap(), [vec![]]);
    }
}

#[test]
fn safetensors_keep_texts_and_their_origin() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let metadata = BTreeMap::from([("model".to_owned(), "a \"quoted\" \u{e9}".to_owned())]);
    let with_texts = SinkOptions { texts: true, metadata: metadata.clone(), ..options(3) };
    let vectors: Vec<f32> = (0..33).map(|i| i as f32).collect();
    write(&path, VectorFormat::Safetensors, &with_texts, &vectors, 4);
    let index = VectorIndex::open(&path).unwrap();
    assert_eq!(index.metadata(), &metadata);
    assert!(index.has_texts());
    for (i, text) in texts(11).iter().enumerate() {
        assert_eq!(index.text(i).unwrap().as_deref(), Some(text.text.as_str()));
        assert_eq!(index.vector(i).unwrap(), vectors[i * 3..][..3]);
    }
    assert_eq!((index.text(11).unwrap(), index.vector(11)), (None, None));
    // The header says how the file goes on, to the byte.
    let bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    assert_eq!((8 + header) % 64, 0, "the vectors are aligned");
    let texts: usize = texts(11).iter().map(|text| text.text.len()).sum();
    assert_eq!(bytes.len(), 8 + header + 11 * 3 * 4 + 12 * 8 + texts);
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_comes_back() {
    use rlx_vectors::{SourceOptions, open_source};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let with_texts = SinkOptions { texts: true, ..options(3) };
    let vectors: Vec<f32> = (0..30).map(|i| i as f32).collect();
    write(&path, VectorFormat::Parquet, &with_texts, &vectors, 4);
    let source = open_source(&path, &SourceOptions::default()).unwrap();
    let read: Vec<Text> = source.map(Result::unwrap).collect();
    assert_eq!(read, texts(10));
    let fails = |column: &str| {
        let options = SourceOptions { column: Some(column.into()), ..SourceOptions::default() };
        open_source(&path, &options).err().unwrap().to_string()
    };
    assert!(fails("body").contains("there are: `index`, `text`, `embedding.list.element`"), "{}", fails("body"));
    assert!(fails("index").contains("INT64, not text"), "{}", fails("index"));
    assert!(fails("embedding.list.element").contains("is a list"));
    let error = VectorIndex::open(&path).unwrap_err().to_string();
    assert!(error.contains("neither a .npy nor a safetensors file"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn vectors_come_back_bit_for_bit(
        dims in 1usize..40,
        rows in 0usize..50,
        step in 1usize..9,
        seed in any::<u32>(),
        texts in any::<bool>(),
    ) {
        // Every finite bit pattern may occur.
        let vectors: Vec<f32> = (0..rows * dims)
            .map(|i| f32::from_bits((i as u32).wrapping_mul(2_654_435_761) ^ seed))
            .map(|x| if x.is_finite() { x } else { -0.0 })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        for format in [VectorFormat::Npy, VectorFormat::Safetensors] {
            let path = dir.path().join("x");
            let texts = texts && format == VectorFormat::Safetensors;
            write(&path, format, &SinkOptions { overwrite: true, texts, ..options(dims) }, &vectors, step);
            let index = VectorIndex::open(&path).unwrap();
            prop_assert_eq!((index.rows(), index.dims()), (rows, dims));
            let read: Vec<u32> = (0..rows).flat_map(|row| index.vector(row).unwrap()).map(f32::to_bits).collect();
            prop_assert_eq!(read, vectors.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        }
    }
}
