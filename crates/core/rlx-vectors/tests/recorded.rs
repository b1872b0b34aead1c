//! Files as other programs write them (scripts/reference/record_vectors.py).

use std::path::{Path, PathBuf};

use rlx_vectors::VectorIndex;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn arrays_of_numpy_and_tensors_of_safetensors() {
    for name in ["float16.npy", "float32.npy", "float64.npy", "plain.safetensors"] {
        let index = VectorIndex::open(&data(name)).unwrap();
        assert_eq!((index.rows(), index.dims()), (3, 4), "{name}");
        assert_eq!(index.vector(2).unwrap(), [1.0, 1.125, 1.25, 1.375], "{name}");
    }
    let error = VectorIndex::open(&data("fortran.npy")).unwrap_err().to_string();
    assert!(error.contains("Fortran order"), "{error}");
    assert_eq!(VectorIndex::open(&data("plain.safetensors")).unwrap().metadata()["model"], "m");
}

#[cfg(feature = "parquet")]
mod parquet {
    use rlx_vectors::{SourceOptions, VectorsError, open_source};

    use super::*;

    const CODECS: [&str; 5] = ["none", "snappy", "gzip", "zstd", "lz4"];

    fn read(path: &Path, column: &str, allow_missing: bool) -> Result<Vec<String>, VectorsError> {
        let options = SourceOptions { column: Some(column.into()), allow_missing, ..SourceOptions::default() };
        open_source(path, &options)?.map(|text| text.map(|text| text.text)).collect()
    }

    fn text(i: usize) -> String {
        if i.is_multiple_of(5) { String::new() } else { format!("text {i} \u{e9}") }
    }

    #[test]
    fn columns_of_pyarrow_in_every_compression() {
        let texts: Vec<String> = (0..300).map(text).collect();
        let inner: Vec<String> =
            (0..300).map(|i: usize| if i.is_multiple_of(7) { String::new() } else { text(i) }).collect();
        for codec in CODECS {
            let path = data(&format!("{codec}.parquet"));
            assert_eq!(read(&path, "text", true).unwrap(), texts, "{codec}");
            assert_eq!(read(&path, "inner.body", true).unwrap(), inner, "{codec}");
            let error = read(&path, "text", false).unwrap_err().to_string();
            assert!(error.contains(", row 1: the text is null"), "{error}");
            let error = read(&path, "words.list.element", true).unwrap_err().to_string();
            assert!(error.contains("is a list"), "{error}");
            let error = read(&path, "body", true).unwrap_err().to_string();
            assert!(error.contains("`id`, `text`, `words.list.element`, `inner.body`"), "{error}");
        }
    }

    #[test]
    fn damage_is_an_error_or_other_texts_but_no_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        let damaged = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read(&path, "text", true)
        };
        for bytes in [&b""[..], b"PAR1", &[b"PAR1", &[0; 64][..], b"PAR1"].concat()] {
            assert!(damaged(bytes).is_err());
        }
        let mut state = 1u32;
        for codec in CODECS {
            let good = std::fs::read(data(&format!("{codec}.parquet"))).unwrap();
            for _ in 0..40 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let cut = state as usize % good.len();
                assert!(damaged(&good[..cut]).is_err(), "{codec} cut at {cut}");
            }
            // The directory at the end is what tells sizes and places.
            let directory = good.len() - 8 - u32::from_le_bytes(*good[..good.len() - 4].last_chunk().unwrap()) as usize;
            let step = if codec == "none" { 1 } else { 7 };
            for (at, flip) in (directory..good.len())
                .step_by(step)
                .chain((0..directory).step_by(41))
                .zip([0x01, 0x80, 0xff].into_iter().cycle())
            {
                let mut bad = good.clone();
                bad[at] ^= flip;
                if let Err(error) = damaged(&bad) {
                    assert_eq!(error.to_string().lines().count(), 1, "{error}");
                }
            }
        }
    }
}
