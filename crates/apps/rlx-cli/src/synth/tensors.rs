//! The tensors of a shape, in the order of the file.

use super::{Llama3Scaling, Shape};

/// What a tensor is for; decides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Embedding,
    Output,
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
    /// Norms, biases, frequencies.
    Vector,
}

/// What a tensor holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    /// Normal, mean 0, standard deviation `1 / sqrt(columns)`.
    Matrix,
    /// Normal around a mean.
    Around { mean: f32, deviation: f32 },
    /// These.
    Exactly(Vec<f32>),
}

#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Row-major, outermost dim first.
    pub(super) shape: Vec<usize>,
    pub(super) role: Role,
    /// Layer that it belongs to; 0 for the others.
    pub(super) layer: usize,
    pub(super) values: Values,
}

impl Tensor {
    fn matrix(name: String, role: Role, layer: usize, rows: usize, columns: usize) -> Tensor {
        Tensor { name, shape: vec![rows, columns], role, layer, values: Values::Matrix }
    }

    fn vector(name: String, layer: usize, len: usize, values: Values) -> Tensor {
        Tensor { name, shape: vec![len], role: Role::Vector, layer, values }
    }

    pub(super) fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

const NORM: Values = Values::Around { mean: 1.0, deviation: 0.1 };
const BIAS: Values = Values::Around { mean: 0.0, deviation: 0.1 };

/// All tensors of a model of this shape.
pub(super) fn of(shape: &Shape) -> Vec<Tensor> {
    let hidden = shape.hidden_size;
    let mut tensors = Vec::new();
    if let Some(scaling) = &shape.rope_scaling {
        let factors = rope_factors(scaling, shape.rope_theta, shape.head_dim);
        tensors.push(Tensor::vector("rope_freqs.weight".into(), 0, factors.len(), Values::Exactly(factors)));
    }
    tensors.push(Tensor::matrix("token_embd.weight".into(), Role::Embedding, 0, shape.vocab_size, hidden));
    for layer in 0..shape.num_hidden_layers {
        push_layer(shape, layer, &mut tensors);
    }
    tensors.push(Tensor::vector("output_norm.weight".into(), 0, hidden, NORM));
    if !shape.tie_word_embeddings {
        tensors.push(Tensor::matrix("output.weight".into(), Role::Output, 0, shape.vocab_size, hidden));
    }
    tensors
}

fn push_layer(shape: &Shape, layer: usize, tensors: &mut Vec<Tensor>) {
    let hidden = shape.hidden_size;
    let intermediate = shape.intermediate_size;
    let queries = shape.num_attention_heads * shape.head_dim;
    let keys = shape.num_key_value_heads * shape.head_dim;
    let qkv_bias = shape.architecture == "qwen2";
    let qk_norm = matches!(shape.architecture, "qwen3" | "gemma3");
    let norms_after = shape.architecture == "gemma3";

    let mut norm =
        |name: &str, len| tensors.push(Tensor::vector(format!("blk.{layer}.{name}.weight"), layer, len, NORM));
    norm("attn_norm", hidden);
    norm("ffn_norm", hidden);
    if qk_norm {
        norm("attn_q_norm", shape.head_dim);
        norm("attn_k_norm", shape.head_dim);
    }
    if norms_after {
        norm("post_attention_norm", hidden);
        norm("post_ffw_norm", hidden);
    }
    let matrices = [
        ("attn_q", Role::Q, queries, hidden),
        ("attn_k", Role::K, keys, hidden),
        ("attn_v", Role::V, keys, hidden),
        ("attn_output", Role::O, hidden, queries),
        ("ffn_gate", Role::Gate, intermediate, hidden),
        ("ffn_up", Role::Up, intermediate, hidden),
        ("ffn_down", Role::Down, hidden, intermediate),
    ];
    for (name, role, rows, columns) in matrices {
        tensors.push(Tensor::matrix(format!("blk.{layer}.{name}.weight"), role, layer, rows, columns));
        if qkv_bias && matches!(role, Role::Q | Role::K | Role::V) {
            tensors.push(Tensor::vector(format!("blk.{layer}.{name}.bias"), layer, rows, BIAS));
        }
    }
}

/// What each rotary frequency is divided by: `head_dim / 2` factors.
fn rope_factors(scaling: &Llama3Scaling, theta: f32, head_dim: usize) -> Vec<f32> {
    let context = scaling.original_max_position_embeddings as f64;
    let (low, high) = (f64::from(scaling.low_freq_factor), f64::from(scaling.high_freq_factor));
    let factor = f64::from(scaling.factor);
    let factor_of = |i: usize| {
        let frequency = f64::from(theta).powf(-2.0 * i as f64 / head_dim as f64);
        let turns = context * frequency / std::f64::consts::TAU;
        // Between the bands the two are blended.
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    (0..head_dim / 2).map(factor_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameter counts as published (embeddings counted once).
    #[test]
    fn parameters_are_those_published() {
        let published = [
            ("smollm2-135m", 134_515_008),
            ("smollm2-360m", 361_821_120),
            ("smollm2-1.7b", 1_711_376_384),
            ("llama-3.2-1b", 1_235_814_400),
            ("llama-3.2-3b", 3_212_749_824),
            ("llama-3.1-8b", 8_030_261_248),
            ("qwen2.5-0.5b", 494_032_768),
            ("qwen2.5-1.5b", 1_543_714_304),
            ("qwen3-0.6b", 596_049_920),
            ("qwen3-1.7b", 1_720_574_976),
            ("qwen3-4b", 4_022_468_096),
            ("qwen3-8b", 8_190_735_360),
            ("gemma3-270m", 268_098_176),
            ("gemma3-1b", 999_885_952),
        ];
        assert_eq!(published.len(), super::super::SHAPES.len());
        for (name, parameters) in published {
            let tensors = of(Shape::named(name).unwrap());
            let weights = tensors.iter().filter(|tensor| tensor.name != "rope_freqs.weight");
            assert_eq!(weights.map(Tensor::elements).sum::<usize>(), parameters, "{name}");
        }
    }

    #[test]
    fn rope_factors_have_three_bands() {
        let scaling = Shape::named("llama-3.2-1b").unwrap().rope_scaling.unwrap();
        let factors = rope_factors(&scaling, 5e5, 64);
        assert_eq!((factors.len(), factors[0], factors[31]), (32, 1.0, 32.0));
        assert!(factors.is_sorted());
        assert!(factors.iter().any(|&f| f > 1.0 && f < 32.0));
    }
}
