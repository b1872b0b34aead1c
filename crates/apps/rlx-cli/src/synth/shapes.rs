//! The sizes of published models, as their `config.json` has them.

use super::Vocab;

/// A model's sizes; fields are named as in `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Name on the command line.
    pub name: &'static str,
    /// Name of the published model.
    pub title: &'static str,
    /// `general.architecture` of its GGUF files: `llama`, `qwen2`, `qwen3` or `gemma3`.
    pub architecture: &'static str,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Llama 3's scaling of the rotary frequencies.
    pub rope_scaling: Option<Llama3Scaling>,
    /// Window of the local attention layers.
    pub sliding_window: Option<usize>,
    /// Epsilon of all norms.
    pub rms_norm_eps: f32,
    /// Whether the output matrix is the embedding table.
    pub tie_word_embeddings: bool,
    /// Kind of vocabulary.
    pub vocab: Vocab,
}

/// `rope_scaling` of type `llama3`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3Scaling {
    /// What low frequencies are divided by.
    pub factor: f32,
    /// Context over wavelength below which a frequency is low.
    pub low_freq_factor: f32,
    /// Context over wavelength above which a frequency is high and stays as it is.
    pub high_freq_factor: f32,
    /// Context length that the model was first trained with.
    pub original_max_position_embeddings: usize,
}

const LLAMA_3_2: Llama3Scaling =
    Llama3Scaling { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings: 8192 };

const QWEN3: Shape = Shape {
    name: "qwen3-0.6b",
    title: "Qwen3 0.6B",
    architecture: "qwen3",
    num_hidden_layers: 28,
    hidden_size: 1024,
    intermediate_size: 3072,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 151_936,
    max_position_embeddings: 40_960,
    rope_theta: 1e6,
    rope_scaling: None,
    sliding_window: None,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: true,
    vocab: Vocab::Qwen,
};

const QWEN2_5: Shape = Shape {
    name: "qwen2.5-0.5b",
    title: "Qwen2.5 0.5B",
    architecture: "qwen2",
    num_hidden_layers: 24,
    hidden_size: 896,
    intermediate_size: 4864,
    num_attention_heads: 14,
    num_key_value_heads: 2,
    head_dim: 64,
    max_position_embeddings: 32_768,
    ..QWEN3
};

const LLAMA_3: Shape = Shape {
    name: "llama-3.2-1b",
    title: "Llama 3.2 1B",
    architecture: "llama",
    num_hidden_layers: 16,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 64,
    vocab_size: 128_256,
    max_position_embeddings: 131_072,
    rope_theta: 5e5,
    rope_scaling: Some(LLAMA_3_2),
    sliding_window: None,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
    vocab: Vocab::Llama3,
};

const SMOLLM2: Shape = Shape {
    name: "smollm2-135m",
    title: "SmolLM2 135M",
    architecture: "llama",
    num_hidden_layers: 30,
    hidden_size: 576,
    intermediate_size: 1536,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    head_dim: 64,
    vocab_size: 49_152,
    max_position_embeddings: 8192,
    rope_theta: 1e5,
    rope_scaling: None,
    sliding_window: None,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
    vocab: Vocab::SmolLm2,
};

const GEMMA3: Shape = Shape {
    name: "gemma3-270m",
    title: "Gemma 3 270M",
    architecture: "gemma3",
    num_hidden_layers: 18,
    hidden_size: 640,
    intermediate_size: 2048,
    num_attention_heads: 4,
    num_key_value_heads: 1,
    head_dim: 256,
    vocab_size: 262_144,
    max_position_embeddings: 32_768,
    rope_theta: 1e6,
    rope_scaling: None,
    sliding_window: Some(512),
    rms_norm_eps: 1e-6,
    tie_word_embeddings: true,
    vocab: Vocab::Gemma,
};

/// The published shapes, smallest first within a family.
pub const SHAPES: &[Shape] = &[
    SMOLLM2,
    Shape {
        name: "smollm2-360m",
        title: "SmolLM2 360M",
        num_hidden_layers: 32,
        hidden_size: 960,
        intermediate_size: 2560,
        num_attention_heads: 15,
        num_key_value_heads: 5,
        ..SMOLLM2
    },
    Shape {
        name: "smollm2-1.7b",
        title: "SmolLM2 1.7B",
        num_hidden_layers: 24,
        hidden_size: 2048,
        intermediate_size: 8192,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        rope_theta: 1.3e5,
        ..SMOLLM2
    },
    LLAMA_3,
    Shape {
        name: "llama-3.2-3b",
        title: "Llama 3.2 3B",
        num_hidden_layers: 28,
        hidden_size: 3072,
        num_attention_heads: 24,
        head_dim: 128,
        ..LLAMA_3
    },
    Shape {
        name: "llama-3.1-8b",
        title: "Llama 3.1 8B",
        num_hidden_layers: 32,
        hidden_size: 4096,
        intermediate_size: 14_336,
        head_dim: 128,
        rope_scaling: Some(Llama3Scaling { factor: 8.0, ..LLAMA_3_2 }),
        tie_word_embeddings: false,
        ..LLAMA_3
    },
    QWEN2_5,
    Shape {
        name: "qwen2.5-1.5b",
        title: "Qwen2.5 1.5B",
        num_hidden_layers: 28,
        hidden_size: 1536,
        intermediate_size: 8960,
        num_attention_heads: 12,
        head_dim: 128,
        ..QWEN2_5
    },
    QWEN3,
    Shape { name: "qwen3-1.7b", title: "Qwen3 1.7B", hidden_size: 2048, intermediate_size: 6144, ..QWEN3 },
    Shape {
        name: "qwen3-4b",
        title: "Qwen3 4B",
        num_hidden_layers: 36,
        hidden_size: 2560,
        intermediate_size: 9728,
        num_attention_heads: 32,
        ..QWEN3
    },
    Shape {
        name: "qwen3-8b",
        title: "Qwen3 8B",
        num_hidden_layers: 36,
        hidden_size: 4096,
        intermediate_size: 12_288,
        num_attention_heads: 32,
        tie_word_embeddings: false,
        ..QWEN3
    },
    GEMMA3,
    Shape {
        name: "gemma3-1b",
        title: "Gemma 3 1B",
        num_hidden_layers: 26,
        hidden_size: 1152,
        intermediate_size: 6912,
        ..GEMMA3
    },
];

impl Shape {
    /// The published shape of this name, in any case.
    pub fn named(name: &str) -> Option<&'static Shape> {
        SHAPES.iter().find(|shape| shape.name.eq_ignore_ascii_case(name))
    }
}
