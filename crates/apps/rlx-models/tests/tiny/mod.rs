//! A tiny Llama of random weights whose tokens are bytes.

use std::fs;
use std::path::Path;

use rlx_core::testing::TinyModel;
use rlx_core::{CausalLm, DecoderFamily, LoadOptions};
use rlx_llama32::Llama32;
use rlx_weights::{Checkpoint, GgufMetadata, OpenOptions};
use serde_json::json;

/// 256 bytes and four special tokens.
const VOCAB: u32 = 260;

/// Roles in angle brackets, one token per character.
const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}\
     {% if add_generation_prompt %}<assistant>{% endif %}";

/// A directory of its own.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file and gives its path.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The model as a GGUF file.
    pub(crate) fn gguf(&self) -> String {
        self.gguf_of("llama")
    }

    /// The same under another architecture's name.
    pub(crate) fn gguf_of(&self, architecture: &str) -> String {
        let path = self.path(&format!("{architecture}.gguf"));
        tiny().write_gguf(Path::new(&path), metadata(architecture));
        path
    }

    /// The same with another text for a token.
    #[allow(dead_code, reason = "not every test file needs it")]
    pub(crate) fn gguf_with_token(&self, id: usize, text: &str) -> String {
        let path = self.path(&format!("token-{id}.gguf"));
        let mut metadata = metadata("llama");
        let mut tokens = tokens();
        tokens[id] = text.to_owned();
        metadata.set("tokenizer.ggml.tokens", &tokens[..]);
        tiny().write_gguf(Path::new(&path), metadata);
        path
    }

    /// The model, loaded.
    #[allow(dead_code, reason = "not every test file needs it")]
    pub(crate) fn model(&self) -> CausalLm {
        let checkpoint = Checkpoint::open(Path::new(&self.gguf()), &OpenOptions::default()).unwrap();
        CausalLm::load(&checkpoint, &Llama32::FAMILY, &LoadOptions::default()).unwrap()
    }
}

fn tiny() -> TinyModel {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 512,
    });
    TinyModel::new(&Llama32::FAMILY, &config, 42)
}

fn tokens() -> Vec<String> {
    let special = ["<bos>", "<eos>", "<unk>", "<pad>"];
    (0..=255).map(byte_token).chain(special.map(str::to_owned)).collect()
}

fn metadata(architecture: &str) -> GgufMetadata {
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", architecture);
    metadata.set("general.name", "Tiny");
    for (key, value) in [
        ("block_count", 2),
        ("context_length", 512),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ] {
        metadata.set(format!("{architecture}.{key}"), value as u32);
    }
    metadata.set(format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5f32);
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", "gpt-2");
    let tokens = tokens();
    let types: Vec<i32> = vec![1; 256].into_iter().chain([3; 4]).collect();
    metadata.set("tokenizer.ggml.tokens", &tokens[..]);
    metadata.set("tokenizer.ggml.token_type", types);
    metadata.set("tokenizer.ggml.merges", &[""; 0][..]);
    metadata.set("tokenizer.ggml.bos_token_id", 256u32);
    metadata.set("tokenizer.ggml.eos_token_id", 257u32);
    metadata.set("tokenizer.ggml.add_bos_token", false);
    metadata.set("tokenizer.chat_template", TEMPLATE);
    metadata
}

/// The character that stands for a byte in GPT-2's vocabulary: itself if it can be seen, else one from 256 on.
pub(crate) fn byte_token(byte: u8) -> String {
    let visible = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let character = match visible(byte) {
        true => u32::from(byte),
        false => 256 + (0..byte).filter(|&b| !visible(b)).count() as u32,
    };
    char::from_u32(character).unwrap().to_string()
}
