//! The ops: each a contract of shapes and mathematics that every backend keeps.
//!
//! Values are f32 activations (or i32 indices), row-major; "rows" are all dims but the last, "width" is the last.
//! Parameters are named by [`ParamId`] and may have any dtype: the dtype picks the kernel.

use crate::{CacheId, CrossAttentionSpec, CrossKvId, ParamId, Window};

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

impl AttentionSpec {
    /// Attention of each token to all of its sequence in the batch, scores over `sqrt(head_dim)`: that of encoders.
    pub fn bidirectional(heads: usize, head_dim: usize) -> AttentionSpec {
        AttentionSpec {
            heads,
            kv_heads: heads,
            head_dim,
            v_head_dim: head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            causal: false,
            window: None,
            softcap: None,
            cache: None,
        }
    }
}

/// What is added to the scores of attention before the softmax.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScoreBias {
    /// By the distance of key and query.
    pub distance: Option<DistanceBias>,
    /// Whether the last operand, F32 `[T, 1]`, is added to all scores of each key; minus infinity hides the key.
    pub key: bool,
}

/// Queries score as `scale * ((q + content) · k + (q + position) · table[distance])`, where the distance of key `j` from query `i`
/// is `j - i`, clamped to those of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistanceBias {
    /// The vectors of distances.
    pub table: DistanceTable,
    /// `[heads, head_dim]`, the bias u of Transformer-XL (Dai et al. 2019); none is zero.
    pub content: Option<ParamId>,
    /// `[heads, head_dim]`, the bias v of Transformer-XL; none is zero.
    pub position: Option<ParamId>,
}

/// The vectors of distances, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistanceTable {
    /// A parameter for all heads (Shaw et al. 2018).
    Param {
        /// `[left + right + 1, head_dim]`
        table: ParamId,
        /// The first is distance `-left`.
        left: usize,
    },
    /// An operand, F32 `[D, heads * head_dim]` with an odd `D`, the middle of which is distance 0.
    Operand,
}

/// A weight matrix with its optional bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearPart {
    /// `[out, in]`, or `[out, in, 1]`: a convolution of one tap.
    pub weight: ParamId,
    /// `[out]`
    pub bias: Option<ParamId>,
}

/// A convolution along the rows of each sequence, which never reaches into another sequence.
///
/// Row `t` of the result is `act(bias + sum over taps j: W[:, :, j] x[t * stride - left + j * dilation])`, where rows outside the
/// sequence are zero (the cross-correlation that frameworks call convolution). With groups, the channels are cut into as
/// many equal runs, of which each sees only itself. It decomposes into a linear over gathered rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv1dSpec {
    /// `[out channels, in channels / groups, taps]`
    pub weight: ParamId,
    /// `[out channels]`
    pub bias: Option<ParamId>,
    /// Which rows it sees.
    pub window: Window,
    /// Divides both numbers of channels; with one channel each it is depthwise.
    pub groups: usize,
    /// Applied to the sums; set by rlx-opt.
    pub activation: Option<Activation>,
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
    /// Keeps keys and values: k `[S, kv_heads * k_dim]`, v `[S, kv_heads * v_dim]` -> nothing. The rows of each sequence become the
    /// rows of its entry of the cross KV cache.
    StoreCrossKv(CrossKvId),
    /// Attention to what [`Op::StoreCrossKv`] kept: q `[T, heads * k_dim]` -> `[T, heads * v_dim]`.
    CrossAttention(CrossAttentionSpec),
    /// What tokens attend to: q `[T, heads * k_dim]`, indices of tokens i32 `[A]` -> `[A, chosen * rows]`, for each chosen head the
    /// softmax of the scores that [`Op::CrossAttention`] has, 0 beyond the rows of the entry.
    CrossWeights {
        /// The attention.
        spec: CrossAttentionSpec,
        /// Its heads that are wanted.
        chosen: Vec<usize>,
    },
    /// Attention within the batch with something added to its scores: q, k, v (, table) (, key bias). As many key/value heads as
    /// heads.
    BiasedAttention {
        /// The attention itself; neither a cache nor a soft cap.
        spec: AttentionSpec,
        /// What is added.
        bias: ScoreBias,
    },
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
    /// A convolution along the rows of each sequence: x `[T, in channels]` -> `[T', out channels]`, where `T'` is the symbol that
    /// [`Graph::windowed`](crate::Graph::windowed) gives for `T` and the window.
    Conv1d(Conv1dSpec),
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
            Op::StoreCrossKv(_) => "store_cross_kv",
            Op::CrossAttention(_) => "cross_attention",
            Op::CrossWeights { .. } => "cross_weights",
            Op::BiasedAttention { .. } => "biased_attention",
            Op::SelectRows => "select_rows",
            Op::Columns { .. } => "columns",
            Op::MulParam { .. } => "mul_param",
            Op::Moe(_) => "moe",
            Op::Conv1d(_) => "conv1d",
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
            Op::Conv1d(spec) => vec![Some(spec.weight), spec.bias],
            Op::Moe(spec) => {
                let experts = spec.experts.iter().flat_map(|e| [e.gate, Some(e.up), Some(e.down)]);
                experts.chain([spec.choice_bias, spec.expert_scale]).collect()
            }
            Op::BiasedAttention { bias: ScoreBias { distance: Some(distance), .. }, .. } => {
                let table = match distance.table {
                    DistanceTable::Param { table, .. } => Some(table),
                    DistanceTable::Operand => None,
                };
                vec![table, distance.content, distance.position]
            }
            Op::FusedAttention { q_norm, k_norm, .. } => vec![q_norm.map(|n| n.weight), k_norm.map(|n| n.weight)],
            _ => vec![],
        };
        found.into_iter().flatten().collect()
    }

    /// What one token takes of `all`, a sum over [`Op::params`]: of a table it is looked up in next to nothing, of experts those
    /// that it chooses.
    pub fn per_token(&self, all: usize) -> usize {
        match self {
            Op::Embedding { .. } => 0,
            Op::Moe(spec) => all / spec.experts.len().max(1) * spec.top_k,
            _ => all,
        }
    }
}
