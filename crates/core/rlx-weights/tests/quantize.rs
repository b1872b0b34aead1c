//! Plans and the files made from them.

use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;
use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::gguf::GgufWriter;
use rlx_weights::names::StoredTensor;
use rlx_weights::quantize::{FileType, Imatrix, ImatrixEntry, Plan, QuantizeOptions, Source, TensorType};
use rlx_weights::{Checkpoint, GgufMetadata, OpenOptions, TensorView, WeightsError};

/// Numbers that look like weights.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next() + next() + next()).collect()
}

fn tensor(name: &str, dtype: DType, shape: &[usize], seed: u64) -> StoredTensor {
    let values = values(seed, shape.iter().product());
    let mut data = vec![0; dtype.bytes_for(values.len()).unwrap()];
    rlx_quant::quantize(dtype, &values, &mut data).unwrap();
    TensorView::new(name.into(), dtype, shape.to_vec(), Bytes::copy_from(&data)).unwrap().into()
}

fn source(dtype: DType, is_new: bool) -> Source {
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", "llama");
    metadata.set("general.file_type", 1u32);
    metadata.set("llama.block_count", 1u32);
    metadata.set("llama.attention.head_count", 4u32);
    metadata.set("split.count", 1u16);
    let tensors = vec![
        tensor("token_embd.weight", dtype, &[40, 256], 1),
        tensor("output_norm.weight", DType::F32, &[256], 2),
        tensor("blk.0.attn_norm.weight", DType::F16, &[256], 3),
        tensor("blk.0.attn_q.weight", dtype, &[33, 256], 4),
        tensor("blk.0.attn_v.weight", dtype, &[9, 256], 5),
        tensor("blk.0.ffn_down.weight", dtype, &[70, 96], 6),
        tensor("blk.0.ffn_up_exps.weight", dtype, &[3, 5, 256], 7),
        tensor("blk.0.odd.weight", dtype, &[4, 10], 8),
        tensor("output.weight", dtype, &[40, 256], 9),
    ];
    Source { metadata, tensors, is_new }
}

fn plan(dtype: DType, options: &QuantizeOptions, imatrix: Option<&Imatrix>) -> Plan {
    Plan::new(source(dtype, false), options, imatrix).unwrap()
}

fn type_of(plan: &Plan, name: &str) -> DType {
    plan.tensors().iter().find(|planned| planned.tensor.name == name).unwrap().dtype
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path, &OpenOptions::default()).unwrap()
}

fn write(plan: &Plan, path: &Path, threads: usize) -> u64 {
    plan.write(path, true, threads, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

fn importance() -> Imatrix {
    let mut imatrix = Imatrix { datasets: vec!["text".into()], chunks: 3, chunk_size: 512, ..Imatrix::default() };
    let entry = |columns: usize, counts: &[f32]| ImatrixEntry {
        sums: values(77, columns * counts.len()).into_iter().map(|x| x * x).collect(),
        counts: counts.to_vec(),
    };
    for name in ["blk.0.attn_q.weight", "blk.0.attn_v.weight", "output.weight"] {
        imatrix.entries.insert(name.into(), entry(256, &[8.0]));
    }
    imatrix.entries.insert("blk.0.ffn_down.weight".into(), entry(96, &[8.0]));
    imatrix.entries.insert("blk.0.ffn_up_exps.weight".into(), entry(256, &[2.0, 0.0, 6.0]));
    imatrix
}

/// Every tensor holds what the reference quantiser makes of it, whatever the number of threads.
#[test]
fn files_hold_the_reference_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let imatrix = importance();
    for kind in FileType::all() {
        for imatrix in [None, Some(&imatrix)] {
            if imatrix.is_none() && kind == FileType::Q2_K_S {
                let error = Plan::new(source(DType::F32, false), &QuantizeOptions::new(kind), None).unwrap_err();
                assert!(error.to_string().contains("--imatrix"), "{error}");
                continue;
            }
            let plan = plan(DType::F32, &QuantizeOptions::new(kind), imatrix);
            let path = dir.path().join("m.gguf");
            assert_eq!(write(&plan, &path, 3), path.metadata().unwrap().len());
            let many = std::fs::read(&path).unwrap();
            write(&plan, &path, 1);
            assert!(many == std::fs::read(&path).unwrap(), "{kind}: threads change the file");
            let written = open(&path);
            assert_eq!(written.gguf().unwrap().get_u32("general.file_type"), Some(kind.id()));
            assert!(!written.gguf().unwrap().contains("split.count"));
            for original in source(DType::F32, false).tensors {
                let found = written.tensor(&original.name).unwrap();
                assert_eq!((&found.shape, found.dtype), (&original.shape, type_of(&plan, &original.name)));
                let mut values = vec![0.0; original.element_count()];
                original.read_f32(0..original.rows(), &mut values).unwrap();
                let importance = imatrix.and_then(|m| m.of(&original.name, &original.shape).unwrap());
                let mut expected = vec![0; found.data.len()];
                let columns = original.row_len();
                let matrix = columns * original.rows_per_matrix();
                let bytes = found.dtype.bytes_for(matrix).unwrap();
                for (i, out) in expected.chunks_mut(bytes).enumerate() {
                    let importance = importance.as_ref().map(|all| &all[i * columns..(i + 1) * columns]);
                    let values = &values[i * matrix..(i + 1) * matrix];
                    let importance = importance.filter(|_| found.dtype.is_block());
                    rlx_quant::quantize_with_importance(found.dtype, values, columns, importance, out).unwrap();
                }
                assert!(*found.data == expected[..], "{kind}: {}", original.name);
            }
        }
    }
}

#[test]
fn options_decide_types() {
    let mut options = QuantizeOptions::new(FileType::Q4_K_M);
    let plain = plan(DType::F16, &options, None);
    assert_eq!(type_of(&plain, "output.weight"), DType::Q6_K);
    assert_eq!(type_of(&plain, "token_embd.weight"), DType::Q4_K);
    assert_eq!(type_of(&plain, "blk.0.attn_v.weight"), DType::Q6_K);
    assert_eq!(type_of(&plain, "blk.0.ffn_down.weight"), DType::Q8_0);
    assert_eq!(type_of(&plain, "blk.0.odd.weight"), DType::F16);
    assert_eq!(type_of(&plain, "blk.0.attn_norm.weight"), DType::F16);
    assert_eq!(plain.summary(None).fallbacks, 2);
    let names: Vec<&str> = plain.tensors().iter().map(|planned| planned.tensor.name.as_str()).collect();
    assert_eq!(names[..3], ["output.weight", "output_norm.weight", "token_embd.weight"]);

    options.output_type = Some(DType::Q8_0);
    options.token_embedding_type = Some(DType::F16);
    let pattern = regex::Regex::new(r"attn_[qv]").unwrap();
    options.tensor_types.push(TensorType { pattern, dtype: DType::Q5_0 });
    let chosen = plan(DType::F16, &options, None);
    assert_eq!(type_of(&chosen, "output.weight"), DType::Q8_0);
    assert_eq!(type_of(&chosen, "token_embd.weight"), DType::F16);
    assert_eq!(type_of(&chosen, "blk.0.attn_v.weight"), DType::Q5_0);
    assert_eq!(type_of(&chosen, "blk.0.attn_q.weight"), DType::Q5_0);

    let pure = plan(DType::F16, &QuantizeOptions { pure: true, ..QuantizeOptions::new(FileType::Q4_K_M) }, None);
    assert_eq!(type_of(&pure, "blk.0.attn_v.weight"), DType::Q4_K);
    assert_eq!(type_of(&pure, "output.weight"), DType::Q4_K);
    let left = plan(DType::F16, &QuantizeOptions { leave_output: true, ..QuantizeOptions::new(FileType::Q4_0) }, None);
    assert_eq!(type_of(&left, "output.weight"), DType::F16);

    // New files have small tensors in F32.
    let new = Plan::new(source(DType::BF16, true), &QuantizeOptions::new(FileType::BF16), None).unwrap();
    assert_eq!(type_of(&new, "blk.0.attn_norm.weight"), DType::F32);
    assert_eq!(type_of(&new, "blk.0.odd.weight"), DType::BF16);

    let impossible = QuantizeOptions { output_type: Some(DType::IQ2_XXS), ..QuantizeOptions::new(FileType::Q4_0) };
    let error = Plan::new(source(DType::F32, false), &impossible, None).unwrap_err().to_string();
    assert!(error.contains("output.weight") && error.contains("IQ2_XXS"), "{error}");
}

#[test]
fn stopped_or_failed_work_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let plan = plan(DType::F32, &QuantizeOptions::new(FileType::Q8_0), None);
    let stop = plan.write(&path, false, 2, &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(stop, Err(WeightsError::Interrupted { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    std::fs::write(&path, "mine").unwrap();
    let error = plan.write(&path, false, 2, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    let mut last = (0, 0);
    plan.write(&path, true, 2, &mut |done, total| {
        assert!(done >= last.0 && done <= total);
        last = (done, total);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(last.0 == last.1 && last.0 > 0);

    let mut broken = source(DType::F32, false);
    let nan = TensorView::new("x.weight".into(), DType::F32, vec![2, 32], Bytes::copy_from(&[0xff; 256])).unwrap();
    broken.tensors.push(nan.into());
    let plan = Plan::new(broken, &QuantizeOptions::new(FileType::Q8_0), None).unwrap();
    let other = dir.path().join("other.gguf");
    let error = plan.write(&other, false, 2, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("x.weight") && !other.exists(), "{error}");
}

#[test]
fn importance_matrices_are_read_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i.gguf");
    let imatrix = importance();
    imatrix.write(&path).unwrap();
    assert_eq!(Imatrix::open(&path).unwrap(), imatrix);
    let experts = imatrix.of("blk.0.ffn_up_exps.weight", &[3, 5, 256]).unwrap().unwrap();
    assert!(experts[256..512].iter().all(|&x| x == 1.0) && experts[0] != 1.0);
    assert_eq!(imatrix.of("blk.9.attn_q.weight", &[4, 256]).unwrap(), None);
    let error = imatrix.of("blk.0.attn_q.weight", &[4, 128]).unwrap_err().to_string();
    assert!(error.contains("blk.0.attn_q.weight") && error.contains("256"), "{error}");
    assert!(imatrix.of("blk.0.ffn_up_exps.weight", &[4, 5, 256]).is_err());

    // Cut anywhere, it is an error.
    let bytes = std::fs::read(&path).unwrap();
    for len in (0..bytes.len() - 1).step_by(97) {
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert!(Imatrix::open(&path).is_err(), "{len} bytes");
    }
    // Another GGUF file is none.
    let mut writer = GgufWriter::new("llama");
    writer.add_tensor("x.in_sum2", DType::F32, &[1]).unwrap();
    let mut stream = writer.create(&path).unwrap();
    stream.write(&[0; 4]).unwrap();
    stream.finish().unwrap();
    assert!(Imatrix::open(&path).unwrap_err().to_string().contains("imatrix.chunk_count"));
}

fn legacy(entries: &[(&str, i32, &[f32])]) -> Vec<u8> {
    let mut out = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, calls, values) in entries {
        out.extend((name.len() as i32).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(calls.to_le_bytes());
        out.extend((values.len() as i32).to_le_bytes());
        out.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }
    out.extend(7i32.to_le_bytes());
    out.extend(4i32.to_le_bytes());
    out.extend(b"text");
    out
}

#[test]
fn legacy_matrices_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i.dat");
    let bytes = legacy(&[("a.weight", 2, &[1.0, 4.0]), ("b.weight", 0, &[3.0])]);
    std::fs::write(&path, &bytes).unwrap();
    let imatrix = Imatrix::open(&path).unwrap();
    assert_eq!((imatrix.chunks, imatrix.datasets.as_slice()), (7, &["text".to_owned()][..]));
    assert_eq!(imatrix.of("a.weight", &[5, 2]).unwrap(), Some(vec![0.5, 2.0]));
    assert_eq!(imatrix.of("b.weight", &[5, 1]).unwrap(), Some(vec![3.0]));
    let whole = bytes.len() - 12;
    for len in (0..whole).chain(whole + 1..bytes.len()) {
        std::fs::write(&path, &bytes[..len]).unwrap();
        // The chunks and the name at the end may be absent, but not cut.
        let optional = len == whole + 4;
        assert_eq!(Imatrix::open(&path).is_ok(), optional, "{len} bytes");
    }
    for bad in [legacy(&[]), legacy(&[("a", 1, &[])]), legacy(&[("a", 1, &[f32::NAN])]), legacy(&[("a", 1, &[-1.0])])] {
        std::fs::write(&path, bad).unwrap();
        assert!(Imatrix::open(&path).is_err());
    }
    std::fs::write(&path, [0xff; 64]).unwrap();
    assert!(Imatrix::open(&path).unwrap_err().to_string().contains("neither"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any shapes and types: what is written opens, has the planned types, and is read back as the rounded values.
    #[test]
    fn any_tensors_round_trip(
        shapes in prop::collection::vec((prop::collection::vec(1usize..6, 0..3), 1usize..70, 0usize..3), 1..5),
        kind in 0usize..23,
        threads in 1usize..4,
    ) {
        let kind = FileType::all().nth(kind).unwrap();
        prop_assume!(kind != FileType::Q2_K_S);
        let tensors: Vec<StoredTensor> = shapes.iter().enumerate().map(|(i, (outer, inner, from))| {
            let shape = [outer.as_slice(), &[inner * 8]].concat();
            tensor(&format!("blk.{i}.ffn_down.weight"), [DType::F32, DType::F16, DType::BF16][*from], &shape, i as u64)
        }).collect();
        let source = Source { tensors: tensors.clone(), ..source(DType::F32, false) };
        let plan = Plan::new(source, &QuantizeOptions::new(kind), None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        write(&plan, &path, threads);
        let written = open(&path);
        for original in &tensors {
            let found = written.tensor(&original.name).unwrap();
            prop_assert_eq!(found.dtype, type_of(&plan, &original.name));
            prop_assert_eq!(&found.shape, &original.shape);
            let mut values = vec![0.0; original.element_count()];
            original.read_f32(0..original.rows(), &mut values).unwrap();
            let mut expected = vec![0; found.data.len()];
            rlx_quant::quantize(found.dtype, &values, &mut expected).unwrap();
            prop_assert!(*found.data == expected[..]);
        }
    }
}
