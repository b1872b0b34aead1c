//! Whether a checkpoint can be run by the families of a program, and if not, why.

use std::path::Path;

use rlx_core::{CoreError, Families};
use rlx_weights::check::{Architectures, Verdict, check};
use rlx_weights::{Checkpoint, OpenOptions, WeightsError};
use serde_json::Value;

use crate::text;

/// Architectures that exist, by their GGUF names and Hugging Face model types. Those that no family takes are known to be
/// unimplemented.
const KNOWN_ARCHITECTURES: &[&str] = &[
    "arctic",
    "baichuan",
    "bailingmoe",
    "bert",
    "bitnet",
    "bloom",
    "chameleon",
    "chatglm",
    "clip",
    "codeshell",
    "cohere",
    "cohere2",
    "command-r",
    "dbrx",
    "deci",
    "deepseek",
    "deepseek2",
    "deepseek_v2",
    "deepseek_v3",
    "dinov2",
    "dots1",
    "dream",
    "ernie4_5",
    "exaone",
    "exaone4",
    "falcon",
    "falcon-h1",
    "falcon_h1",
    "flux",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gemma3n",
    "gemma4",
    "glm4",
    "glm4moe",
    "glm4_moe",
    "gpt-oss",
    "gpt2",
    "gpt_bigcode",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "gptneox",
    "granite",
    "granitehybrid",
    "granitemoe",
    "grok",
    "hunyuan-moe",
    "internlm2",
    "jais",
    "jamba",
    "jina-bert-v2",
    "lfm2",
    "lfm2moe",
    "lfm2_moe",
    "llada",
    "llada2",
    "llama",
    "llama4",
    "mamba",
    "mamba2",
    "mimo2",
    "minicpm",
    "minicpm3",
    "minimax",
    "minimax-m2",
    "minimax_m2",
    "mistral",
    "mixtral",
    "modern-bert",
    "modernbert",
    "mpt",
    "nemotron",
    "nemotron_h",
    "nemotron_h_moe",
    "nomic-bert",
    "nomic-bert-moe",
    "nomic_bert",
    "olmo",
    "olmo2",
    "olmoe",
    "openelm",
    "orion",
    "phi",
    "phi2",
    "phi3",
    "phimoe",
    "plamo",
    "plamo2",
    "plm",
    "qwen",
    "qwen2",
    "qwen2moe",
    "qwen2vl",
    "qwen2_moe",
    "qwen2_5_vl",
    "qwen3",
    "qwen35",
    "qwen35moe",
    "qwen3moe",
    "qwen3next",
    "qwen3vl",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_vl",
    "refact",
    "roberta",
    "rwkv6",
    "rwkv7",
    "sam",
    "sam2",
    "seed_oss",
    "smallthinker",
    "smollm3",
    "stablelm",
    "starcoder",
    "starcoder2",
    "t5",
    "t5encoder",
    "vits",
    "voxtral",
    "wav2vec2-bert",
    "wavtokenizer-dec",
    "whisper",
    "xlm-roberta",
    "xverse",
];

/// Judges the checkpoint at `path`.
///
/// # Errors
/// A broken file is an error, no verdict.
pub fn check_path(path: &Path, options: &OpenOptions, families: &Families) -> Result<Verdict, WeightsError> {
    let supported: Vec<&str> = families
        .iter()
        .flat_map(|family| family.gguf_architectures.iter().chain(family.hf_model_types))
        .copied()
        .collect();
    let known: Vec<(&str, &str)> =
        KNOWN_ARCHITECTURES.iter().filter(|name| !supported.contains(name)).map(|name| (*name, *name)).collect();
    let verdict = check(path, options, &Architectures { supported: &supported, known: &known })?;
    if !matches!(verdict, Verdict::Supported { .. }) {
        return Ok(verdict);
    }
    let checkpoint = Checkpoint::open(path, options)?;
    if let (None, Some(config)) = (checkpoint.gguf(), checkpoint.config()) {
        let keys = missing_in_config(config);
        if !keys.is_empty() {
            return Ok(Verdict::MissingMetadata { keys });
        }
    }
    // The family's own reading of the configuration finds what no list of keys knows.
    let Ok(family) = families.find(&checkpoint) else { return Ok(verdict) };
    Ok(match family.check(&checkpoint) {
        Ok(()) => verdict,
        Err(CoreError::Weights(WeightsError::MissingMetadata { keys })) => Verdict::MissingMetadata { keys },
        Err(error) => Verdict::KnownUnimplemented { what: error.to_string() },
    })
}

/// Judges a repository by its `config.json` alone.
pub fn check_config(config: &Value, families: &Families) -> Verdict {
    let keys = missing_in_config(config);
    let Some(model_type) = config.get("model_type").and_then(Value::as_str) else {
        return Verdict::MissingMetadata { keys };
    };
    let architecture = text::plain(model_type, 80);
    if !families.iter().any(|family| family.hf_model_types.contains(&model_type)) {
        if KNOWN_ARCHITECTURES.contains(&model_type) {
            return Verdict::KnownUnimplemented { what: architecture };
        }
        return Verdict::Unknown { architecture };
    }
    if keys.is_empty() { Verdict::Supported { architecture } } else { Verdict::MissingMetadata { keys } }
}

/// The keys that every text model's configuration has, as far as `config` lacks them.
fn missing_in_config(config: &Value) -> Vec<String> {
    // Models of several parts keep their language model's numbers one level down.
    let inner = config.get("text_config").unwrap_or(config);
    let mut keys = vec!["hidden_size", "num_hidden_layers", "vocab_size"];
    keys.retain(|key| inner.get(*key).is_none());
    if config.get("model_type").and_then(Value::as_str).is_none() {
        keys.insert(0, "model_type");
    }
    keys.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_without_families() {
        let families = Families::new();
        let config = serde_json::json!({ "model_type": "mixtral", "hidden_size": 1 });
        assert_eq!(check_config(&config, &families).to_string(), "KnownUnimplemented(mixtral)");
        let config = serde_json::json!({ "model_type": "zork" });
        assert_eq!(check_config(&config, &families), Verdict::Unknown { architecture: "zork".into() });
        let verdict = check_config(&serde_json::json!({}), &families);
        assert_eq!(verdict.to_string(), "MissingMetadata(model_type, hidden_size, num_hidden_layers, vocab_size)");
    }
}
