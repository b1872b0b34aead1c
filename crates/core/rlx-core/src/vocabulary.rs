//! The tokenizer that comes with a checkpoint.

use std::path::Path;

use rlx_mem::StringArray;
use rlx_text::{GgufVocab, Tokenizer};
use rlx_weights::gguf::GgufArray;
use rlx_weights::{Checkpoint, GgufMetadata, GgufValue};

use crate::CoreError;

/// The tokenizer of `checkpoint`: the file `explicit` if given (a `tokenizer.json`, a directory with one, or a GGUF file),
/// else the one in its metadata, else `tokenizer.json` beside it. None if there is none.
///
/// # Errors
/// If it cannot be read or is not supported.
pub fn load_tokenizer(checkpoint: &Checkpoint, explicit: Option<&Path>) -> Result<Option<Tokenizer>, CoreError> {
    if let Some(path) = explicit {
        if path.extension().is_some_and(|extension| extension == "gguf") {
            let other = Checkpoint::open(path, &rlx_weights::OpenOptions::default())?;
            return from_metadata(&other);
        }
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        return Ok(Some(Tokenizer::from_file(&file)?));
    }
    if let Some(tokenizer) = from_metadata(checkpoint)? {
        return Ok(Some(tokenizer));
    }
    match checkpoint.sidecar("tokenizer.json") {
        Some(path) => Ok(Some(Tokenizer::from_file(&path)?)),
        None => Ok(None),
    }
}

fn from_metadata(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>, CoreError> {
    let Some(metadata) = checkpoint.gguf() else { return Ok(None) };
    match vocabulary(metadata) {
        Some(vocabulary) => Ok(Some(Tokenizer::from_gguf(&vocabulary)?)),
        None => Ok(None),
    }
}

/// The tokenizer metadata of a GGUF file; none if it has no vocabulary.
fn vocabulary(metadata: &GgufMetadata) -> Option<GgufVocab> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let text = |name: &str| metadata.get_str(&key(name)).map(str::to_string);
    let id = |name: &str| metadata.get_u32(&key(name));
    let flag = |name: &str| metadata.get_bool(&key(name));
    let integers = |name: &str| -> Option<Vec<i64>> { metadata.get_array(&key(name))?.to_i64s() };
    let tokens = metadata.get_strings(&key("tokens"))?.clone();
    Some(GgufVocab {
        model: text("model")?,
        pre: text("pre"),
        tokens,
        scores: metadata.get_array(&key("scores")).and_then(|array| array.to_f32s()),
        token_types: integers("token_type").map(|types| types.into_iter().map(|t| t as i32).collect()),
        merges: metadata.get_strings(&key("merges")).cloned(),
        bos_id: id("bos_token_id").or_else(|| id("cls_token_id")),
        eos_id: id("eos_token_id"),
        eot_id: id("eot_token_id"),
        eom_id: id("eom_token_id"),
        unk_id: id("unknown_token_id"),
        sep_id: id("seperator_token_id"),
        pad_id: id("padding_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
        remove_extra_whitespaces: flag("remove_extra_whitespaces"),
        precompiled_charsmap: integers("precompiled_charsmap").map(|b| b.into_iter().map(|b| b as u8).collect()),
        lowercase: flag("normalizer.lowercase"),
        strip_accents: flag("normalizer.strip_accents"),
        chat_template: metadata.get_str("tokenizer.chat_template").map(str::to_string),
        model_name: metadata.get_str("general.name").map(str::to_string),
    })
}

/// Writes the tokenizer metadata of a GGUF file, which [`load_tokenizer`] reads.
pub fn set_vocabulary(vocab: &GgufVocab, metadata: &mut GgufMetadata) {
    let mut set = |name: &str, value: Option<GgufValue>| {
        if let Some(value) = value {
            metadata.set(format!("tokenizer.ggml.{name}"), value);
        }
    };
    let strings = |texts: &StringArray| GgufValue::Array(GgufArray::String(texts.clone()));
    set("model", Some(vocab.model.as_str().into()));
    set("pre", vocab.pre.as_deref().map(GgufValue::from));
    set("tokens", Some(strings(&vocab.tokens)));
    set("scores", vocab.scores.clone().map(GgufValue::from));
    set("token_type", vocab.token_types.clone().map(GgufValue::from));
    set("merges", vocab.merges.as_ref().map(strings));
    set("bos_token_id", vocab.bos_id.map(GgufValue::from));
    set("eos_token_id", vocab.eos_id.map(GgufValue::from));
    set("eot_token_id", vocab.eot_id.map(GgufValue::from));
    set("eom_token_id", vocab.eom_id.map(GgufValue::from));
    set("unknown_token_id", vocab.unk_id.map(GgufValue::from));
    set("seperator_token_id", vocab.sep_id.map(GgufValue::from));
    set("padding_token_id", vocab.pad_id.map(GgufValue::from));
    set("add_bos_token", vocab.add_bos.map(GgufValue::from));
    set("add_eos_token", vocab.add_eos.map(GgufValue::from));
    set("add_space_prefix", vocab.add_space_prefix.map(GgufValue::from));
    set("normalizer.lowercase", vocab.lowercase.map(GgufValue::from));
    set("normalizer.strip_accents", vocab.strip_accents.map(GgufValue::from));
    if let Some(template) = &vocab.chat_template {
        metadata.set("tokenizer.chat_template", template.as_str());
    }
}
