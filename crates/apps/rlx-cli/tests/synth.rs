//! Files with random weights: they open, hold what they should, and are the same each time.

use std::fs;
use std::path::Path;

use rlx_cli::synth::{FileType, SHAPES, Shape, Vocab, write};
use rlx_ir::DType;
use rlx_quant::dequantize;
use rlx_weights::{Checkpoint, OpenOptions};

fn small(architecture: &str) -> Shape {
    SHAPES.iter().find(|shape| shape.architecture == architecture).unwrap().tiny()
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path, &OpenOptions::default()).unwrap()
}

fn floats(dtype: DType, data: &[u8], count: usize) -> Vec<f32> {
    let mut values = vec![0.0; count];
    dequantize(dtype, data, &mut values).unwrap();
    values
}

#[test]
fn every_type_and_architecture_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    for architecture in ["llama", "qwen2", "qwen3", "qwen3moe", "gemma3", "gemma4"] {
        let shape = small(architecture);
        for kind in FileType::all() {
            let summary = write(&shape, kind, 1, &path).unwrap();
            let checkpoint = open(&path);
            assert_eq!(checkpoint.tensors().count(), summary.tensors, "{architecture} {kind}");
            assert_eq!(fs::metadata(&path).unwrap().len(), summary.bytes);
            let metadata = checkpoint.gguf().unwrap();
            assert_eq!(metadata.get("general.architecture").unwrap().as_str(), Some(architecture));
            assert_eq!(metadata.get("tokenizer.ggml.tokens").unwrap().as_array().unwrap().len(), 700);
            for tensor in checkpoint.tensors() {
                let values = floats(tensor.dtype, &tensor.data, tensor.shape.iter().product());
                assert!(values.iter().all(|v| v.is_finite()), "{}", tensor.name);
                assert!(values.iter().any(|v| *v != 0.0), "{}", tensor.name);
            }
        }
    }
}

#[test]
fn weights_have_the_scale_of_their_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    for kind in [FileType::F32, FileType::Q8_0, FileType::Q4_K_M, FileType::Q2_K] {
        write(&small("llama"), kind, 3, &path).unwrap();
        let checkpoint = open(&path);
        let tensor = checkpoint.tensor("blk.1.ffn_down.weight").unwrap();
        let values = floats(tensor.dtype, &tensor.data, 96 * 288);
        let variance = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64;
        assert!((variance * 288.0 - 1.0).abs() < 0.1, "{kind}: {variance}");
    }
}

/// The same seed gives the same bytes, and the same model in every type.
#[test]
fn seeds_decide() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, kind, seed| {
        let path = dir.path().join(name);
        write(&small("qwen3"), kind, seed, &path).unwrap();
        path
    };
    let (a, b) = (file("a", FileType::F32, 5), file("b", FileType::F32, 5));
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    assert_ne!(fs::read(&a).unwrap(), fs::read(file("c", FileType::F32, 6)).unwrap());
    let (exact, packed) = (open(&a), open(&file("d", FileType::Q4_K_M, 5)));
    for tensor in packed.tensors() {
        let same = exact.tensor(&tensor.name).unwrap();
        let values = floats(DType::F32, &same.data, same.data.len() / 4);
        let mut bytes = vec![0; tensor.data.len()];
        rlx_quant::quantize(tensor.dtype, &values, &mut bytes).unwrap();
        assert!(*bytes == *tensor.data, "{} is not what quantising it gives", tensor.name);
    }
}

#[test]
fn impossible_files_are_errors_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no/m.gguf");
    assert!(write(&small("llama"), FileType::F16, 0, &path).unwrap_err().to_string().contains("no/m.gguf"));
    // A directory cannot be replaced by a file.
    let path = dir.path().join("taken");
    fs::create_dir_all(path.join("x")).unwrap();
    assert!(write(&small("llama"), FileType::F16, 0, &path).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn vocabularies_of_any_size_have_their_special_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let kinds = [
        ("llama", Vocab::Llama3),
        ("llama", Vocab::SmolLm2),
        ("llama", Vocab::MiniCpm5),
        ("qwen3", Vocab::Qwen),
        ("gemma3", Vocab::Gemma),
        ("gemma4", Vocab::Gemma4),
    ];
    for (architecture, vocab) in kinds {
        for vocab_size in [5, 260, 1000] {
            let shape = Shape { vocab_size, vocab, num_hidden_layers: 1, ..small(architecture) };
            write(&shape, FileType::F16, 0, &path).unwrap();
            let checkpoint = open(&path);
            let eos = checkpoint.gguf().unwrap().get_u32("tokenizer.ggml.eos_token_id").unwrap();
            assert!((eos as usize) < vocab_size);
        }
    }
}
