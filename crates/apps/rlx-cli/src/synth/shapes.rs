//! The sizes of published models, as their `config.json` has them.

use super::Vocab;

/// A model's sizes; fields are named as in `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Name on the command line.
    pub name: &'static str,
    /// Name of the published model.
    pub title: &'static str,
    /// `general.architecture` of its GGUF files: `llama`, `qwen2`, `qwen3`, `qwen3moe`, `gemma`, `gemma2`, `gemma3` or `gemma4`.
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
    /// Width of a head; in a Gemma 4 of those with a window.
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
    /// Mixture of experts: instead of the feed-forward, in a Gemma 4 beside it.
    pub moe: Option<Moe>,
    /// What a Gemma 4 has besides.
    pub gemma4: Option<Gemma4>,
}

/// A mixture of experts in every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moe {
    /// Experts of a layer.
    pub num_experts: usize,
    /// Experts that a token takes.
    pub num_experts_per_tok: usize,
    /// Width of an expert.
    pub moe_intermediate_size: usize,
}

/// What layers of a Gemma 4 differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gemma4 {
    /// Of every this many layers the last sees everything, the others a window; the model's last layer sees everything.
    pub sliding_window_pattern: usize,
    /// Width of a head of layers that see everything.
    pub global_head_dim: usize,
    /// Key/value heads of layers that see everything.
    pub num_global_key_value_heads: usize,
    /// Whether layers that see everything take the keys' projection for values.
    pub attention_k_eq_v: bool,
    /// Layers at the end that see the keys and values of earlier ones. Their own projections are in the published files all
    /// the same, and are not used.
    pub num_kv_shared_layers: usize,
    /// Whether those have feed-forwards of twice the width.
    pub use_double_wide_mlp: bool,
    /// Width of what each layer adds of a token by itself; 0 for none.
    pub hidden_size_per_layer_input: usize,
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
    moe: None,
    gemma4: None,
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
    moe: None,
    gemma4: None,
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
    moe: None,
    gemma4: None,
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
    moe: None,
    gemma4: None,
};

const GEMMA2: Shape = Shape {
    name: "gemma2-2b",
    title: "Gemma 2 2B",
    architecture: "gemma2",
    num_hidden_layers: 26,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    vocab_size: 256_000,
    max_position_embeddings: 8192,
    rope_theta: 1e4,
    sliding_window: Some(4096),
    ..GEMMA3
};

const GEMMA4_E2B: Shape = Shape {
    name: "gemma4-e2b",
    title: "Gemma 4 E2B",
    architecture: "gemma4",
    num_hidden_layers: 35,
    hidden_size: 1536,
    intermediate_size: 6144,
    num_attention_heads: 8,
    num_key_value_heads: 1,
    max_position_embeddings: 131_072,
    vocab: Vocab::Gemma4,
    gemma4: Some(Gemma4 {
        sliding_window_pattern: 5,
        global_head_dim: 512,
        num_global_key_value_heads: 1,
        attention_k_eq_v: false,
        num_kv_shared_layers: 20,
        use_double_wide_mlp: true,
        hidden_size_per_layer_input: 256,
    }),
    ..GEMMA3
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
    Shape {
        name: "minicpm5-1b",
        title: "MiniCPM5 1B",
        num_hidden_layers: 24,
        hidden_size: 1536,
        intermediate_size: 4608,
        num_attention_heads: 16,
        num_key_value_heads: 2,
        head_dim: 128,
        vocab_size: 130_560,
        rope_theta: 5e6,
        rope_scaling: None,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: false,
        vocab: Vocab::MiniCpm5,
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
    Shape {
        name: "qwen3-30b-a3b",
        title: "Qwen3 30B-A3B",
        architecture: "qwen3moe",
        num_hidden_layers: 48,
        hidden_size: 2048,
        intermediate_size: 6144,
        num_attention_heads: 32,
        num_key_value_heads: 4,
        tie_word_embeddings: false,
        moe: Some(Moe { num_experts: 128, num_experts_per_tok: 8, moe_intermediate_size: 768 }),
        ..QWEN3
    },
    Shape {
        name: "gemma-2b",
        title: "Gemma 2B",
        architecture: "gemma",
        hidden_size: 2048,
        intermediate_size: 16_384,
        num_hidden_layers: 18,
        num_key_value_heads: 1,
        sliding_window: None,
        ..GEMMA2
    },
    GEMMA2,
    GEMMA3,
    Shape {
        name: "gemma3-1b",
        title: "Gemma 3 1B",
        num_hidden_layers: 26,
        hidden_size: 1152,
        intermediate_size: 6912,
        ..GEMMA3
    },
    GEMMA4_E2B,
    Shape {
        name: "gemma4-26b-a4b",
        title: "Gemma 4 26B-A4B",
        num_hidden_layers: 30,
        hidden_size: 2816,
        intermediate_size: 2112,
        num_attention_heads: 16,
        num_key_value_heads: 8,
        max_position_embeddings: 262_144,
        sliding_window: Some(1024),
        moe: Some(Moe { num_experts: 128, num_experts_per_tok: 8, moe_intermediate_size: 704 }),
        gemma4: Some(Gemma4 {
            sliding_window_pattern: 6,
            global_head_dim: 512,
            num_global_key_value_heads: 2,
            attention_k_eq_v: true,
            num_kv_shared_layers: 0,
            use_double_wide_mlp: false,
            hidden_size_per_layer_input: 0,
        }),
        ..GEMMA4_E2B
    },
];

impl Shape {
    /// The published shape of this name, in any case.
    pub fn named(name: &str) -> Option<&'static Shape> {
        SHAPES.iter().find(|shape| shape.name.eq_ignore_ascii_case(name))
    }

    /// The first `layers` layers of this shape, at least one and at most all.
    pub fn with_layers(&self, layers: usize) -> Shape {
        let layers = layers.clamp(1, self.num_hidden_layers);
        let left_out = self.num_hidden_layers - layers;
        let gemma4 = self.gemma4.map(|gemma4| Gemma4 {
            num_kv_shared_layers: gemma4.num_kv_shared_layers.saturating_sub(left_out),
            ..gemma4
        });
        Shape { num_hidden_layers: layers, gemma4, ..self.clone() }
    }

    /// This architecture with few and small layers, for tests: rows are no multiples of 256, windows shorter than a text.
    pub fn tiny(&self) -> Shape {
        let tiny = Shape {
            num_hidden_layers: 3,
            hidden_size: 96,
            intermediate_size: 256 + 32,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 64,
            vocab_size: 700,
            sliding_window: self.sliding_window.map(|_| 6),
            moe: self.moe.map(|_| Moe { num_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 160 }),
            ..self.clone()
        };
        // Two layers that have keys and values, and two that may see theirs.
        let gemma4 = |gemma4: Gemma4| Shape {
            num_hidden_layers: 4,
            gemma4: Some(Gemma4 {
                sliding_window_pattern: 2,
                global_head_dim: 96,
                num_global_key_value_heads: if gemma4.attention_k_eq_v { 1 } else { 2 },
                num_kv_shared_layers: gemma4.num_kv_shared_layers.min(2),
                hidden_size_per_layer_input: gemma4.hidden_size_per_layer_input.min(32),
                ..gemma4
            }),
            ..tiny.clone()
        };
        self.gemma4.map_or_else(|| tiny.clone(), gemma4)
    }

    /// Each layer's sizes.
    pub(super) fn layers(&self) -> impl Iterator<Item = Layer> {
        let of_all = Layer {
            sliding: self.sliding_window.is_some(),
            head_dim: self.head_dim,
            num_key_value_heads: self.num_key_value_heads,
            intermediate_size: self.intermediate_size,
            has_values: true,
        };
        (0..self.num_hidden_layers).map(move |index| self.gemma4.map_or(of_all, |g| g.layer(of_all, index, self)))
    }
}

/// Sizes that differ from layer to layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    /// Whether it has the window.
    pub(super) sliding: bool,
    pub(super) head_dim: usize,
    pub(super) num_key_value_heads: usize,
    pub(super) intermediate_size: usize,
    /// Whether values have a projection of their own.
    pub(super) has_values: bool,
}

impl Gemma4 {
    /// Layer number `index` of `shape`, which is `of_all` but for what differs.
    fn layer(&self, of_all: Layer, index: usize, shape: &Shape) -> Layer {
        let layers = shape.num_hidden_layers;
        let mut layer = of_all;
        if (index + 1).is_multiple_of(self.sliding_window_pattern) || index + 1 == layers {
            layer.sliding = false;
            layer.head_dim = self.global_head_dim;
            layer.num_key_value_heads = self.num_global_key_value_heads;
            layer.has_values = !self.attention_k_eq_v;
        }
        if self.use_double_wide_mlp && index + self.num_kv_shared_layers >= layers {
            layer.intermediate_size *= 2;
        }
        layer
    }
}
