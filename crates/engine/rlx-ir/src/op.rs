//! The ops: each a contract of shapes and mathematics that every backend keeps.
//!
//! Values are f32 activations (or i32 indices), row-major; "rows" are all dims but the last, "width" is the last.
//! Parameters are named by [`ParamId`] and may have any dtype: the dtype picks the kernel.

use crate::{CacheId, ParamId};

/// An elementwise nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`
    GeluTanh,
    /// `0.5 x (1 + erf(x / sqrt 2))`
    GeluErf,
    /// `x * sigmoid(1.702 x)`
    QuickGelu,
    Relu,
    /// `max(x, 0)^2`
    Relu2,
    Sigmoid,
    Tanh,
}

/// An elementwise function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnaryOp {
    /// A nonlinearity.
    Activation(Activation),
    /// `x * factor`.
    Scale(f32),
    /// `cap * tanh(x / cap)`: the logit soft cap of Gemma 2.
    SoftCap(f32),
}

/// An elementwise function of two values of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
}

/// Which elements RoPE turns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// Element `i` with `i + pairs`: GPT-NeoX and Hugging Face.
    HalfSplit,
    /// Element `2i` with `2i + 1`: the original paper, and GGUF files of architecture `llama`.
    Interleaved,
}

/// A normalisation of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019).
    Rms {
        /// `[width]`; none multiplies by one.
        weight: Option<ParamId>,
        /// Added to the mean square.
        eps: f32,
    },
    /// `(x - mean) / sqrt(var + eps) * weight + bias` (Ba et al. 2016).
    Layer {
        /// `[width]`
        weight: Option<ParamId>,
        /// `[width]`
        bias: Option<ParamId>,
        /// Added to the variance.
        eps: f32,
    },
}

/// Scaled dot-product attention of grouped query heads over the tokens of the same sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a query or key head.
    pub head_dim: usize,
    /// Width of a value head.
    pub v_head_dim: usize,
    /// Multiplies q·k.
    pub scale: f32,
    /// Whether a token sees only itself and earlier ones.
    pub causal: bool,
    /// Sliding window: token `i` sees `j` only if `i - j < window`.
    pub window: Option<usize>,
    /// `cap * tanh(score / cap)` on scores before the softmax.
    pub softcap: Option<f32>,
    /// The KV cache that keys and values are appended to and read from; none attends within the batch only.
    pub cache: Option<CacheId>,
}

/// A weight matrix with its optional bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearPart {
    /// `[out, in]`
    pub weight: ParamId,
    /// `[out]`
    pub bias: Option<ParamId>,
}

/// What a fused linear does with its product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Epilogue {
    /// Stores it.
    None,
    /// Adds the last input, of the output's shape (the residual stream).
    Add,
    /// Applies a nonlinearity.
    Activation(Activation),
    /// Two parts, one output: `act(first) * second`.
    Gated(Activation),
}

/// NTK-aware RoPE scaling that follows the sequence's length (Hugging Face `rope_type: dynamic`): beyond `max_positions` the
/// base becomes `theta * (factor * len / max_positions - (factor - 1)) ^ (d / (d - 2))` with `d` twice the number of pairs and
/// `len` one more than the largest position of the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DynamicNtk {
    /// The base.
    pub theta: f32,
    /// The scaling factor.
    pub factor: f32,
    /// The length up to which nothing changes.
    pub max_positions: usize,
}

/// RoPE folded into attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedRope {
    /// Which elements turn together.
    pub style: RopeStyle,
    /// Turned pairs per head; the rest of the head passes through.
    pub pairs: usize,
}

/// RMS norm of each head, folded into attention: `[head_dim]` weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadNorm {
    /// `[head_dim]`
    pub weight: ParamId,
    /// Added to the mean square.
    pub eps: f32,
}

/// How a router's logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouterScore {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
}

/// One expert of a mixture: `down(act(gate(x)) * up(x))`, or `down(act(up(x)))` without a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expert {
    /// `[intermediate, width]`
    pub gate: Option<ParamId>,
    /// `[intermediate, width]`
    pub up: ParamId,
    /// `[width, intermediate]`
    pub down: ParamId,
}

/// A mixture of experts, of which each token takes a few (Shazeer et al. 2017).
///
/// For each token: logits become scores; the `top_k` experts of highest score (plus `choice_bias`) are chosen, of equals the
/// first; their weights are their scores, divided by their sum if `normalise`, times `scale`, times each expert's
/// `expert_scale`. The result is the weighted sum of what the chosen experts make of the token.
///
/// It decomposes into a linear per expert over the rows that chose it, and weighted sums of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct MoeSpec {
    /// All experts, with or without gates, of one shape.
    pub experts: Vec<Expert>,
    /// Experts a token takes.
    pub top_k: usize,
    /// How logits become scores.
    pub score: RouterScore,
    /// `[experts]`: added to scores where experts are chosen, not where they are weighed.
    pub choice_bias: Option<ParamId>,
    /// Whether the chosen weights are made to sum to one.
    pub normalise: bool,
    /// Multiplies all weights.
    pub scale: f32,
    /// `[experts]`: multiplies the weight of each expert.
    pub expert_scale: Option<ParamId>,
    /// Applied to the gate (or to up, without gates).
    pub activation: Activation,
}

/// An operation of the graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A named input: no operands, one value as declared.
    Input,
    /// Rows of a table: ids i32 `[T]` -> `[T, width]`.
    Embedding {
        /// `[entries, width]`
        table: ParamId,
    },
    /// `x W^T + b`: `[.., in]` -> `[.., out]`.
    Linear(LinearPart),
    /// Normalises rows: `[.., width]` -> same. With `group`, each run of `group` elements of a row by itself (heads).
    Norm {
        /// Which.
        norm: Norm,
        /// Elements per normalised run; none is the whole row.
        group: Option<usize>,
    },
    /// Elementwise: same shape.
    Unary(UnaryOp),
    /// Elementwise on two values of one shape.
    Binary(BinaryOp),
    /// `act(gate) * up`: two values of one shape.
    Gated(Activation),
    /// Cosines and sines of RoPE angles: positions i32 `[T]` -> `[T, 2 pairs]` (cosines, then sines), both times `attention_factor`.
    RopeTable {
        /// Inverse frequency per pair, with all scaling applied.
        inv_freq: Vec<f32>,
        /// Recomputes the frequencies for long sequences.
        dynamic: Option<DynamicNtk>,
        /// YaRN's attention factor; 1 otherwise.
        attention_factor: f32,
    },
    /// Turns the first `2 pairs` elements of each head: x `[T, heads * head_dim]`, table `[T, 2 pairs]` -> same as x.
    Rope {
        /// Which elements turn together.
        style: RopeStyle,
        /// Width of a head.
        head_dim: usize,
    },
    /// Attention: q `[T, heads * head_dim]`, k `[T, kv_heads * head_dim]`, v `[T, kv_heads * v_head_dim]`
    /// -> `[T, heads * v_head_dim]`. Which rows form a sequence comes with the batch.
    Attention(AttentionSpec),
    /// Chosen rows: x `[T, width]`, indices i32 `[R]` -> `[R, width]`.
    SelectRows,
    /// Columns `start..start + width` of each row: `[.., n]` -> `[.., width]`.
    Columns {
        /// The first column.
        start: usize,
        /// How many.
        width: usize,
    },
    /// Each row times a parameter, elementwise: `[.., width]` -> same.
    MulParam {
        /// `[width]`, or `[1]` for all elements.
        weight: ParamId,
    },
    /// A mixture of experts: x `[T, width]`, router logits `[T, experts]` -> `[T, width]`.
    Moe(MoeSpec),
    /// Made by rlx-opt. norm(x), then several linears of it in one pass: x (and with [`Epilogue::Add`] the residual) -> one
    /// value per part (one in all with [`Epilogue::Gated`]).
    FusedLinear {
        /// Applied to x first.
        norm: Option<Norm>,
        /// The matrices.
        parts: Vec<LinearPart>,
        /// Applied to the products.
        epilogue: Epilogue,
    },
    /// Made by rlx-opt. Attention with head norms and RoPE on q and k: q, k, v (, table).
    FusedAttention {
        /// The attention itself.
        spec: AttentionSpec,
        /// Norm of each query head.
        q_norm: Option<HeadNorm>,
        /// Norm of each key head.
        k_norm: Option<HeadNorm>,
        /// RoPE after the norms; takes a table input.
        rope: Option<FusedRope>,
    },
}

impl Op {
    /// The op's name in dumps and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input => "input",
            Op::Embedding { .. } => "embedding",
            Op::Linear(_) => "linear",
            Op::Norm { norm: Norm::Rms { .. }, .. } => "rms_norm",
            Op::Norm { norm: Norm::Layer { .. }, .. } => "layer_norm",
            Op::Unary(UnaryOp::Activation(_)) => "activation",
            Op::Unary(UnaryOp::Scale(_)) => "scale",
            Op::Unary(UnaryOp::SoftCap(_)) => "soft_cap",
            Op::Binary(BinaryOp::Add) => "add",
            Op::Binary(BinaryOp::Sub) => "sub",
            Op::Binary(BinaryOp::Mul) => "mul",
            Op::Gated(_) => "gated",
            Op::RopeTable { .. } => "rope_table",
            Op::Rope { .. } => "rope",
            Op::Attention(_) => "attention",
            Op::SelectRows => "select_rows",
            Op::Columns { .. } => "columns",
            Op::MulParam { .. } => "mul_param",
            Op::Moe(_) => "moe",
            Op::FusedLinear { .. } => "fused_linear",
            Op::FusedAttention { .. } => "fused_attention",
        }
    }

    /// Every parameter the op reads.
    pub fn params(&self) -> Vec<ParamId> {
        let norm_params = |norm: &Norm| match *norm {
            Norm::Rms { weight, .. } => vec![weight],
            Norm::Layer { weight, bias, .. } => vec![weight, bias],
        };
        let found: Vec<Option<ParamId>> = match self {
            Op::Embedding { table } => vec![Some(*table)],
            Op::Linear(part) => vec![Some(part.weight), part.bias],
            Op::Norm { norm, .. } => norm_params(norm),
            Op::FusedLinear { norm, parts, .. } => {
                let mut all = norm.as_ref().map_or(vec![], norm_params);
                all.extend(parts.iter().flat_map(|part| [Some(part.weight), part.bias]));
                all
            }
            Op::MulParam { weight } => vec![Some(*weight)],
            Op::Moe(spec) => {
                let experts = spec.experts.iter().flat_map(|e| [e.gate, Some(e.up), Some(e.down)]);
                experts.chain([spec.choice_bias, spec.expert_scale]).collect()
            }
            Op::FusedAttention { q_norm, k_norm, .. } => vec![q_norm.map(|n| n.weight), k_norm.map(|n| n.weight)],
            _ => vec![],
        };
        found.into_iter().flatten().collect()
    }
}
