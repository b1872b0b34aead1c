//! How much memory a language model needs, from its metadata.

use rlx_weights::{Checkpoint, GgufMetadata};
use serde::Serialize;
use serde_json::Value;

/// Bytes per cached number: the KV cache is F16.
const KV_BYTES: u64 = 2;

/// Sequence length for memory figures where none is asked for.
pub(crate) const DEFAULT_CONTEXT: u64 = 4096;

/// What running a checkpoint needs, without the few tens of megabytes of scratch memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// Sequence length in tokens.
    pub context: u64,
    /// The weights as they are in the files.
    pub weights: u64,
    /// KV cache of one sequence of that length; 0 if the metadata does not tell.
    pub kv_cache: u64,
    /// Both together.
    pub total: u64,
}

impl MemoryEstimate {
    /// For one sequence of `context` tokens.
    pub fn new(checkpoint: &Checkpoint, context: u64) -> Self {
        let weights = checkpoint.file_bytes();
        let kv_cache = kv_bytes_per_token(checkpoint).unwrap_or(0).saturating_mul(context);
        MemoryEstimate { context, weights, kv_cache, total: weights.saturating_add(kv_cache) }
    }
}

/// Bytes that each token takes in the KV cache, all layers together; `None` if the metadata does not tell.
pub fn kv_bytes_per_token(checkpoint: &Checkpoint) -> Option<u64> {
    let numbers = match (checkpoint.gguf(), checkpoint.config()) {
        (Some(gguf), _) => from_gguf(gguf),
        (None, Some(config)) => from_config(config),
        (None, None) => None,
    };
    numbers?.checked_mul(KV_BYTES)
}

/// Longest sequence a checkpoint was made for, in tokens.
pub(crate) fn context_length(checkpoint: &Checkpoint) -> Option<u64> {
    if let Some(meta) = checkpoint.gguf() {
        return meta.get_u64(&meta.arch_key("context_length"));
    }
    let config = checkpoint.config()?;
    config.get("text_config").unwrap_or(config).get("max_position_embeddings")?.as_u64()
}

/// Cached numbers per token.
fn from_gguf(meta: &GgufMetadata) -> Option<u64> {
    let get = |suffix: &str| meta.get_u64(&meta.arch_key(suffix));
    let layers = get("block_count")?;
    let heads = get("attention.head_count");
    let head_dim = || get("embedding_length")?.checked_div(heads?);
    let key = get("attention.key_length").or_else(head_dim)?;
    let value = get("attention.value_length").or_else(head_dim)?;
    let kv_key = meta.arch_key("attention.head_count_kv");
    // One number for all layers, or one per layer: 0 where a layer has no attention.
    let all_kv_heads = match meta.get_array(&kv_key) {
        Some(per_layer) => per_layer.to_u32s()?.iter().map(|n| u64::from(*n)).sum(),
        None => meta.get_u64(&kv_key).or(heads)?.checked_mul(layers)?,
    };
    all_kv_heads.checked_mul(key.checked_add(value)?)
}

fn from_config(config: &Value) -> Option<u64> {
    // Models of several parts keep their language model's numbers one level down.
    let config = config.get("text_config").unwrap_or(config);
    let get = |key: &str| config.get(key)?.as_u64();
    let layers = get("num_hidden_layers")?;
    let heads = get("num_attention_heads")?;
    let kv_heads = get("num_key_value_heads").unwrap_or(heads);
    let head_dim = get("head_dim").or_else(|| get("hidden_size")?.checked_div(heads))?;
    layers.checked_mul(kv_heads)?.checked_mul(head_dim)?.checked_mul(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smollm2s_cache() {
        let mut meta = GgufMetadata::default();
        meta.set("general.architecture", "llama");
        for (key, n) in [("block_count", 30), ("embedding_length", 576), ("attention.head_count", 9)] {
            meta.set(format!("llama.{key}"), n as u32);
        }
        meta.set("llama.attention.head_count_kv", 3_u32);
        assert_eq!(from_gguf(&meta), Some(30 * 3 * 128));
        let config = serde_json::json!({ "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9,
            "num_key_value_heads": 3 });
        assert_eq!(from_config(&config), Some(30 * 3 * 128));
        assert_eq!(from_config(&serde_json::json!({ "text_config": config })), Some(30 * 3 * 128));
    }

    #[test]
    fn nonsense_has_no_estimate() {
        let config = serde_json::json!({ "num_hidden_layers": u64::MAX, "num_attention_heads": 0, "hidden_size": 8 });
        assert_eq!(from_config(&config), None);
        let config = serde_json::json!({ "num_hidden_layers": u64::MAX, "num_attention_heads": 9, "head_dim": 8 });
        assert_eq!(from_config(&config), None);
    }
}
