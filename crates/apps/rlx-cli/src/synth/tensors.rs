//! The tensors of a shape, in the order of the file.

use super::shapes::{Layer, Llama3Scaling, Moe, Shape};

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
    pub(super) values: Values,
}

impl Tensor {
    fn matrix(name: String, rows: usize, columns: usize) -> Tensor {
        Tensor { name, shape: vec![rows, columns], values: Values::Matrix }
    }

    fn vector(name: String, len: usize, values: Values) -> Tensor {
        Tensor { name, shape: vec![len], values }
    }

    pub(super) fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A matrix that the quantiser keeps as it is.
pub(super) const PER_LAYER_MODEL_PROJ: &str = "per_layer_model_proj.weight";

const NORM: Values = Values::Around { mean: 1.0, deviation: 0.1 };
const BIAS: Values = Values::Around { mean: 0.0, deviation: 0.1 };

/// All tensors of a model of this shape.
pub(super) fn of(shape: &Shape) -> Vec<Tensor> {
    let hidden = shape.hidden_size;
    let mut tensors = Vec::new();
    if let Some(scaling) = &shape.rope_scaling {
        let factors = rope_factors(scaling, shape.rope_theta, shape.head_dim);
        tensors.push(Tensor::vector("rope_freqs.weight".into(), factors.len(), Values::Exactly(factors)));
    }
    if let Some(gemma4) = &shape.gemma4 {
        let factors = proportional_factors(gemma4.global_head_dim);
        tensors.push(Tensor::vector("rope_freqs.weight".into(), factors.len(), Values::Exactly(factors)));
    }
    tensors.push(Tensor::matrix("token_embd.weight".into(), shape.vocab_size, hidden));
    let per_layer = shape.gemma4.map_or(0, |gemma4| gemma4.hidden_size_per_layer_input);
    let of_layers = per_layer * shape.num_hidden_layers;
    if per_layer > 0 {
        tensors.push(Tensor::matrix("per_layer_token_embd.weight".into(), shape.vocab_size, of_layers));
    }
    for (index, layer) in shape.layers().enumerate() {
        push_norms(shape, &layer, index, &mut tensors);
        push_matrices(shape, &layer, index, &mut tensors);
    }
    tensors.push(Tensor::vector("output_norm.weight".into(), hidden, NORM));
    if per_layer > 0 {
        tensors.push(Tensor::matrix(PER_LAYER_MODEL_PROJ.into(), of_layers, hidden));
        tensors.push(Tensor::vector("per_layer_proj_norm.weight".into(), per_layer, NORM));
    }
    if !shape.tie_word_embeddings {
        tensors.push(Tensor::matrix("output.weight".into(), shape.vocab_size, hidden));
    }
    tensors
}

/// The vectors of a layer, but for biases.
fn push_norms(shape: &Shape, layer: &Layer, index: usize, tensors: &mut Vec<Tensor>) {
    let hidden = shape.hidden_size;
    let mut push = |name: &str, len| tensors.push(Tensor::vector(format!("blk.{index}.{name}"), len, NORM));
    push("attn_norm.weight", hidden);
    push("ffn_norm.weight", hidden);
    if matches!(shape.architecture, "qwen3" | "qwen3moe" | "gemma3" | "gemma4") {
        push("attn_q_norm.weight", layer.head_dim);
        push("attn_k_norm.weight", layer.head_dim);
    }
    if matches!(shape.architecture, "gemma2" | "gemma3" | "gemma4") {
        push("post_attention_norm.weight", hidden);
        push("post_ffw_norm.weight", hidden);
    }
    let Some(gemma4) = &shape.gemma4 else { return };
    push("layer_output_scale.weight", 1);
    if gemma4.hidden_size_per_layer_input > 0 {
        push("post_norm.weight", hidden);
    }
    if let Some(moe) = &shape.moe {
        for name in ["post_ffw_norm_1.weight", "post_ffw_norm_2.weight", "pre_ffw_norm_2.weight", "ffn_gate_inp.scale"]
        {
            push(name, hidden);
        }
        push("ffn_down_exps.scale", moe.num_experts);
    }
}

/// The matrices of a layer, and their biases.
fn push_matrices(shape: &Shape, layer: &Layer, index: usize, tensors: &mut Vec<Tensor>) {
    let hidden = shape.hidden_size;
    let queries = shape.num_attention_heads * layer.head_dim;
    let keys = layer.num_key_value_heads * layer.head_dim;
    let qkv_bias = shape.architecture == "qwen2";
    let mut matrices = vec![("attn_q", queries, hidden), ("attn_k", keys, hidden)];
    if layer.has_values {
        matrices.push(("attn_v", keys, hidden));
    }
    matrices.push(("attn_output", hidden, queries));
    // A Gemma 4 has its feed-forward beside the experts.
    if shape.moe.is_none() || shape.gemma4.is_some() {
        let inner = layer.intermediate_size;
        matrices.extend([("ffn_gate", inner, hidden), ("ffn_up", inner, hidden), ("ffn_down", hidden, inner)]);
    }
    if let Some(gemma4) = shape.gemma4.filter(|gemma4| gemma4.hidden_size_per_layer_input > 0) {
        let per_layer = gemma4.hidden_size_per_layer_input;
        matrices.extend([("inp_gate", per_layer, hidden), ("proj", hidden, per_layer)]);
    }
    for (name, rows, columns) in matrices {
        tensors.push(Tensor::matrix(format!("blk.{index}.{name}.weight"), rows, columns));
        if qkv_bias && matches!(name, "attn_q" | "attn_k" | "attn_v") {
            tensors.push(Tensor::vector(format!("blk.{index}.{name}.bias"), rows, BIAS));
        }
    }
    if let Some(moe) = &shape.moe {
        push_experts(shape, moe, index, tensors);
    }
}

/// The router and the experts of a layer.
fn push_experts(shape: &Shape, moe: &Moe, index: usize, tensors: &mut Vec<Tensor>) {
    let (hidden, inner) = (shape.hidden_size, moe.moe_intermediate_size);
    tensors.push(Tensor::matrix(format!("blk.{index}.ffn_gate_inp.weight"), moe.num_experts, hidden));
    // Files of Gemma 4 have gate and up in one.
    let first: &[(&str, usize)] = match shape.gemma4 {
        Some(_) => &[("ffn_gate_up_exps", 2 * inner)],
        None => &[("ffn_gate_exps", inner), ("ffn_up_exps", inner)],
    };
    let matrices = first.iter().map(|&(name, rows)| (name, rows, hidden)).chain([("ffn_down_exps", hidden, inner)]);
    tensors.extend(matrices.map(|(name, rows, columns)| Tensor {
        name: format!("blk.{index}.{name}.weight"),
        shape: vec![moe.num_experts, rows, columns],
        values: Values::Matrix,
    }));
}

/// What llama.cpp's converter divides the frequencies of Gemma 4's proportional RoPE by: a quarter turns, the rest stands
/// still.
fn proportional_factors(head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2).map(|i| if i < head_dim / 8 { 1.0 } else { 1e30 }).collect()
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
            ("minicpm5-1b", 1_080_632_832),
            ("qwen2.5-0.5b", 494_032_768),
            ("qwen2.5-1.5b", 1_543_714_304),
            ("qwen3-0.6b", 596_049_920),
            ("qwen3-1.7b", 1_720_574_976),
            ("qwen3-4b", 4_022_468_096),
            ("qwen3-8b", 8_190_735_360),
            ("qwen3-30b-a3b", 30_532_122_624),
            ("gemma-2b", 2_506_172_416),
            ("gemma2-2b", 2_614_341_888),
            ("gemma3-270m", 268_098_176),
            ("gemma3-1b", 999_885_952),
            // The language models alone.
            ("gemma4-e2b", 4_647_449_891),
            ("gemma4-26b-a4b", 25_233_141_790),
        ];
        assert_eq!(published.len(), super::super::SHAPES.len());
        for (name, parameters) in published {
            let tensors = of(Shape::named(name).unwrap());
            let weights = tensors.iter().filter(|tensor| tensor.name != "rope_freqs.weight");
            assert_eq!(weights.map(Tensor::elements).sum::<usize>(), parameters, "{name}");
        }
    }

    /// What the model cards say of sparse models: in billions, of experts those that a token takes, of tables by layer none.
    #[test]
    fn active_parameters_are_those_published() {
        for (name, billions) in [("qwen3-30b-a3b", 3.3), ("gemma4-e2b", 2.3), ("gemma4-26b-a4b", 3.8)] {
            let shape = Shape::named(name).unwrap();
            let active = of(shape).into_iter().map(|tensor| match shape.moe {
                _ if tensor.name == "per_layer_token_embd.weight" => 0,
                Some(moe) if tensor.name.ends_with("_exps.weight") => {
                    tensor.elements() / moe.num_experts * moe.num_experts_per_tok
                }
                _ => tensor.elements(),
            });
            let active = active.sum::<usize>() as f64 / 1e9;
            // Qwen's card cuts digits off, Gemma's rounds.
            assert!((active - billions).abs() < 0.06, "{name}: {active}");
        }
    }

    /// As many as llama.cpp lists for published files.
    #[test]
    fn sparse_models_have_the_tensors_of_published_files() {
        for (name, tensors) in [("qwen3-30b-a3b", 579), ("gemma4-e2b", 601), ("gemma4-26b-a4b", 658)] {
            assert_eq!(of(Shape::named(name).unwrap()).len(), tensors, "{name}");
        }
    }

    #[test]
    fn layers_of_gemma4_differ_as_published() {
        let widths = |name: &str| -> Vec<(usize, usize)> {
            Shape::named(name).unwrap().layers().map(|layer| (layer.head_dim, layer.intermediate_size)).collect()
        };
        let e2b = widths("gemma4-e2b");
        let global: Vec<usize> = (0..35).filter(|&i| e2b[i].0 == 512).collect();
        assert_eq!(global, [4, 9, 14, 19, 24, 29, 34]);
        assert!((0..35).all(|i| e2b[i].1 == if i < 15 { 6144 } else { 12_288 }));
        let of_26b = widths("gemma4-26b-a4b");
        let global: Vec<usize> = (0..30).filter(|&i| of_26b[i].0 == 512).collect();
        assert_eq!(global, [5, 11, 17, 23, 29]);
    }

    #[test]
    fn fewer_layers_are_the_first_ones() {
        let e2b = Shape::named("gemma4-e2b").unwrap();
        let shared = |layers| e2b.with_layers(layers).gemma4.unwrap().num_kv_shared_layers;
        assert_eq!([0, 1, 15, 16, 35, 99].map(shared), [0, 0, 0, 1, 20, 20]);
        // The last sees everything, whichever it is.
        let last = e2b.with_layers(17).layers().last().unwrap();
        assert_eq!((last.sliding, last.head_dim, last.intermediate_size), (false, 512, 12_288));
        assert_eq!(e2b.with_layers(0).num_hidden_layers, 1);
    }

    #[test]
    fn proportional_rope_turns_a_quarter() {
        let factors = proportional_factors(512);
        assert_eq!((factors.len(), factors.iter().filter(|&&factor| factor == 1.0).count()), (256, 64));
        assert!(factors[64..].iter().all(|&factor| factor == 1e30));
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
