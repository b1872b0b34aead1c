//! The builder that models write their mathematics with.

use rlx_ir::{
    Activation, AttentionSpec, BinaryOp, Cache, Conv1dSpec, CrossAttentionSpec, CrossKv, CrossKvId, DType, Dim,
    DistanceBias, DistanceTable, Expert, Graph, IrError, LinearPart, MoeSpec, Norm, Op, ParamId, RopeStyle, ScoreBias,
    Shape, UnaryOp, ValueId, Window,
};

use crate::{MoeLayer, NormKind, NormSpec, RopeSpec};

/// A graph that a model description does not make.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FlowError {
    /// An op whose operands do not fit.
    #[error("the model's sizes do not fit together: {0}")]
    Graph(#[from] IrError),
    /// A description that is wrong before any op is built.
    #[error("{0}")]
    Spec(String),
}

/// A value of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor(ValueId);

/// The cosines and sines of one kind of RoPE, shared by the layers that use it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeTable {
    table: Tensor,
    style: RopeStyle,
}

/// A convolution along the rows of each sequence; see [`Conv1dSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv1d {
    /// Channels of the result.
    pub out: usize,
    /// Which rows it sees.
    pub window: Window,
    /// Runs of channels that see only themselves; as many as channels for a depthwise convolution.
    pub groups: usize,
    /// Whether there is a `bias`.
    pub bias: bool,
}

/// What is added to the scores of attention.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Biases<'a> {
    /// By the distance of key and query.
    pub distance: Option<Distances<'a>>,
    /// `[T, 1]`: to all scores of each key; minus infinity hides it.
    pub key: Option<Tensor>,
}

/// Scores by the distance of key and query; see [`DistanceBias`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distances<'a> {
    /// Queries times `name.weight` `[left + right + 1, head_dim]`, with distances clamped to `-left..=right` (Shaw et al. 2018).
    Table {
        /// The table's name.
        name: &'a str,
        /// Most keys to the left that are told apart.
        left: usize,
        /// Most keys to the right that are told apart.
        right: usize,
    },
    /// Queries times projected distances (Dai et al. 2019).
    Projected {
        /// `[D, heads * head_dim]`, ascending, the middle of an odd `D` for distance 0.
        table: Tensor,
        /// Full name of the parameter `[heads, head_dim]` added to queries for keys.
        content: &'a str,
        /// Full name of the parameter `[heads, head_dim]` added to queries for distances.
        position: &'a str,
    },
}

/// Builds a [`Graph`]. Parameter names are the scope plus the name given, as `model.layers.0.` + `mlp.up_proj` + `.weight`.
///
/// The first error is kept and reported by [`Flow::finish`], so that model code reads as mathematics.
#[derive(Debug, Default)]
pub struct Flow {
    graph: Graph,
    scope: String,
    error: Option<FlowError>,
}

impl Flow {
    /// An empty flow.
    pub fn new() -> Flow {
        Flow::default()
    }

    /// Runs `body` with `name.` appended to the scope.
    pub fn scope<R>(&mut self, name: &str, body: impl FnOnce(&mut Flow) -> R) -> R {
        let length = self.scope.len();
        self.scope.push_str(name);
        self.scope.push('.');
        let result = body(self);
        self.scope.truncate(length);
        result
    }

    /// The graph, or the first error.
    pub fn finish(self) -> Result<Graph, FlowError> {
        match self.error {
            Some(error) => Err(error),
            None => {
                self.graph.verify()?;
                Ok(self.graph)
            }
        }
    }

    /// Declares an I32 input `[symbol]`.
    pub fn index_input(&mut self, name: &str, symbol: &str) -> Tensor {
        let symbol = self.graph.symbol(symbol);
        Tensor(self.graph.input(name, DType::I32, Shape::new([symbol.into()])))
    }

    /// Declares an F32 input `[symbol, width]`.
    pub fn rows_input(&mut self, name: &str, symbol: &str, width: usize) -> Tensor {
        let symbol = self.graph.symbol(symbol);
        Tensor(self.graph.input(name, DType::F32, Shape::rows(symbol, width)))
    }

    /// Declares an I32 input with an index for each row of `x`, whose number may follow from a convolution's.
    pub fn index_input_of(&mut self, name: &str, x: Tensor) -> Tensor {
        let outer = self.outer(x);
        Tensor(self.graph.input(name, DType::I32, Shape::new(outer)))
    }

    /// Declares an F32 input with a row of `width` for each row of `x`, whose number may follow from a convolution's.
    pub fn rows_input_of(&mut self, name: &str, x: Tensor, width: usize) -> Tensor {
        let dims = self.outer(x).into_iter().chain([width.into()]);
        Tensor(self.graph.input(name, DType::F32, Shape::new(dims)))
    }

    /// Names a value as an output of the graph.
    pub fn output(&mut self, name: &str, x: Tensor) {
        self.graph.output(name, x.0);
    }

    /// Declares a KV cache for an attention layer.
    pub fn cache(&mut self, cache: Cache) -> rlx_ir::CacheId {
        self.graph.cache(cache)
    }

    /// Rows of the table `name.weight` `[entries, width]`.
    pub fn embedding(&mut self, ids: Tensor, name: &str, entries: usize, width: usize) -> Tensor {
        let table = self.param(name, "weight", &[entries, width]);
        self.push(Op::Embedding { table }, &[ids], name)
    }

    /// `x W^T (+ b)` with `name.weight` `[out, in]` and `name.bias` `[out]`.
    pub fn linear(&mut self, x: Tensor, name: &str, out: usize, bias: bool) -> Tensor {
        let width = self.width(x);
        let weight = self.param(name, "weight", &[out, width]);
        let bias = bias.then(|| self.param(name, "bias", &[out]));
        self.push(Op::Linear(LinearPart { weight, bias }), &[x], name)
    }

    /// A convolution along the rows of each sequence, with `name.weight` `[out, in / groups, taps]` and `name.bias` `[out]`.
    pub fn conv1d(&mut self, x: Tensor, name: &str, conv: Conv1d) -> Tensor {
        let Conv1d { out, window, groups, bias } = conv;
        let width = self.width(x);
        if groups == 0 || !width.is_multiple_of(groups) {
            self.fail(FlowError::Spec(format!("{name}: {width} channels in {groups} groups")));
            return x;
        }
        let weight = self.param(name, "weight", &[out, width / groups, window.taps]);
        let bias = bias.then(|| self.param(name, "bias", &[out]));
        let dims = self.graph.values().get(x.0.index()).map(|value| value.shape.dims());
        if let Some(&[Dim::Symbolic { symbol, .. }, _]) = dims
            && let Err(error) = self.graph.windowed(symbol, window)
        {
            self.fail(error.into());
        }
        self.push(Op::Conv1d(Conv1dSpec { weight, bias, window, groups, activation: None }), &[x], name)
    }

    /// A convolution that sees one row, which is a linear of it: `name.weight` `[out, in, 1]` and `name.bias` `[out]`.
    pub fn pointwise_conv1d(&mut self, x: Tensor, name: &str, out: usize, bias: bool) -> Tensor {
        let width = self.width(x);
        let weight = self.param(name, "weight", &[out, width, 1]);
        let bias = bias.then(|| self.param(name, "bias", &[out]));
        self.push(Op::Linear(LinearPart { weight, bias }), &[x], name)
    }

    /// `x W^T (+ b)` with parameters of the full names in scope `weight` `[out, in]` (a tied table, say) and `bias` `[out]`.
    pub fn linear_by(&mut self, x: Tensor, weight: &str, bias: Option<&str>, out: usize) -> Tensor {
        let width = self.width(x);
        let part = LinearPart {
            weight: self.named_param(weight, &[out, width]),
            bias: bias.map(|bias| self.named_param(bias, &[out])),
        };
        self.push(Op::Linear(part), &[x], weight)
    }

    /// Normalises rows with `name.weight` (and `name.bias`).
    pub fn norm(&mut self, spec: &NormSpec, x: Tensor, name: &str) -> Tensor {
        let width = self.width(x);
        self.norm_runs(spec, x, name, width, None)
    }

    /// Normalises each head (each run of `head_dim` elements of a row) with `name.weight` `[head_dim]`.
    pub fn head_norm(&mut self, spec: &NormSpec, x: Tensor, name: &str, head_dim: usize) -> Tensor {
        self.norm_runs(spec, x, name, head_dim, Some(head_dim))
    }

    /// RMSNorm of each run of `group` elements of a row, without a weight.
    pub fn rms_norm_plain(&mut self, x: Tensor, eps: f32, group: usize) -> Tensor {
        self.push(Op::Norm { norm: Norm::Rms { weight: None, eps }, group: Some(group) }, &[x], "norm")
    }

    /// RMSNorm of rows by the parameter of the full name `name` in scope, `[width]`.
    pub fn rms_norm_by(&mut self, x: Tensor, name: &str, eps: f32) -> Tensor {
        let width = self.width(x);
        let weight = Some(self.named_param(name, &[width]));
        self.push(Op::Norm { norm: Norm::Rms { weight, eps }, group: None }, &[x], name)
    }

    fn norm_runs(&mut self, spec: &NormSpec, x: Tensor, name: &str, width: usize, group: Option<usize>) -> Tensor {
        let weight = Some(self.param(name, "weight", &[width]));
        let norm = match spec.kind {
            NormKind::Rms => Norm::Rms { weight, eps: spec.eps },
            NormKind::Layer { bias } => {
                let bias = bias.then(|| self.param(name, "bias", &[width]));
                Norm::Layer { weight, bias, eps: spec.eps }
            }
        };
        self.push(Op::Norm { norm, group }, &[x], name)
    }

    /// The RoPE table of `spec` at `positions` `[T]`.
    pub fn rope_table(&mut self, spec: &RopeSpec, positions: Tensor) -> RopeTable {
        let op = Op::RopeTable {
            inv_freq: spec.inv_freq.clone(),
            dynamic: spec.dynamic,
            attention_factor: spec.attention_factor,
        };
        RopeTable { table: self.push(op, &[positions], "rope"), style: spec.style }
    }

    /// Turns the heads of `x` by `rope`.
    pub fn rope(&mut self, x: Tensor, rope: &RopeTable, head_dim: usize) -> Tensor {
        self.push(Op::Rope { style: rope.style, head_dim }, &[x, rope.table], "rope")
    }

    /// Scaled dot-product attention.
    pub fn attention(&mut self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor {
        self.push(Op::Attention(spec), &[q, k, v], "attention")
    }

    /// Declares one layer of the cross KV cache.
    pub fn cross_kv(&mut self, kv: CrossKv) -> CrossKvId {
        self.graph.cross_kv(kv)
    }

    /// Keeps keys and values for the cross-attention of another graph.
    pub fn store_cross_kv(&mut self, k: Tensor, v: Tensor, layer: CrossKvId) {
        self.push_all(Op::StoreCrossKv(layer), &[k, v], "store_cross_kv");
    }

    /// Attention to the keys and values that an encoder left.
    pub fn cross_attention(&mut self, q: Tensor, spec: CrossAttentionSpec) -> Tensor {
        self.push(Op::CrossAttention(spec), &[q], "cross_attention")
    }

    /// What the tokens `rows` `[A]` attend to in `chosen` heads of a cross-attention.
    pub fn cross_weights(&mut self, q: Tensor, rows: Tensor, spec: CrossAttentionSpec, chosen: Vec<usize>) -> Tensor {
        self.push(Op::CrossWeights { spec, chosen }, &[q, rows], "cross_weights")
    }

    /// Attention within the batch with something added to its scores; `table` for [`DistanceTable::Operand`], `key` with a bias of
    /// keys.
    pub fn biased_attention(&mut self, qkv: [Tensor; 3], spec: AttentionSpec, bias: Biases<'_>) -> Tensor {
        let Biases { distance, key } = bias;
        let mut operands = qkv.to_vec();
        if distance.is_none() && key.is_none() {
            return self.push(Op::Attention(spec), &operands, "attention");
        }
        let distance = distance.map(|distance| {
            let by_head = [spec.heads, spec.head_dim];
            match distance {
                Distances::Table { name, left, right } => {
                    let rows = left.saturating_add(right).saturating_add(1);
                    let table = self.param(name, "weight", &[rows, spec.head_dim]);
                    DistanceBias { table: DistanceTable::Param { table, left }, content: None, position: None }
                }
                Distances::Projected { table, content, position } => {
                    operands.push(table);
                    let content = Some(self.named_param(content, &by_head));
                    let position = Some(self.named_param(position, &by_head));
                    DistanceBias { table: DistanceTable::Operand, content, position }
                }
            }
        });
        operands.extend(key);
        let bias = ScoreBias { distance, key: key.is_some() };
        self.push(Op::BiasedAttention { spec, bias }, &operands, "attention")
    }

    /// `act(x)`.
    pub fn activation(&mut self, x: Tensor, activation: Activation) -> Tensor {
        self.push(Op::Unary(UnaryOp::Activation(activation)), &[x], "act")
    }

    /// `x * factor`.
    pub fn scale(&mut self, x: Tensor, factor: f32) -> Tensor {
        self.push(Op::Unary(UnaryOp::Scale(factor)), &[x], "scale")
    }

    /// `cap * tanh(x / cap)`.
    pub fn soft_cap(&mut self, x: Tensor, cap: f32) -> Tensor {
        self.push(Op::Unary(UnaryOp::SoftCap(cap)), &[x], "soft_cap")
    }

    /// `a + b`.
    pub fn add(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.push(Op::Binary(BinaryOp::Add), &[a, b], "add")
    }

    /// `a * b`, elementwise.
    pub fn mul(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.push(Op::Binary(BinaryOp::Mul), &[a, b], "mul")
    }

    /// `act(gate) * up`, elementwise.
    pub fn gated(&mut self, gate: Tensor, up: Tensor, activation: Activation) -> Tensor {
        self.push(Op::Gated(activation), &[gate, up], "gated")
    }

    /// The rows of `x` named by the indices `rows` `[R]`.
    pub fn select_rows(&mut self, x: Tensor, rows: Tensor) -> Tensor {
        self.push(Op::SelectRows, &[x, rows], "select_rows")
    }

    /// Columns `start..start + width` of each row.
    pub fn columns(&mut self, x: Tensor, start: usize, width: usize) -> Tensor {
        self.push(Op::Columns { start, width }, &[x], "columns")
    }

    /// Each row times the parameter of the full name `name` in scope, `[size]`: as wide as the row, or one number for all.
    pub fn mul_param(&mut self, x: Tensor, name: &str, size: usize) -> Tensor {
        let weight = self.named_param(name, &[size]);
        self.push(Op::MulParam { weight }, &[x], name)
    }

    /// A mixture of experts on rows `x`, routed by `logits` `[T, experts]`; each expert has the matrices
    /// `experts.{e}.gate_proj.weight`, `up_proj`, `down_proj`.
    pub fn moe(&mut self, x: Tensor, logits: Tensor, layer: &MoeLayer) -> Tensor {
        let (width, inner) = (self.width(x), layer.intermediate_size);
        let experts = (0..layer.experts).map(|expert| Expert {
            gate: Some(self.param(&format!("experts.{expert}.gate_proj"), "weight", &[inner, width])),
            up: self.param(&format!("experts.{expert}.up_proj"), "weight", &[inner, width]),
            down: self.param(&format!("experts.{expert}.down_proj"), "weight", &[width, inner]),
        });
        let experts = experts.collect();
        let expert_scale = layer.expert_scale.map(|name| self.named_param(name, &[layer.experts]));
        let spec = MoeSpec {
            experts,
            top_k: layer.top_k,
            score: layer.score,
            choice_bias: None,
            normalise: layer.normalise,
            scale: 1.0,
            expert_scale,
            activation: layer.activation,
        };
        self.push(Op::Moe(spec), &[x, logits], "experts")
    }

    fn param(&mut self, name: &str, kind: &str, shape: &[usize]) -> ParamId {
        self.named_param(&format!("{name}.{kind}"), shape)
    }

    fn named_param(&mut self, name: &str, shape: &[usize]) -> ParamId {
        let full = format!("{}{name}", self.scope);
        self.graph.param(&full, shape).unwrap_or_else(|error| {
            self.fail(error.into());
            ParamId(u32::MAX)
        })
    }

    fn push(&mut self, op: Op, inputs: &[Tensor], name: &str) -> Tensor {
        // With an error kept, nothing is built any more, and the id is never looked at.
        Tensor(self.push_all(op, inputs, name).first().copied().unwrap_or(ValueId(u32::MAX)))
    }

    fn push_all(&mut self, op: Op, inputs: &[Tensor], name: &str) -> Vec<ValueId> {
        if self.error.is_none() {
            let label = format!("{}{name}", self.scope);
            let ids: Vec<ValueId> = inputs.iter().map(|tensor| tensor.0).collect();
            match self.graph.push(op, &ids, &label) {
                Ok(outputs) => return outputs,
                Err(error) => self.fail(error.into()),
            }
        }
        vec![]
    }

    /// Keeps the first error.
    pub(crate) fn fail(&mut self, error: FlowError) {
        self.error.get_or_insert(error);
    }

    fn outer(&self, x: Tensor) -> Vec<Dim> {
        self.graph.values().get(x.0.index()).map(|value| value.shape.outer().to_vec()).unwrap_or_default()
    }

    fn width(&self, x: Tensor) -> usize {
        self.graph.values().get(x.0.index()).and_then(|value| value.shape.width()).unwrap_or(0)
    }
}
