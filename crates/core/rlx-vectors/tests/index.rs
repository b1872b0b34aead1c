//! Files of vectors, good and bad, and what is found in them.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use proptest::prelude::*;
use rlx_cpu::Isa;
use rlx_ir::DType;
use rlx_vectors::{Hit, Metric, SearchOptions, VectorIndex, scores};
use rlx_weights::safetensors_file::write_safetensors;

fn options(k: usize, metric: Metric, threads: usize) -> SearchOptions {
    SearchOptions { k, metric, threads, isa: Isa::detect() }
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn open(bytes: &[u8]) -> Result<VectorIndex, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    fs::write(&path, bytes).unwrap();
    let index = VectorIndex::open(&path).map_err(|error| error.to_string());
    if let Err(error) = &index {
        assert!(error.contains("x.npy: ") && error.lines().count() == 1, "{error}");
    }
    index
}

fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn headers_as_numpy_writes_them() {
    let data = le(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for header in [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n",
        "{\"shape\": (2L, 3L), \"descr\": \"<f4\", \"fortran_order\": False}",
        "  {  'fortran_order'  :  False  ,  'shape'  :  (  2  ,  3  ,  )  ,  'descr'  :  '<f4'  }  \n",
    ] {
        let index = open(&npy(header, &data)).unwrap();
        assert_eq!((index.rows(), index.dims(), index.bytes()), (2, 3, 24));
        // The shortest header leaves the data on an odd address: it is then converted.
        assert_eq!(index.vector(1).unwrap(), [4.0, 5.0, 6.0]);
    }
    let one = open(&npy("{'descr': '<f4', 'fortran_order': True, 'shape': (6,), }", &data)).unwrap();
    assert_eq!((one.rows(), one.dims()), (1, 6));
    let mut second = b"\x93NUMPY\x02\x00\x3c\x00\x00\x00".to_vec();
    second.extend(format!("{:59}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }").as_bytes());
    second.extend(&data);
    assert_eq!(open(&second).unwrap().vector(2).unwrap(), [5.0, 6.0]);
}

#[test]
fn other_types_of_numbers() {
    let values = [1.5f32, -0.25, 3.0, 8.0];
    let halves: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    let doubles: Vec<u8> = values.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect();
    for (descr, data) in [("<f2", halves), ("<f8", doubles), ("<f4", le(&values))] {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2, 2), }}");
        let index = open(&npy(&header, &data)).unwrap();
        assert_eq!(index.vector(0).unwrap(), [1.5, -0.25], "{descr}");
        assert_eq!(index.search(&[0.0, 1.0], &options(1, Metric::Dot, 1)).unwrap()[0], [Hit { row: 1, score: 8.0 }]);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let data: Vec<u8> = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
    write_safetensors(&path, &[("x", DType::BF16, &[2, 2], &data), ("n", DType::I64, &[1], &[0; 8])]).unwrap();
    assert_eq!(VectorIndex::open(&path).unwrap().vector(1).unwrap(), [3.0, 8.0], "the only matrix is taken");
}

#[test]
fn arrays_that_are_not_right() {
    let data = le(&[1.0; 6]);
    let with = |header: &str| open(&npy(header, &data)).unwrap_err();
    for (header, words) in [
        ("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", "`>f4` are not supported"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }", "`|O` are not supported"),
        (
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }",
            "the type of its elements: a string is missing",
        ),
        ("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", "ascontiguousarray"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", "not [rows, dims]"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "not [rows, dims]"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), }", "2 of 4 rows are there"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }", "12 bytes after the array"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999, 9999999999999999), }", "absurd"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3), }", "fits"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), }", "no whole number"),
        ("{'descr': '<f4', 'shape': (2, 3), }", "no `fortran_order`"),
        ("{'descr': '<f4', 'x': 3}", "unknown key `x`"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } x", "follows"),
        ("{'descr': '<f4", "not closed"),
        ("", "`{` is missing"),
    ] {
        assert!(with(header).contains(words), "`{words}` missing for {header}: {}", with(header));
    }
    let endless =
        open(&npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 0), }", &[])).unwrap_err();
    assert!(endless.contains("no dimensions"), "{endless}");
    let whole = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", &data);
    for cut in 0..whole.len() {
        assert!(open(&whole[..cut]).is_err(), "cut at {cut}");
    }
    assert!(open(b"\x93NUMPY\x09\x00\x00\x00").unwrap_err().contains("version 9"));
    assert!(open(b"\x93NUMPY\x03\x00\xff\xff\xff\xff{").unwrap_err().contains("more than 10000"));
    for other in [&b""[..], b"just text", b"PAR1 and so on", &[0xff; 40]] {
        assert!(open(other).unwrap_err().contains("neither a .npy nor a safetensors file"));
    }
    assert!(VectorIndex::open(Path::new("/no/such.npy")).unwrap_err().to_string().starts_with("/no/such.npy: "));
}

#[test]
fn safetensors_that_are_no_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let fails = |tensors: &[(&str, DType, &[usize], &[u8])]| {
        write_safetensors(&path, tensors).unwrap();
        VectorIndex::open(&path).unwrap_err().to_string()
    };
    let (a, b) = (&[0u8; 16][..], &[2usize, 2][..]);
    assert!(fails(&[("a", DType::F32, b, a), ("b", DType::F32, b, a)]).contains("there are: `a`, `b`"));
    assert!(fails(&[("embeddings", DType::F32, &[4], a)]).contains("shape [4]"));
    assert!(fails(&[("embeddings", DType::I32, b, a)]).contains("type I32"));
    assert!(fails(&[("embeddings", DType::F32, &[4, 0], &[])]).contains("no dimensions"));
    let offsets: Vec<u8> = [0i64, 9, -1].iter().flat_map(|x| x.to_le_bytes()).collect();
    let embeddings = ("embeddings", DType::F32, b, a);
    let bytes = ("text_bytes", DType::U8, &[3][..], &b"abc"[..]);
    let short: (_, _, &[usize], &[u8]) = ("text_offsets", DType::I64, &[2], &offsets[..16]);
    assert!(fails(&[embeddings, bytes, short]).contains("do not belong"));
    write_safetensors(&path, &[embeddings, bytes, ("text_offsets", DType::I64, &[3], &offsets)]).unwrap();
    let index = VectorIndex::open(&path).unwrap();
    for row in [0, 1] {
        assert!(index.text(row).unwrap_err().to_string().contains("are damaged"));
    }
    let mut cut = fs::read(&path).unwrap();
    cut.truncate(cut.len() - 1);
    fs::write(&path, cut).unwrap();
    assert!(VectorIndex::open(&path).unwrap_err().to_string().contains("cut short"));
}

#[test]
fn the_nearest_come_first() {
    let index = VectorIndex::from_vectors(2, &[1.0, 0.0, 0.0, 3.0, 0.0, 0.0, 2.0, 2.0, -1.0, 0.0, 5.0, 0.0]).unwrap();
    let rows = |query: &[f32], k, metric| -> Vec<(usize, f32)> {
        index.search(query, &options(k, metric, 2)).unwrap()[0].iter().map(|hit| (hit.row, hit.score)).collect()
    };
    assert_eq!(rows(&[1.0, 0.0], 2, Metric::Cosine), [(0, 1.0), (5, 1.0)], "equal ones by row");
    assert_eq!(rows(&[1.0, 0.0], 2, Metric::Dot), [(5, 5.0), (3, 2.0)]);
    let all = rows(&[0.0, 1.0], 99, Metric::Cosine);
    assert_eq!(all.len(), 6);
    assert_eq!(all[2..], [(0, 0.0), (2, 0.0), (4, 0.0), (5, 0.0)]);
    assert_eq!(rows(&[1.0, 0.0], 0, Metric::Dot), []);
    assert!(index.search(&[1.0, 2.0, 3.0], &options(1, Metric::Dot, 1)).is_err());
    assert!(
        index.search(&[1.0, f32::NAN], &options(1, Metric::Dot, 1)).unwrap_err().to_string().contains("not finite")
    );
    let bad = VectorIndex::from_vectors(1, &[f32::NAN, 2.0]).unwrap();
    assert_eq!(
        bad.search(&[1.0], &options(2, Metric::Dot, 1)).unwrap()[0],
        [Hit { row: 1, score: 2.0 }],
        "NaN is not near"
    );
    assert!(VectorIndex::from_vectors(2, &[1.0; 3]).is_err() && VectorIndex::from_vectors(0, &[]).is_err());
}

#[test]
fn all_with_all() {
    let (a, b) = ([3.0, 4.0, 0.0, 0.0, 1.0, 0.0], [1.0, 0.0, -3.0, -4.0]);
    let of = |metric| scores(&a, &b, 2, metric, Isa::detect()).unwrap();
    assert_eq!(of(Metric::Dot), [3.0, -25.0, 0.0, 0.0, 1.0, -3.0]);
    assert_eq!(of(Metric::Cosine), [0.6, -1.0, 0.0, 0.0, 1.0, -0.6]);
    assert!(scores(&a, &b, 0, Metric::Dot, Isa::detect()).is_err());
    assert!(scores(&a, &[1.0; 4], 4, Metric::Dot, Isa::detect()).is_err());
    if let Some(other) = [Isa::Neon, Isa::Avx2].into_iter().find(|isa| !isa.is_available()) {
        assert!(scores(&a, &b, 2, Metric::Dot, other).unwrap_err().to_string().contains("cannot run"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against sorting all scores of a plain loop in double precision; the blocks of the search are smaller than these sets.
    #[test]
    fn search_is_exact(
        dims in prop::sample::select(vec![1usize, 3, 16, 33, 384, 2000]),
        rows in 0usize..700,
        k in 0usize..20,
        queries in 1usize..4,
        seed in any::<u32>(),
        cosine in any::<bool>(),
    ) {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Small whole numbers: sums are exact and ties frequent.
            ((state >> 24) % 7) as f32 - 3.0
        };
        let vectors: Vec<f32> = (0..rows * dims).map(|_| next()).collect();
        let asked: Vec<f32> = (0..queries * dims).map(|_| next()).collect();
        let index = VectorIndex::from_vectors(dims, &vectors).unwrap();
        let metric = if cosine { Metric::Cosine } else { Metric::Dot };
        let found = index.search(&asked, &options(k, metric, 1)).unwrap();
        for threads in [2, 3, 8] {
            prop_assert_eq!(&index.search(&asked, &options(k, metric, threads)).unwrap(), &found);
        }
        let sum = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
        for (query, found) in asked.chunks(dims).zip(&found) {
            prop_assert_eq!(found.len(), k.min(rows));
            let mut scores: Vec<f64> = vectors.chunks(dims).map(|vector| {
                let norms = if cosine { (sum(query, query) * sum(vector, vector)).sqrt() } else { 1.0 };
                if norms == 0.0 { 0.0 } else { sum(query, vector) / norms }
            }).collect();
            for hit in found {
                prop_assert!((f64::from(hit.score) - scores[hit.row]).abs() <= 1e-6 * scores[hit.row].abs().max(1.0));
            }
            scores.sort_by(|a, b| b.total_cmp(a));
            for (hit, best) in found.iter().zip(scores) {
                prop_assert!((f64::from(hit.score) - best).abs() <= 1e-6 * best.abs().max(1.0));
            }
        }
    }
}
