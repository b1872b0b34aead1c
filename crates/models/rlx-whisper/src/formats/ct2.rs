//! `model.bin` of CTranslate2, as faster-whisper uses it (specification `WhisperSpec`).
//!
//! Little-endian: version; name and revision of the specification; variables, each with its name, dims, type and data; aliases. Q, K and
//! V of self-attention are one matrix, as are K and V of cross-attention, with a bias of which the part of K is zero. int8 matrices
//! have a scale per row by which their elements were multiplied. See `python/ctranslate2/specs` of CTranslate2.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;

use half::f16;
use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::{Checkpoint, Cursor, TensorView, WeightsError};
use serde_json::json;

/// Versions of the container that have this layout.
pub(super) const VERSIONS: RangeInclusive<u32> = 4..=6;

const SPECIFICATION: &str = "WhisperSpec";
const MAX_REVISION: u32 = 3;
const MAX_VARIABLES: u32 = 1 << 16;
const MAX_DIMS: u8 = 4;
/// Elements of a Q8_0 block.
const BLOCK: usize = 32;

type Variables = HashMap<String, TensorView>;

pub(super) fn open(bytes: &Bytes, path: &Path) -> Result<Checkpoint, WeightsError> {
    let mut cursor = Cursor::new(bytes, path);
    cursor.u32("the version")?;
    let specification = string(&mut cursor)?;
    let revision = cursor.u32("the revision")?;
    if specification != SPECIFICATION || revision > MAX_REVISION {
        let name = specification.escape_debug();
        return cursor
            .bad(format!("holds a model of {name} revision {revision}, not {SPECIFICATION} up to {MAX_REVISION}"));
    }
    let variables = variables(&mut cursor, bytes)?;
    let number = |name: &str| -> Option<u64> {
        let values = variables.get(name)?.to_f32().ok()?;
        values.first().map(|&x| x as u64)
    };
    // A flag, or the factor itself.
    let unscaled = |tensor: &TensorView| if tensor.dtype == DType::I8 { 0.0 } else { 1.0 };
    let scale = variables.get("decoder/scale_embeddings");
    if scale.is_some_and(|scale| scale.to_f32().is_ok_and(|values| values != [unscaled(scale)])) {
        return cursor.bad("scales its embeddings, which no Whisper does");
    }
    let heads = |side: &str| number(&format!("{side}/num_heads"));
    let activation = match number("encoder/activation") {
        Some(0) => "relu",
        Some(1) => "gelu_new",
        Some(2) => "silu",
        _ => "gelu",
    };
    let mut model = Model { cursor: &cursor, variables: &variables, tensors: vec![] };
    let layers = [model.encoder()?, model.decoder()?];
    let tensors = model.tensors;
    let dim = |name: &str, axis: usize| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name);
        tensor.and_then(|tensor| tensor.shape.get(axis).copied())
    };
    let d_model = dim("model.encoder.conv1.weight", 0).unwrap_or(0);
    let config = json!({
        "model_type": "whisper",
        "vocab_size": dim("model.decoder.embed_tokens.weight", 0),
        "num_mel_bins": dim("model.encoder.conv1.weight", 1),
        "d_model": d_model,
        "encoder_layers": layers[0],
        "decoder_layers": layers[1],
        "encoder_attention_heads": heads("encoder").unwrap_or(d_model as u64 / 64),
        "decoder_attention_heads": heads("decoder").unwrap_or(d_model as u64 / 64),
        "encoder_ffn_dim": dim("model.encoder.layers.0.fc1.weight", 0),
        "decoder_ffn_dim": dim("model.decoder.layers.0.fc1.weight", 0),
        "max_source_positions": dim("model.encoder.embed_positions.weight", 0),
        "max_target_positions": dim("model.decoder.embed_positions.weight", 0),
        "activation_function": activation,
    });
    let checkpoint = Checkpoint::custom("whisper-bin", path, vec![path.to_path_buf()], tensors)?;
    Ok(checkpoint.with_config(config))
}

fn string(cursor: &mut Cursor<'_>) -> Result<String, WeightsError> {
    let len = u16::from_le_bytes(cursor.array("the length of a name")?);
    let text = String::from_utf8_lossy(cursor.take(len.into(), "a name")?);
    Ok(text.trim_end_matches('\0').to_owned())
}

fn variables(cursor: &mut Cursor<'_>, bytes: &Bytes) -> Result<Variables, WeightsError> {
    let count = cursor.u32("the number of variables")?;
    if count > MAX_VARIABLES {
        return cursor.bad(format!("{count} variables, more than any model has"));
    }
    let mut variables = Variables::new();
    for _ in 0..count {
        let name = string(cursor)?;
        let [rank] = cursor.array("the rank of a variable")?;
        if rank > MAX_DIMS {
            return cursor.bad(format!("variable {} has {rank} dims", name.escape_debug()));
        }
        let mut shape = Vec::with_capacity(rank.into());
        for _ in 0..rank {
            shape.push(cursor.u32("the dims of a variable")? as usize);
        }
        let [kind] = cursor.array("the type of a variable")?;
        let dtype = match kind {
            0 => DType::F32,
            1 => DType::I8,
            2 => DType::I16,
            3 => DType::I32,
            4 => DType::F16,
            5 => DType::BF16,
            _ => return cursor.bad(format!("variable {} has unknown type {kind}", name.escape_debug())),
        };
        let len = cursor.u32("the size of a variable")?;
        let start = cursor.pos();
        let size = cursor.take(len.into(), "a variable")?.len();
        let data = bytes.slice(start..start + size).unwrap_or_else(|| Bytes::copy_from(&[]));
        let tensor = TensorView::new(name.clone(), dtype, shape, data)?;
        if variables.insert(name, tensor).is_some() {
            return cursor.bad("a variable comes twice");
        }
    }
    for _ in 0..cursor.u32("the number of aliases")? {
        let (alias, name) = (string(cursor)?, string(cursor)?);
        if let Some(tensor) = variables.get(&name).cloned() {
            variables.insert(alias, tensor);
        }
    }
    Ok(variables)
}

/// The variables on their way to Hugging Face's names.
struct Model<'a> {
    cursor: &'a Cursor<'a>,
    variables: &'a Variables,
    tensors: Vec<TensorView>,
}

impl Model<'_> {
    fn encoder(&mut self) -> Result<usize, WeightsError> {
        for conv in ["conv1", "conv2"] {
            self.take(&format!("encoder/{conv}/weight"), &format!("model.encoder.{conv}.weight"))?;
            self.take(&format!("encoder/{conv}/bias"), &format!("model.encoder.{conv}.bias"))?;
        }
        self.around("encoder")?;
        let mut layers = 0;
        while self.has(&format!("encoder/layer_{layers}/ffn/linear_0/weight")) {
            self.layer("encoder", layers)?;
            layers += 1;
        }
        Ok(layers)
    }

    fn decoder(&mut self) -> Result<usize, WeightsError> {
        self.take("decoder/embeddings/weight", "model.decoder.embed_tokens.weight")?;
        self.around("decoder")?;
        let mut layers = 0;
        while self.has(&format!("decoder/layer_{layers}/ffn/linear_0/weight")) {
            self.layer("decoder", layers)?;
            let (from, to) =
                (format!("decoder/layer_{layers}/attention"), format!("model.decoder.layers.{layers}.encoder_attn"));
            self.norm(&format!("{from}/layer_norm"), &format!("{to}_layer_norm"))?;
            self.split(&format!("{from}/linear_0"), &to, &["q_proj"])?;
            self.split(&format!("{from}/linear_1"), &to, &["k_proj", "v_proj"])?;
            self.split(&format!("{from}/linear_2"), &to, &["out_proj"])?;
            layers += 1;
        }
        Ok(layers)
    }

    /// Positions and the last norm.
    fn around(&mut self, side: &str) -> Result<(), WeightsError> {
        let positions = format!("{side}/position_encodings/encodings");
        // Older files of encoders leave the sines to be computed.
        if side == "decoder" || self.has(&positions) {
            self.take(&positions, &format!("model.{side}.embed_positions.weight"))?;
        }
        self.norm(&format!("{side}/layer_norm"), &format!("model.{side}.layer_norm"))
    }

    /// Self-attention and feed-forward.
    fn layer(&mut self, side: &str, layer: usize) -> Result<(), WeightsError> {
        let (from, to) = (format!("{side}/layer_{layer}"), format!("model.{side}.layers.{layer}"));
        self.norm(&format!("{from}/self_attention/layer_norm"), &format!("{to}.self_attn_layer_norm"))?;
        let attention = format!("{to}.self_attn");
        self.split(&format!("{from}/self_attention/linear_0"), &attention, &["q_proj", "k_proj", "v_proj"])?;
        self.split(&format!("{from}/self_attention/linear_1"), &attention, &["out_proj"])?;
        self.norm(&format!("{from}/ffn/layer_norm"), &format!("{to}.final_layer_norm"))?;
        self.split(&format!("{from}/ffn/linear_0"), &to, &["fc1"])?;
        self.split(&format!("{from}/ffn/linear_1"), &to, &["fc2"])
    }

    fn has(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    fn variable(&self, name: &str) -> Result<&TensorView, WeightsError> {
        let found = self.variables.get(name);
        found.map_or_else(|| self.cursor.bad(format!("variable {name} is missing")), Ok)
    }

    fn norm(&mut self, from: &str, to: &str) -> Result<(), WeightsError> {
        self.take(&format!("{from}/gamma"), &format!("{to}.weight"))?;
        self.take(&format!("{from}/beta"), &format!("{to}.bias"))
    }

    fn take(&mut self, from: &str, to: &str) -> Result<(), WeightsError> {
        let tensor = dequantised(self.variable(from)?, self.variables.get(&format!("{from}_scale")))?;
        self.tensors.push(TensorView { name: to.to_owned(), ..tensor });
        Ok(())
    }

    /// A matrix and its bias that stack those of `parts`. Keys have no bias: theirs is zero.
    fn split(&mut self, from: &str, to: &str, parts: &[&str]) -> Result<(), WeightsError> {
        let scale = self.variables.get(&format!("{from}/weight_scale"));
        let weight = dequantised(self.variable(&format!("{from}/weight"))?, scale)?;
        let bias = self.variable(&format!("{from}/bias"))?.clone();
        for (index, part) in parts.iter().enumerate() {
            let piece =
                |tensor: &TensorView, kind: &str| rows_of(tensor, index, parts.len(), format!("{to}.{part}.{kind}"));
            self.tensors.push(piece(&weight, "weight")?);
            let bias = piece(&bias, "bias")?;
            if *part != "k_proj" {
                self.tensors.push(bias);
            } else if bias.to_f32()?.iter().any(|&x| x != 0.0) {
                return self.cursor.bad(format!("{from}: keys have a bias, which Whisper's have not"));
            }
        }
        Ok(())
    }
}

/// Part `index` of `count` equal ones of the rows (or elements) of a tensor, a slice of the file.
fn rows_of(tensor: &TensorView, index: usize, count: usize, name: String) -> Result<TensorView, WeightsError> {
    let mut shape = tensor.shape.clone();
    let rows = shape.first().copied().unwrap_or(0);
    if !rows.is_multiple_of(count) {
        let what = format!("has {rows} rows, not a multiple of {count}");
        return Err(WeightsError::Shape { tensor: tensor.name.clone(), what });
    }
    shape[0] = rows / count;
    let len = tensor.data.len() / count;
    let data = tensor.data.slice(index * len..(index + 1) * len).unwrap_or_else(|| Bytes::copy_from(&[]));
    TensorView::new(name, tensor.dtype, shape, data)
}

/// An integer tensor divided by the scale of its rows: int8 matrices as Q8_0, others as F32. Tensors without scale as they are.
fn dequantised(tensor: &TensorView, scale: Option<&TensorView>) -> Result<TensorView, WeightsError> {
    let Some(scale) = scale else { return Ok(tensor.clone()) };
    let fail = |what: String| WeightsError::Shape { tensor: tensor.name.clone(), what };
    let (rows, scales) = (tensor.shape.first().copied().unwrap_or(0), scale.to_f32()?);
    if rows == 0 || scales.len() != rows && scales.len() != 1 || scales.iter().any(|&x| !(x > 0.0 && x.is_finite())) {
        return Err(fail(format!("has {rows} rows and {} scales", scales.len())));
    }
    let width = tensor.element_count() / rows;
    let steps: Vec<f32> = (0..rows).map(|row| 1.0 / scales[row.min(scales.len() - 1)]).collect();
    // A scale that is no normal f16 would lose digits.
    let fits = steps.iter().all(|&step| step >= f16::MIN_POSITIVE.to_f32() && step <= f16::MAX.to_f32());
    if tensor.dtype == DType::I8 && tensor.shape.len() == 2 && width.is_multiple_of(BLOCK) && fits {
        let mut blocks = Vec::with_capacity(tensor.data.len() / BLOCK * (BLOCK + 2));
        for (row, step) in tensor.data.chunks_exact(width).zip(&steps) {
            for block in row.chunks_exact(BLOCK) {
                blocks.extend_from_slice(&f16::from_f32(*step).to_le_bytes());
                blocks.extend_from_slice(block);
            }
        }
        return TensorView::new(tensor.name.clone(), DType::Q8_0, tensor.shape.clone(), Bytes::copy_from(&blocks));
    }
    let values = tensor.to_f32()?;
    let rows = values.chunks_exact(width.max(1)).zip(&steps);
    let bytes: Vec<u8> = rows.flat_map(|(row, step)| row.iter().flat_map(move |x| (x * step).to_le_bytes())).collect();
    TensorView::new(tensor.name.clone(), DType::F32, tensor.shape.clone(), Bytes::copy_from(&bytes))
}
