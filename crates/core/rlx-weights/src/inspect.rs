//! What a checkpoint is, for people and for machines: everything here serialises.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rlx_ir::DType;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::map_file;
use crate::gguf::{GgufArray, GgufMetadata, GgufValue};
use crate::locate::{GgufListing, list_gguf};
use crate::mtp::{mtp_tensors, speaks_of_mtp};
use crate::{Checkpoint, Format, OpenOptions, WeightsError, quant_tag};

/// Items of a long array that are shown.
const FIRST: usize = 8;
/// Longest string shown whole, in characters.
const LONG: usize = 256;

/// What [`inspect`] finds.
#[derive(Clone, Debug, Serialize)]
pub struct InspectReport {
    /// The path given.
    pub path: PathBuf,
    /// `gguf`, `safetensors` or the name of a custom format.
    pub format: String,
    /// `general.architecture` or `model_type`.
    pub architecture: Option<String>,
    /// `general.name`, if the file has one.
    pub name: Option<String>,
    /// Quantisation tag of a GGUF file.
    pub quant: Option<String>,
    /// The files that hold the tensors.
    pub files: Vec<PathBuf>,
    /// Their size.
    pub file_bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of elements of all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Per element type, the largest share first.
    pub dtypes: Vec<DtypeShare>,
    /// GGUF metadata, or `config.json`; long arrays and strings cut short.
    pub metadata: Value,
    /// The tokenizer inside the file or beside it.
    pub tokenizer: Option<TokenizerInfo>,
    /// Whether a chat template is inside the file or beside it.
    pub chat_template: bool,
    /// Multi-token-prediction heads, if there are any.
    pub mtp: Option<MtpInfo>,
    /// Parts of a split checkpoint.
    pub split: Option<SplitInfo>,
    /// The GGUF models of the directory, if a directory was given and holds any.
    pub directory: Vec<GgufListing>,
}

/// Share of one element type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DtypeShare {
    /// Name of the type, `Q4_K` say.
    pub dtype: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenizerInfo {
    /// Where it is: `gguf` or the name of a file beside the weights.
    pub source: String,
    /// Its kind as that source calls it: `gpt2`, `llama`, `bert`; `BPE`, `Unigram`, `WordPiece`.
    pub kind: Option<String>,
    /// Pre-tokenizer of a GGUF tokenizer.
    pub pre: Option<String>,
    /// Number of tokens.
    pub vocab_size: Option<usize>,
}

/// Multi-token-prediction heads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MtpInfo {
    /// Metadata keys that speak of them.
    pub keys: Vec<String>,
    /// Number of tensors that belong to them.
    pub tensors: usize,
    /// Their elements, which are among those of the report.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first few of these tensors.
    pub first: Vec<String>,
}

/// Parts of a split checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitInfo {
    /// Number of parts.
    pub parts: usize,
    /// Parts that are not there.
    pub missing: Vec<PathBuf>,
}

/// Reports on the checkpoint at `path`; parts of a split one may be missing.
///
/// # Errors
/// As [`Checkpoint::open`], except for missing parts.
pub fn inspect(path: &Path, options: &OpenOptions) -> Result<InspectReport, WeightsError> {
    let options = OpenOptions { allow_missing_parts: true, ..options.clone() };
    let checkpoint = Checkpoint::open(path, &options)?;
    let directory = if path.is_dir() { list_gguf(path)? } else { Vec::new() };
    Ok(report(&checkpoint, directory))
}

fn report(checkpoint: &Checkpoint, directory: Vec<GgufListing>) -> InspectReport {
    let mut shares: BTreeMap<DType, DtypeShare> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        let share = shares.entry(tensor.dtype).or_insert_with(|| DtypeShare {
            dtype: tensor.dtype.name().to_owned(),
            tensors: 0,
            parameters: 0,
            bytes: 0,
        });
        share.tensors += 1;
        share.parameters += tensor.element_count() as u64;
        share.bytes += tensor.data.len() as u64;
    }
    let mut dtypes: Vec<DtypeShare> = shares.into_values().collect();
    dtypes.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    let parts = checkpoint.files().len() + checkpoint.missing_parts().len();
    InspectReport {
        path: checkpoint.path().to_path_buf(),
        format: checkpoint.format().to_string(),
        architecture: checkpoint.architecture().map(str::to_owned),
        name: checkpoint.gguf().and_then(|meta| meta.get_str("general.name")).map(shorten),
        quant: quant_of(checkpoint).map(str::to_owned),
        files: checkpoint.files().to_vec(),
        file_bytes: checkpoint.file_bytes(),
        tensors: checkpoint.tensors().len(),
        parameters: dtypes.iter().map(|share| share.parameters).sum(),
        tensor_bytes: dtypes.iter().map(|share| share.bytes).sum(),
        dtypes,
        metadata: match (checkpoint.gguf(), checkpoint.config()) {
            (Some(meta), _) => gguf_json(meta),
            (None, Some(config)) => shorten_json(config),
            (None, None) => Value::Null,
        },
        tokenizer: tokenizer_of(checkpoint),
        chat_template: has_chat_template(checkpoint),
        mtp: mtp_of(checkpoint),
        split: (parts > 1).then(|| SplitInfo { parts, missing: checkpoint.missing_parts().to_vec() }),
        directory,
    }
}

fn quant_of(checkpoint: &Checkpoint) -> Option<&'static str> {
    let meta = checkpoint.gguf().filter(|_| checkpoint.format() == &Format::Gguf)?;
    let id = meta.get_u32("general.file_type");
    id.and_then(quant_tag::from_file_type).or_else(|| quant_tag::from_name(checkpoint.files().first()?))
}

fn tokenizer_of(checkpoint: &Checkpoint) -> Option<TokenizerInfo> {
    if let Some(meta) = checkpoint.gguf() {
        let kind = meta.get_str("tokenizer.ggml.model")?;
        return Some(TokenizerInfo {
            source: "gguf".to_owned(),
            kind: Some(shorten(kind)),
            pre: meta.get_str("tokenizer.ggml.pre").map(shorten),
            vocab_size: meta.get_array("tokenizer.ggml.tokens").map(GgufArray::len),
        });
    }
    if let Some(path) = checkpoint.sidecar("tokenizer.json") {
        let parsed = map_file(&path).ok().and_then(|bytes| serde_json::from_slice::<TokenizerJson>(&bytes).ok());
        return Some(TokenizerInfo {
            source: "tokenizer.json".to_owned(),
            kind: parsed.as_ref().and_then(|tokenizer| tokenizer.model.kind.as_deref().map(shorten)),
            pre: None,
            vocab_size: parsed.map(|tokenizer| tokenizer.vocab_size()),
        });
    }
    let others = [("tokenizer.model", "sentencepiece"), ("vocab.json", "BPE"), ("vocab.txt", "WordPiece")];
    let (source, kind) = others.into_iter().find(|(name, _)| checkpoint.sidecar(name).is_some())?;
    Some(TokenizerInfo { source: source.to_owned(), kind: Some(kind.to_owned()), pre: None, vocab_size: None })
}

fn has_chat_template(checkpoint: &Checkpoint) -> bool {
    if let Some(meta) = checkpoint.gguf() {
        return meta.contains("tokenizer.chat_template");
    }
    let in_config = || {
        let config = checkpoint.sidecar_json("tokenizer_config.json").ok().flatten();
        config.is_some_and(|config| config.get("chat_template").is_some_and(|template| !template.is_null()))
    };
    ["chat_template.jinja", "chat_template.json"].iter().any(|name| checkpoint.sidecar(name).is_some()) || in_config()
}

fn mtp_of(checkpoint: &Checkpoint) -> Option<MtpInfo> {
    let mut keys: Vec<String> = Vec::new();
    if let Some(meta) = checkpoint.gguf() {
        let nonzero = |value: &GgufValue| value.as_i64() != Some(0);
        keys.extend(meta.iter().filter(|(key, v)| speaks_of_mtp(key) && nonzero(v)).map(|(key, _)| key.to_owned()));
    }
    let config = checkpoint.config().and_then(Value::as_object);
    // Multimodal models keep the language model's fields in an object of its own.
    let nested = config.and_then(|config| config.get("text_config")).and_then(Value::as_object);
    for (key, value) in config.into_iter().chain(nested).flatten() {
        if speaks_of_mtp(key) && value.as_i64() != Some(0) && !value.is_null() {
            keys.push(key.clone());
        }
    }
    let names = mtp_tensors(checkpoint);
    if names.is_empty() && keys.is_empty() {
        return None;
    }
    let tensors = || names.iter().filter_map(|name| checkpoint.tensor(name));
    Some(MtpInfo {
        keys,
        tensors: names.len(),
        parameters: tensors().map(|tensor| tensor.element_count() as u64).sum(),
        bytes: tensors().map(|tensor| tensor.data.len() as u64).sum(),
        first: names.iter().take(FIRST).map(|&name| name.to_owned()).collect(),
    })
}

/// Metadata as JSON. A long array becomes `{"type", "length", "first"}`.
fn gguf_json(meta: &GgufMetadata) -> Value {
    Value::Object(meta.iter().map(|(key, value)| (key.to_owned(), value_json(value))).collect())
}

fn value_json(value: &GgufValue) -> Value {
    match value {
        GgufValue::Bool(v) => json!(v),
        GgufValue::String(text) => json!(shorten(text)),
        GgufValue::Array(array) => {
            let items = |count: usize| -> Vec<Value> {
                (0..count).filter_map(|i| array.get(i)).map(|item| value_json(&item)).collect()
            };
            if array.len() <= 2 * FIRST {
                return Value::Array(items(array.len()));
            }
            json!({ "type": array.element_type(), "length": array.len(), "first": items(FIRST) })
        }
        // The shortest decimal that is this f32, not the f64 next to it; infinities have no JSON number.
        GgufValue::F32(v) => {
            v.to_string().parse::<f64>().ok().filter(|v| v.is_finite()).map_or(json!(v.to_string()), |v| json!(v))
        }
        GgufValue::F64(v) if !v.is_finite() => json!(v.to_string()),
        GgufValue::F64(v) => json!(v),
        _ => value.as_u64().map_or_else(|| json!(value.as_i64()), |v| json!(v)),
    }
}

fn shorten_json(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(shorten(text)),
        Value::Array(items) if items.len() > 2 * FIRST => {
            let first: Vec<Value> = items.iter().take(FIRST).map(shorten_json).collect();
            json!({ "length": items.len(), "first": first })
        }
        Value::Array(items) => items.iter().map(shorten_json).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(key, v)| (key.clone(), shorten_json(v))).collect()),
        other => other.clone(),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        Some((cut, _)) => format!("{}... ({} bytes)", &text[..cut], text.len()),
        None => text.to_owned(),
    }
}

/// The parts of `tokenizer.json` that are counted; the rest is skipped without being stored.
#[derive(Deserialize)]
struct TokenizerJson {
    model: TokenizerModel,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct TokenizerModel {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: Count,
}

#[derive(Deserialize)]
struct AddedToken {
    id: usize,
}

impl TokenizerJson {
    fn vocab_size(&self) -> usize {
        let own = self.model.vocab.0;
        own + self.added_tokens.iter().filter(|token| token.id >= own).count()
    }
}

/// Number of entries of a map or list.
#[derive(Default)]
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
        struct CountVisitor;
        impl<'de> Visitor<'de> for CountVisitor {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map or a list")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}
