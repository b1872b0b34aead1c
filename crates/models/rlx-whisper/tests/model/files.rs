//! Checkpoints of random weights in every format.

use rlx_ir::DType;
use rlx_weights::GgufMetadata;
use rlx_weights::gguf::GgufWriter;
use rlx_weights::safetensors_file::write_safetensors;
use rlx_whisper::WhisperConfig;
use serde_json::{Value, json};
use std::path::Path;

/// Sizes that fit no block, with other depths of encoder and decoder.
pub(crate) fn config() -> WhisperConfig {
    WhisperConfig { encoder_layers: 3, ..WhisperConfig::tiny() }
}

/// Sizes of whole Q8_0 blocks.
pub(crate) fn wide() -> WhisperConfig {
    WhisperConfig {
        d_model: 64,
        encoder_attention_heads: 1,
        decoder_attention_heads: 1,
        encoder_ffn_dim: 96,
        decoder_ffn_dim: 128,
        alignment_heads: vec![(1, 0)],
        ..WhisperConfig::tiny()
    }
}

pub(crate) fn json_of(config: &WhisperConfig) -> Value {
    json!({
        "model_type": "whisper", "vocab_size": config.vocab_size, "num_mel_bins": config.num_mel_bins,
        "d_model": config.d_model, "encoder_layers": config.encoder_layers, "decoder_layers": config.decoder_layers,
        "encoder_attention_heads": config.encoder_attention_heads,
        "decoder_attention_heads": config.decoder_attention_heads,
        "encoder_ffn_dim": config.encoder_ffn_dim, "decoder_ffn_dim": config.decoder_ffn_dim,
        "max_source_positions": config.max_source_positions, "max_target_positions": config.max_target_positions,
        "activation_function": "gelu",
    })
}

/// One tensor: its name at Hugging Face and its values.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Tensor {
    /// The values as a file holds them.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }
}

/// All tensors of a model, drawn from `seed`.
pub(crate) fn tensors(config: &WhisperConfig, seed: u64) -> Vec<Tensor> {
    let d = config.d_model;
    let mut all: Vec<(String, Vec<usize>)> = vec![
        ("model.encoder.conv1.weight".into(), vec![d, config.num_mel_bins, 3]),
        ("model.encoder.conv1.bias".into(), vec![d]),
        ("model.encoder.conv2.weight".into(), vec![d, d, 3]),
        ("model.encoder.conv2.bias".into(), vec![d]),
        ("model.encoder.embed_positions.weight".into(), vec![config.max_source_positions, d]),
        ("model.decoder.embed_tokens.weight".into(), vec![config.vocab_size, d]),
        ("model.decoder.embed_positions.weight".into(), vec![config.max_target_positions, d]),
    ];
    let sides = [
        ("encoder", config.encoder_layers, config.encoder_ffn_dim, &["self_attn"][..]),
        ("decoder", config.decoder_layers, config.decoder_ffn_dim, &["self_attn", "encoder_attn"]),
    ];
    for (side, layers, ffn, attentions) in sides {
        let norm = |all: &mut Vec<(String, Vec<usize>)>, name: String| {
            all.extend(["weight", "bias"].map(|kind| (format!("{name}.{kind}"), vec![d])));
        };
        norm(&mut all, format!("model.{side}.layer_norm"));
        for layer in 0..layers {
            let at = format!("model.{side}.layers.{layer}");
            norm(&mut all, format!("{at}.final_layer_norm"));
            for attention in attentions {
                norm(&mut all, format!("{at}.{attention}_layer_norm"));
                for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                    all.push((format!("{at}.{attention}.{part}.weight"), vec![d, d]));
                    if part != "k_proj" {
                        all.push((format!("{at}.{attention}.{part}.bias"), vec![d]));
                    }
                }
            }
            for (name, rows, columns) in [("fc1", ffn, d), ("fc2", d, ffn)] {
                all.push((format!("{at}.{name}.weight"), vec![rows, columns]));
                all.push((format!("{at}.{name}.bias"), vec![rows]));
            }
        }
    }
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let filled = all.into_iter().map(|(name, shape)| {
        let size: usize = shape.iter().product();
        let inner: usize = shape[1..].iter().product();
        // Norms around one, everything else so that activations keep their size.
        let (offset, factor) =
            if name.ends_with("norm.weight") { (1.0, 0.3) } else { (0.0, 1.5 / (inner as f32).sqrt()) };
        let values = (0..size).map(|_| offset + factor * draw()).collect();
        Tensor { name, shape, values }
    });
    filled.collect()
}

pub(crate) fn write_hf(dir: &Path, config: &WhisperConfig, tensors: &[Tensor]) {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(Tensor::bytes).collect();
    let entries: Vec<_> = tensors
        .iter()
        .zip(&bytes)
        .map(|(tensor, bytes)| (tensor.name.as_str(), DType::F32, tensor.shape.as_slice(), bytes.as_slice()))
        .collect();
    write_safetensors(&dir.join("model.safetensors"), &entries).unwrap();
    std::fs::write(dir.join("config.json"), json_of(config).to_string()).unwrap();
    let heads: Vec<[usize; 2]> = config.alignment_heads.iter().map(|&(layer, head)| [layer, head]).collect();
    std::fs::write(dir.join("generation_config.json"), json!({ "alignment_heads": heads }).to_string()).unwrap();
}

/// The name of a tensor at openai/whisper.
pub(crate) fn openai_name(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap();
    let whole = [
        ("encoder.embed_positions.weight", "encoder.positional_embedding"),
        ("decoder.embed_positions.weight", "decoder.positional_embedding"),
        ("decoder.embed_tokens.weight", "decoder.token_embedding.weight"),
        ("encoder.layer_norm.", "encoder.ln_post."),
        ("decoder.layer_norm.", "decoder.ln."),
    ];
    let parts = [
        (".layers.", ".blocks."),
        (".self_attn_layer_norm.", ".attn_ln."),
        (".encoder_attn_layer_norm.", ".cross_attn_ln."),
        (".final_layer_norm.", ".mlp_ln."),
        (".self_attn.", ".attn."),
        (".encoder_attn.", ".cross_attn."),
        (".q_proj.", ".query."),
        (".k_proj.", ".key."),
        (".v_proj.", ".value."),
        (".out_proj.", ".out."),
        (".fc1.", ".mlp.0."),
        (".fc2.", ".mlp.2."),
    ];
    whole.iter().chain(&parts).fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

pub(crate) fn write_gguf(path: &Path, config: &WhisperConfig, tensors: &[Tensor], openai: bool) {
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", "whisper");
    metadata.set("whisper.encoder.attention.head_count", config.encoder_attention_heads as u32);
    metadata.set("whisper.decoder.attention.head_count", config.decoder_attention_heads as u32);
    let mut writer = GgufWriter::from_metadata(metadata);
    for tensor in tensors {
        let name = if openai { openai_name(&tensor.name) } else { tensor.name.clone() };
        writer.add_tensor(&name, DType::F32, &tensor.shape).unwrap();
    }
    let mut stream = writer.create(path).unwrap();
    tensors.iter().for_each(|tensor| stream.write(&tensor.bytes()).unwrap());
    stream.finish().unwrap();
}

/// A file of whisper.cpp; `words` is its vocabulary.
pub(crate) fn ggml_bytes(config: &WhisperConfig, tensors: &[Tensor], words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"lmgg".to_vec();
    let put = |out: &mut Vec<u8>, number: usize| out.extend((number as u32).to_le_bytes());
    let [source, target] = [config.max_source_positions, config.max_target_positions];
    for size in [
        config.vocab_size,
        source,
        config.d_model,
        config.encoder_attention_heads,
        config.encoder_layers,
        target,
        config.d_model,
        config.decoder_attention_heads,
        config.decoder_layers,
        config.num_mel_bins,
        0,
    ] {
        put(&mut out, size);
    }
    put(&mut out, config.num_mel_bins);
    put(&mut out, 201);
    out.extend(vec![0; config.num_mel_bins * 201 * 4]);
    put(&mut out, words.len());
    for word in words {
        put(&mut out, word.len());
        out.extend(word);
    }
    for tensor in tensors {
        let name = openai_name(&tensor.name);
        let mut shape = tensor.shape.clone();
        if name.contains("conv") && name.ends_with("bias") {
            shape.push(1);
        }
        put(&mut out, shape.len());
        put(&mut out, name.len());
        put(&mut out, 0);
        shape.iter().rev().for_each(|&dim| put(&mut out, dim));
        out.extend(name.as_bytes());
        out.extend(tensor.bytes());
    }
    out
}

/// A `model.bin` of CTranslate2; matrices as int8 with a scale per row, if so wished.
pub(crate) fn ct2_bytes(config: &WhisperConfig, tensors: &[Tensor], int8: bool) -> Vec<u8> {
    let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap();
    let mut variables: Vec<(String, Vec<usize>, u8, Vec<u8>)> = vec![];
    let floats = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let mut add = |name: String, shape: Vec<usize>, values: Vec<f32>, matrix: bool| {
        if !(int8 && matrix) {
            return variables.push((name, shape, 0, floats(&values)));
        }
        let width = values.len() / shape[0];
        let (mut bytes, mut scales) = (vec![], vec![]);
        for row in values.chunks_exact(width) {
            let scale = 127.0 / row.iter().fold(1e-9f32, |max, x| max.max(x.abs()));
            scales.push(scale);
            bytes.extend(row.iter().map(|x| (x * scale).round() as i8 as u8));
        }
        variables.push((format!("{name}_scale"), vec![shape[0]], 0, floats(&scales)));
        variables.push((name, shape, 1, bytes));
    };
    let mut one = |from: &str, to: String, matrix: bool| {
        let tensor = find(from);
        add(to, tensor.shape.clone(), tensor.values.clone(), matrix);
    };
    for name in ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"] {
        one(&format!("model.encoder.{name}"), format!("encoder/{}", name.replace('.', "/")), false);
    }
    one("model.decoder.embed_tokens.weight", "decoder/embeddings/weight".into(), true);
    let norm = |one: &mut dyn FnMut(&str, String, bool), from: String, to: String| {
        one(&format!("{from}.weight"), format!("{to}/gamma"), false);
        one(&format!("{from}.bias"), format!("{to}/beta"), false);
    };
    let mut stacks: Vec<(String, String, Vec<&str>)> = vec![];
    for (side, layers) in [("encoder", config.encoder_layers), ("decoder", config.decoder_layers)] {
        let positions = format!("{side}/position_encodings/encodings");
        one(&format!("model.{side}.embed_positions.weight"), positions, false);
        norm(&mut one, format!("model.{side}.layer_norm"), format!("{side}/layer_norm"));
        for layer in 0..layers {
            let (from, to) = (format!("model.{side}.layers.{layer}"), format!("{side}/layer_{layer}"));
            norm(&mut one, format!("{from}.self_attn_layer_norm"), format!("{to}/self_attention/layer_norm"));
            norm(&mut one, format!("{from}.final_layer_norm"), format!("{to}/ffn/layer_norm"));
            let attention = format!("{from}.self_attn");
            stacks.push((
                attention.clone(),
                format!("{to}/self_attention/linear_0"),
                vec!["q_proj", "k_proj", "v_proj"],
            ));
            stacks.push((attention, format!("{to}/self_attention/linear_1"), vec!["out_proj"]));
            stacks.push((from.clone(), format!("{to}/ffn/linear_0"), vec!["fc1"]));
            stacks.push((from.clone(), format!("{to}/ffn/linear_1"), vec!["fc2"]));
            if side == "decoder" {
                norm(&mut one, format!("{from}.encoder_attn_layer_norm"), format!("{to}/attention/layer_norm"));
                let attention = format!("{from}.encoder_attn");
                for (i, parts) in [vec!["q_proj"], vec!["k_proj", "v_proj"], vec!["out_proj"]].into_iter().enumerate() {
                    stacks.push((attention.clone(), format!("{to}/attention/linear_{i}"), parts));
                }
            }
        }
    }
    for (from, to, parts) in stacks {
        let weights: Vec<&Tensor> = parts.iter().map(|part| find(&format!("{from}.{part}.weight"))).collect();
        let rows: usize = weights.iter().map(|tensor| tensor.shape[0]).sum();
        let values = weights.iter().flat_map(|tensor| tensor.values.clone()).collect();
        add(format!("{to}/weight"), vec![rows, weights[0].shape[1]], values, true);
        let bias = |part: &str| match part {
            "k_proj" => vec![0.0; config.d_model],
            _ => find(&format!("{from}.{part}.bias")).values.clone(),
        };
        add(format!("{to}/bias"), vec![rows], parts.iter().flat_map(|part| bias(part)).collect(), false);
    }
    for (name, heads) in [("encoder", config.encoder_attention_heads), ("decoder", config.decoder_attention_heads)] {
        variables.push((format!("{name}/num_heads"), vec![], 2, (heads as i16).to_le_bytes().to_vec()));
    }
    let mut out = 6u32.to_le_bytes().to_vec();
    let string = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u16 + 1).to_le_bytes());
        out.extend(text.as_bytes());
        out.push(0);
    };
    string(&mut out, "WhisperSpec");
    out.extend(3u32.to_le_bytes());
    out.extend((variables.len() as u32).to_le_bytes());
    for (name, shape, kind, bytes) in variables {
        string(&mut out, &name);
        out.push(shape.len() as u8);
        shape.iter().for_each(|&dim| out.extend((dim as u32).to_le_bytes()));
        out.push(kind);
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
    }
    out.extend(1u32.to_le_bytes());
    string(&mut out, "decoder/projection/weight");
    string(&mut out, "decoder/embeddings/weight");
    out
}
