//! The modules of sentence-transformers: what stands between an encoder and a text's vector.

use rlx_weights::Checkpoint;
use serde_json::Value;

use super::Pooling;
use crate::{CoreError, GgufHeader};

/// Numbers of `pooling_type` in GGUF files: llama.cpp's enum `llama_pooling_type`.
const GGUF_POOLING: [(u32, Pooling); 3] = [(1, Pooling::Mean), (2, Pooling::Cls), (3, Pooling::Last)];

/// What `modules.json` or the metadata of a GGUF file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentenceModules {
    /// How the vectors of a text's tokens become one; none where nothing is said, or the caller has chosen.
    pub pooling: Option<Pooling>,
    /// Whether vectors are scaled to length one.
    pub normalize: bool,
    /// Whether a prompt's tokens are pooled with the text's.
    pub include_prompt: bool,
}

impl SentenceModules {
    /// What the files of `checkpoint` say, whose tokens have vectors of `hidden_size`. With `chosen`, what they say of pooling is not
    /// looked at, be it contradictory.
    ///
    /// # Errors
    /// If a file is no JSON, names a module that is not supported, or contradicts itself.
    pub fn of(
        checkpoint: &Checkpoint,
        hidden_size: usize,
        chosen: Option<Pooling>,
    ) -> Result<SentenceModules, CoreError> {
        const FILE: &str = "modules.json";
        let mut found = SentenceModules { pooling: None, normalize: false, include_prompt: true };
        let Some(json) = checkpoint.sidecar_json(FILE)? else {
            if let Some(metadata) = checkpoint.gguf() {
                found.normalize = true;
                let kind = metadata.get_u32(&metadata.arch_key("pooling_type"));
                found.pooling = match kind {
                    None => Some(Pooling::Mean),
                    Some(_) if chosen.is_some() => None,
                    Some(kind) => {
                        let known = GGUF_POOLING.iter().find(|(number, _)| *number == kind);
                        let none = || {
                            wrong("GGUF metadata", format!("pooling_type {kind} makes no vectors: choose a pooling"))
                        };
                        Some(known.ok_or_else(none)?.1)
                    }
                };
            }
            return Ok(found);
        };
        let list = json.as_array().ok_or_else(|| wrong(FILE, "is no list of modules".into()))?;
        for module in list {
            let class = module["type"].as_str().unwrap_or_default();
            match class.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Normalize" => found.normalize = true,
                "Pooling" => {
                    let folder = module["path"].as_str().unwrap_or("1_Pooling");
                    let file = format!("{folder}/config.json");
                    let json = checkpoint.sidecar_json(&file)?;
                    let json = json.ok_or_else(|| wrong(FILE, format!("names {file}, which is not there")))?;
                    found.read_pooling(&file, &json, hidden_size, chosen)?;
                }
                other => {
                    return Err(wrong(
                        FILE,
                        format!("module `{other}` is not supported (Transformer, Pooling, Normalize)"),
                    ));
                }
            }
        }
        Ok(found)
    }

    fn read_pooling(
        &mut self,
        file: &str,
        json: &Value,
        hidden_size: usize,
        chosen: Option<Pooling>,
    ) -> Result<(), CoreError> {
        const FLAGS: [(&str, Pooling); 5] = [
            ("pooling_mode_cls_token", Pooling::Cls),
            ("pooling_mode_mean_tokens", Pooling::Mean),
            ("pooling_mode_max_tokens", Pooling::Max),
            ("pooling_mode_mean_sqrt_len_tokens", Pooling::MeanSqrtLen),
            ("pooling_mode_lasttoken", Pooling::Last),
        ];
        if let Some(dim) = json["word_embedding_dimension"].as_u64().filter(|&dim| dim != hidden_size as u64) {
            return Err(wrong(
                file,
                format!("word_embedding_dimension = {dim}, but the model's vectors have {hidden_size}"),
            ));
        }
        self.include_prompt = json["include_prompt"].as_bool().unwrap_or(true);
        if chosen.is_some() {
            return Ok(());
        }
        let mut modes: Vec<Pooling> =
            FLAGS.iter().filter(|(flag, _)| json[*flag].as_bool() == Some(true)).map(|&(_, mode)| mode).collect();
        if let Some(mode) = json["pooling_mode"].as_str() {
            modes.push(mode.parse()?);
            modes.dedup();
        }
        if json["pooling_mode_weightedmean_tokens"].as_bool() == Some(true) {
            return Err(wrong(file, "pooling_mode_weightedmean_tokens is not supported: choose a pooling".into()));
        }
        match modes[..] {
            [mode] => self.pooling = Some(mode),
            [] => return Err(wrong(file, "names no pooling mode: choose one".into())),
            _ => {
                let names: Vec<&str> = modes.iter().map(|mode| mode.name()).collect();
                return Err(wrong(file, format!("names several pooling modes ({}): choose one", names.join(", "))));
            }
        }
        Ok(())
    }
}

impl GgufHeader {
    /// How the vectors of `checkpoint` are pooled, where its files say it and the format has a number for it.
    ///
    /// # Errors
    /// As [`SentenceModules::of`].
    pub fn set_pooling(&mut self, checkpoint: &Checkpoint, hidden_size: usize) -> Result<(), CoreError> {
        let pooling = SentenceModules::of(checkpoint, hidden_size, None)?.pooling;
        match pooling.and_then(|pooling| GGUF_POOLING.iter().find(|(_, known)| *known == pooling)) {
            Some(&(number, _)) => self.set("pooling_type", number),
            None if pooling.is_some() => {
                self.notes.push("GGUF files have no word for the model's pooling: it is left out".into())
            }
            None => {}
        }
        Ok(())
    }
}

fn wrong(file: &str, what: String) -> CoreError {
    CoreError::Config(format!("{file}: {what}"))
}
