//! How a checkpoint says that its vectors are made.
//!
//! `modules.json` lists the modules of a sentence-transformers model; `1_Pooling/config.json`, `sentence_bert_config.json` and
//! `config_sentence_transformers.json` hold their settings. GGUF files have `pooling_type`.

use std::collections::BTreeMap;

use rlx_core::HfConfig;
use rlx_core::encoder::{Pooling, SentenceModules};
use rlx_weights::Checkpoint;

use crate::EmbedError;

/// How vectors are made of the encoder's output.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedSettings {
    /// How the vectors of a text's tokens become one.
    pub pooling: Pooling,
    /// Whether vectors are scaled to length one.
    pub normalize: bool,
    /// Longest text in tokens, with those that the model expects around it; none leaves it to the model.
    pub max_length: Option<usize>,
    /// What is put before texts, by name: `query` -> `query: `.
    pub prompts: BTreeMap<String, String>,
    /// Name of the prompt of texts that are given without.
    pub default_prompt: Option<String>,
    /// Whether the prompt's tokens are pooled with the text's.
    pub include_prompt: bool,
    /// Whether texts are made lower case before anything else.
    pub lowercase: bool,
}

impl EmbedSettings {
    /// The settings of a checkpoint. `pooling` and `normalize` overrule what the files say of it, or make up for their
    /// contradictions. Without any files: mean pooling, not normalised, as sentence-transformers has it; GGUF files are normalised, as
    /// llama.cpp has it.
    ///
    /// # Errors
    /// If a file is no JSON, names a module that is not supported, or contradicts itself.
    pub fn of(
        checkpoint: &Checkpoint,
        hidden_size: usize,
        pooling: Option<Pooling>,
        normalize: Option<bool>,
    ) -> Result<EmbedSettings, EmbedError> {
        let modules = SentenceModules::of(checkpoint, hidden_size, pooling)?;
        let mut settings = EmbedSettings {
            pooling: pooling.or(modules.pooling).unwrap_or_default(),
            normalize: normalize.unwrap_or(modules.normalize),
            max_length: None,
            prompts: BTreeMap::new(),
            default_prompt: None,
            include_prompt: modules.include_prompt,
            lowercase: false,
        };
        settings.read_transformer(checkpoint)?;
        settings.read_prompts(checkpoint)?;
        Ok(settings)
    }

    fn read_transformer(&mut self, checkpoint: &Checkpoint) -> Result<(), EmbedError> {
        const FILE: &str = "sentence_bert_config.json";
        if let Some(json) = checkpoint.sidecar_json(FILE)? {
            let config = HfConfig::new(&json);
            self.max_length = config.usize("max_seq_length").map_err(|e| wrong(FILE, e.to_string()))?;
            self.lowercase = config.bool("do_lower_case").map_err(|e| wrong(FILE, e.to_string()))?.unwrap_or(false);
        }
        if self.max_length.is_none()
            && let Some(json) = checkpoint.sidecar_json("tokenizer_config.json")?
        {
            // Huge numbers stand for no limit.
            self.max_length = json["model_max_length"].as_u64().and_then(|n| u32::try_from(n).ok()).map(|n| n as usize);
        }
        Ok(())
    }

    fn read_prompts(&mut self, checkpoint: &Checkpoint) -> Result<(), EmbedError> {
        const FILE: &str = "config_sentence_transformers.json";
        let Some(json) = checkpoint.sidecar_json(FILE)? else { return Ok(()) };
        for (name, prompt) in json["prompts"].as_object().into_iter().flatten() {
            let Some(prompt) = prompt.as_str() else {
                return Err(wrong(FILE, format!("prompt `{name}` is {prompt}, not a string")));
            };
            self.prompts.insert(name.clone(), prompt.to_string());
        }
        if let Some(name) = json["default_prompt_name"].as_str() {
            if !self.prompts.contains_key(name) {
                return Err(wrong(FILE, format!("default_prompt_name `{name}` is none of its prompts")));
            }
            self.default_prompt = Some(name.to_string());
        }
        Ok(())
    }
}

fn wrong(file: &str, what: String) -> EmbedError {
    EmbedError::Settings { file: file.to_string(), what }
}
