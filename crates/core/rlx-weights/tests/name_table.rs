//! Name tables against real files: the llama fixture as GGUF (llama.cpp's converter) and as safetensors.

use std::path::{Path, PathBuf};

use rlx_ir::DType;
use rlx_weights::gguf::GgufWriter;
use rlx_weights::names::{MapOptions, NameRule, Transform, WeightMap};
use rlx_weights::safetensors_file::write_safetensors;
use rlx_weights::{Checkpoint, OpenOptions, TensorView, WeightsError};

const TABLE: &[NameRule] = &[
    NameRule::required("model.embed_tokens.weight", "token_embd.weight"),
    NameRule::required("model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    NameRule::required("model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight")
        .with(Transform::LlamaRopePermute),
    NameRule::required("model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight")
        .with(Transform::LlamaRopePermute),
    NameRule::required("model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"),
    NameRule::required("model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"),
    NameRule::required("model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"),
    NameRule::required("model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"),
    NameRule::required("model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"),
    NameRule::required("model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"),
    NameRule::required("model.norm.weight", "output_norm.weight"),
    NameRule::optional("lm_head.weight", "output.weight"),
    NameRule::ignored("model.layers.{}.self_attn.rotary_emb.inv_freq", "rope_freqs.weight"),
    NameRule::ignored("mtp.*", ""),
];

const OPTIONS: MapOptions<'static> = MapOptions { layers: 3, experts: 0, head_dim: 16, prefixes: &[("model.", "")] };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llama32").join(name)
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path, &OpenOptions::default()).unwrap()
}

/// The safetensors fixture with some tensors renamed or dropped.
fn rewrite(path: &Path, rename: impl Fn(&str) -> Option<String>) -> Checkpoint {
    let original = open(&fixture("model.safetensors"));
    let tensors: Vec<(String, &TensorView)> = original.tensors().filter_map(|t| Some((rename(&t.name)?, t))).collect();
    let entries: Vec<_> = tensors.iter().map(|(name, t)| (name.as_str(), t.dtype, &t.shape[..], &t.data[..])).collect();
    write_safetensors(path, &entries).unwrap();
    open(path)
}

#[test]
fn gguf_and_safetensors_of_the_same_weights_are_equal() {
    let (gguf, hf) = (open(&fixture("model.f32.gguf")), open(&fixture("model.safetensors")));
    assert_eq!(gguf.architecture(), Some("llama"));
    assert_eq!(hf.config().unwrap()["hidden_size"], 54);
    let mut from_gguf = WeightMap::new(&gguf, TABLE, &OPTIONS).unwrap();
    let mut from_hf = WeightMap::new(&hf, TABLE, &OPTIONS).unwrap();
    let mut compared = 0;
    for theirs in hf.tensors() {
        let (a, b) = (from_gguf.take(&theirs.name).unwrap(), from_hf.take(&theirs.name).unwrap());
        assert_eq!(a.name, theirs.name);
        assert_eq!(a.shape, b.shape, "{}", a.name);
        assert_eq!(a.to_f32().unwrap(), b.to_f32().unwrap(), "{}", a.name);
        compared += 1;
    }
    assert_eq!(compared, 2 + 9 * 3);
    assert!(from_gguf.get_opt("lm_head.weight").unwrap().is_none());
    from_gguf.finish().unwrap();
    from_hf.finish().unwrap();
    // Without the transform the projections differ: the test above would notice.
    let q = "model.layers.0.self_attn.q_proj.weight";
    assert_ne!(*gguf.tensor("blk.0.attn_q.weight").unwrap().data, *hf.tensor(q).unwrap().data);
}

#[test]
fn packed_rows_are_permuted_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q8.gguf");
    let values: Vec<f32> = (0..16 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut packed = vec![0; DType::Q8_0.bytes_for(values.len()).unwrap()];
    rlx_quant::quantize(DType::Q8_0, &values, &mut packed).unwrap();
    let mut writer = GgufWriter::new("llama");
    writer.add_tensor("blk.0.attn_q.weight", DType::Q8_0, &[16, 64]).unwrap();
    let mut stream = writer.create(&path).unwrap();
    stream.write(&packed).unwrap();
    stream.finish().unwrap();

    let rules = [NameRule::required("q.{}", "blk.{}.attn_q.weight").with(Transform::LlamaRopePermute)];
    let options = MapOptions { layers: 1, head_dim: 8, ..MapOptions::default() };
    let mut map = WeightMap::new(&open(&path), &rules, &options).unwrap();
    let tensor = map.take("q.0").unwrap();
    assert_eq!(tensor.dtype, DType::Q8_0);
    let plain = open(&path).tensor("blk.0.attn_q.weight").unwrap().to_f32().unwrap();
    let permuted = tensor.to_f32().unwrap();
    for head in 0..2 {
        for row in 0..8 {
            let from = head * 8 + (row % 4) * 2 + row / 4;
            assert_eq!(permuted[(head * 8 + row) * 64..][..64], plain[from * 64..][..64]);
        }
    }
    let options = MapOptions { layers: 1, head_dim: 5, ..MapOptions::default() };
    let error = WeightMap::new(&open(&path), &rules, &options).unwrap().take("q.0").unwrap_err();
    assert!(error.to_string().contains("heads"), "{error}");
}

#[test]
fn missing_parameters_name_the_nearest_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = rewrite(&dir.path().join("a.safetensors"), |name| {
        Some(name.replace("layers.1.mlp.up_proj", "layers.1.mlp.up_projection"))
    });
    let error = WeightMap::new(&checkpoint, TABLE, &OPTIONS).unwrap_err().to_string();
    let expected = "missing parameter model.layers.1.mlp.up_proj.weight (nearest in file: `model.layers.1.mlp.up_projection.weight`)";
    assert_eq!(error, expected);
    // A layer that is not there at all, in a GGUF.
    let options = MapOptions { layers: 4, ..OPTIONS };
    let error = WeightMap::new(&open(&fixture("model.f32.gguf")), TABLE, &options).unwrap_err().to_string();
    let expected = "missing parameter model.layers.3.input_layernorm.weight (blk.3.attn_norm.weight in this format) \
                    (nearest in file: `blk.0.attn_norm.weight`)";
    assert_eq!(error, expected);
}

#[test]
fn tensors_nobody_takes_are_errors_unless_ignored() {
    let checkpoint = open(&fixture("model.safetensors"));
    let options = MapOptions { layers: 2, ..OPTIONS };
    let mut map = WeightMap::new(&checkpoint, TABLE, &options).unwrap();
    for tensor in checkpoint.tensors().filter(|t| !t.name.contains("layers.2") && t.name != "model.norm.weight") {
        map.take(&tensor.name).unwrap();
    }
    let Err(WeightsError::UnusedTensors { count, first, nearest }) = map.finish() else { panic!() };
    assert_eq!(count, 10, "nine of the third layer, and the norm that was not taken");
    assert!(first.starts_with("model.layers.2."));
    assert!(nearest.is_some());

    let mut map = WeightMap::new(&checkpoint, TABLE, &OPTIONS).unwrap();
    for tensor in checkpoint.tensors().filter(|t| t.name != "model.norm.weight") {
        map.take(&tensor.name).unwrap();
    }
    map.ignore("model.norm.weight");
    map.finish().unwrap();
    assert!(matches!(
        WeightMap::new(&checkpoint, TABLE, &OPTIONS).unwrap().take("model.nrm"),
        Err(WeightsError::Usage(_))
    ));
}

#[test]
fn other_prefixes_and_ignored_patterns() {
    let dir = tempfile::tempdir().unwrap();
    let bare = rewrite(&dir.path().join("a.safetensors"), |name| match name {
        // Two tensors stand in for ones to be ignored; the optional head is there.
        "model.norm.weight" => Some("norm.weight".into()),
        name => Some(name.strip_prefix("model.").unwrap_or(name).to_owned()),
    });
    let mut map = WeightMap::new(&bare, TABLE, &OPTIONS).unwrap();
    assert_eq!(map.take("model.norm.weight").unwrap().name, "model.norm.weight");
    assert!(WeightMap::new(&bare, TABLE, &MapOptions { prefixes: &[], ..OPTIONS }).is_err());

    let extra = dir.path().join("b.safetensors");
    let one = 1.0f32.to_le_bytes();
    let names = ["mtp.layers.0.w", "layers.7.self_attn.rotary_emb.inv_freq", "x"];
    let entries: Vec<_> = names.iter().map(|&name| (name, DType::F32, &[1usize][..], &one[..])).collect();
    write_safetensors(&extra, &entries).unwrap();
    let rules: Vec<NameRule> =
        TABLE.iter().filter(|rule| rule.gguf.is_empty() || rule.gguf.starts_with("rope")).copied().collect();
    let Err(WeightsError::UnusedTensors { count, first, .. }) =
        WeightMap::new(&open(&extra), &rules, &OPTIONS).unwrap().finish()
    else {
        panic!()
    };
    assert_eq!((count, first.as_str()), (1, "x"));
}

#[test]
fn experts_and_absurd_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let one = 1.0f32.to_le_bytes();
    let names: Vec<String> = (0..6).map(|i| format!("l.{}.e.{}.w", i / 3, i % 3)).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), DType::F32, &[1usize][..], &one[..])).collect();
    write_safetensors(&path, &entries).unwrap();
    let checkpoint = open(&path);
    let rules = [NameRule::required("l.{}.e.{}.w", "")];
    let options = |layers, experts| MapOptions { layers, experts, ..MapOptions::default() };
    let mut map = WeightMap::new(&checkpoint, &rules, &options(2, 3)).unwrap();
    for name in &names {
        map.take(name).unwrap();
    }
    map.finish().unwrap();
    let error = WeightMap::new(&checkpoint, &rules, &options(2, 4)).unwrap_err();
    assert!(error.to_string().contains("l.0.e.3.w"), "{error}");
    for (layers, experts) in [(usize::MAX, 1), (1 << 16, 1 << 16), (60_000, usize::MAX)] {
        assert!(matches!(WeightMap::new(&checkpoint, &rules, &options(layers, experts)), Err(WeightsError::Usage(_))));
    }
}
