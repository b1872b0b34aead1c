//! The steps of a run: each node of the graph with the memory it reads and writes.

use rlx_ir::{
    Activation, BinaryOp, DistanceTable, DynamicNtk, Epilogue as GraphEpilogue, Node, Norm, Op, RopeStyle, UnaryOp,
    ValueId,
};
use rlx_opt::MemoryPlan;

use super::CpuProgram;
use super::cross::CrossSpans;
use super::program::{Weight, WeightData};
use super::spans::SpanTable;
use crate::attention::{
    self, AttentionArgs, CrossWeightsArgs, DistanceBias, HeadNorm, KvLayerView, ScoreBias, SeqSpan, StoreArgs,
};
use crate::conv::{self, ConvArgs, Slides};
use crate::linear::{self, Epilogue, Layout, LinearArgs, LinearPart, LinearShape, PackedMatrix, Prologue};
use crate::moe::{self, ExpertArgs, MoeArgs, RouterArgs};
use crate::rows::{self, Operand};
use crate::{Isa, RowsIn, RowsOut, SharedSlice, ThreadCtx, WorkCounter};

/// The values' memory during a run.
#[derive(Clone, Copy)]
pub(super) struct Arena<'a> {
    plan: &'a MemoryPlan,
    memory: SharedSlice<'a, f32>,
}

impl<'a> Arena<'a> {
    pub(super) fn new(plan: &'a MemoryPlan, memory: SharedSlice<'a, f32>) -> Arena<'a> {
        assert!(plan.arena_bytes <= memory.len() * 4, "the arena is made for its plan");
        Arena { plan, memory }
    }

    fn out(&self, value: ValueId) -> SharedSlice<'a, f32> {
        let (start, len) = (self.plan.offsets[value.index()] / 4, self.plan.elements[value.index()]);
        assert!(start + len <= self.memory.len());
        // SAFETY: in bounds; the plan gives live values disjoint places, and a step writes only its own results.
        unsafe { SharedSlice::from_raw(self.memory.as_mut_ptr().add(start), len) }
    }

    fn read(&self, value: ValueId) -> &'a [f32] {
        // SAFETY: read by steps after the one that writes it, which a barrier separates.
        unsafe { self.out(value).all() }
    }

    fn read_indices(&self, value: ValueId) -> &'a [i32] {
        bytemuck::cast_slice(self.read(value))
    }

    fn rows(&self, value: ValueId) -> usize {
        self.plan.rows[value.index()]
    }

    fn width(&self, value: ValueId) -> usize {
        self.plan.elements[value.index()].checked_div(self.rows(value)).unwrap_or(0)
    }

    fn rows_in(&self, value: ValueId) -> RowsIn<'a> {
        RowsIn { data: self.read(value), stride: self.width(value) }
    }

    fn rows_out(&self, value: ValueId) -> RowsOut<'a> {
        RowsOut { data: self.out(value), stride: self.width(value) }
    }

    fn size(&self, value: ValueId) -> Size {
        Size { rows: self.rows(value), width: self.width(value) }
    }
}

/// Rows and width of a value.
#[derive(Clone, Copy)]
pub(super) struct Size {
    rows: usize,
    width: usize,
}

/// A step with everything its kernel needs; the same for all threads.
pub(super) enum Kernel<'a> {
    /// An input: it is in place before the run.
    Nothing,
    Linear(LinearStep<'a>),
    Lookup {
        table: Table<'a>,
        ids: &'a [i32],
        out: RowsOut<'a>,
        width: usize,
    },
    Norm {
        norm: NormStep<'a>,
        group: usize,
        x: RowsIn<'a>,
        out: RowsOut<'a>,
        size: Size,
    },
    Unary {
        op: UnaryOp,
        x: RowsIn<'a>,
        out: RowsOut<'a>,
        size: Size,
    },
    Binary {
        op: BinaryOp,
        a: RowsIn<'a>,
        b: RowsIn<'a>,
        out: RowsOut<'a>,
        size: Size,
    },
    Gated {
        activation: Activation,
        gate: RowsIn<'a>,
        up: RowsIn<'a>,
        out: RowsOut<'a>,
        size: Size,
    },
    RopeTable {
        positions: &'a [i32],
        inv_freq: Vec<f32>,
        factor: f32,
        out: SharedSlice<'a, f32>,
    },
    Rope {
        style: RopeStyle,
        head_dim: usize,
        x: RowsIn<'a>,
        table: RowsIn<'a>,
        out: RowsOut<'a>,
        size: Size,
    },
    Attention(Box<AttentionArgs<'a>>),
    StoreKv(StoreArgs<'a>),
    CrossWeights(Box<CrossWeightsArgs<'a>>),
    Moe(Box<MoeArgs<'a>>),
    Conv1d(Box<ConvArgs<'a>>),
    Columns {
        x: RowsIn<'a>,
        start: usize,
        out: RowsOut<'a>,
        size: Size,
    },
    MulParam {
        x: RowsIn<'a>,
        weight: &'a [f32],
        out: RowsOut<'a>,
        size: Size,
    },
    SelectRows {
        x: RowsIn<'a>,
        rows: usize,
        indices: &'a [i32],
        out: RowsOut<'a>,
        width: usize,
    },
}

/// Where rows are looked up.
#[derive(Clone, Copy)]
pub(super) enum Table<'a> {
    Packed(&'a PackedMatrix),
    File(&'a WeightData),
}

#[derive(Clone, Copy)]
pub(super) enum NormStep<'a> {
    Rms { weight: Option<&'a [f32]>, eps: f32 },
    Layer { weight: Option<&'a [f32]>, bias: Option<&'a [f32]>, eps: f32 },
}

pub(super) struct LinearStep<'a> {
    rows: usize,
    x: RowsIn<'a>,
    prologue: Prologue<'a>,
    parts: Vec<LinearPart<'a>>,
    epilogue: Epilogue<'a>,
    x_layout: Layout,
    out_layout: Layout,
    precision: linear::Precision,
}

/// Makes steps of nodes.
pub(super) struct Builder<'a> {
    pub(super) program: &'a CpuProgram,
    pub(super) arena: Arena<'a>,
    pub(super) spans: &'a SpanTable<'a>,
    pub(super) caches: &'a [KvLayerView<'a>],
    pub(super) cross: &'a CrossSpans<'a>,
    pub(super) cross_caches: &'a [KvLayerView<'a>],
}

impl<'a> Builder<'a> {
    pub(super) fn build(&self, node: &'a Node) -> Kernel<'a> {
        let arena = self.arena;
        let input = |i: usize| arena.rows_in(node.inputs[i]);
        if let Op::StoreCrossKv(id) = node.op {
            let (cache, spans) = (&self.cross_caches[id.index()], self.cross_spans(node, true));
            return Kernel::StoreKv(StoreArgs { k: input(0), v: input(1), spans, cache });
        }
        let out = arena.rows_out(node.outputs[0]);
        let size = arena.size(node.outputs[0]);
        match &node.op {
            Op::Input => Kernel::Nothing,
            Op::Embedding { table } => Kernel::Lookup {
                table: match &self.program.weights[table.index()] {
                    Weight::Matrix(matrix) => Table::Packed(matrix),
                    Weight::Table(data) => Table::File(data),
                    Weight::Vector(_) | Weight::Conv(_) => {
                        unreachable!("an embedding's table is only used as a matrix")
                    }
                },
                ids: arena.read_indices(node.inputs[0]),
                out,
                width: size.width,
            },
            Op::Linear(part) => self.linear(node, None, &[*part], GraphEpilogue::None),
            Op::FusedLinear { norm, parts, epilogue } => self.linear(node, norm.as_ref(), parts, *epilogue),
            Op::Norm { norm, group } => {
                let norm = self.norm(norm);
                Kernel::Norm { norm, group: group.unwrap_or(size.width), x: input(0), out, size }
            }
            Op::Unary(op) => Kernel::Unary { op: *op, x: input(0), out, size },
            Op::Binary(op) => Kernel::Binary { op: *op, a: input(0), b: input(1), out, size },
            Op::Gated(activation) => Kernel::Gated { activation: *activation, gate: input(0), up: input(1), out, size },
            Op::RopeTable { inv_freq, dynamic, attention_factor } => {
                let positions = arena.read_indices(node.inputs[0]);
                let inv_freq = match dynamic {
                    Some(dynamic) => dynamic_inv_freq(inv_freq, dynamic, positions),
                    None => inv_freq.clone(),
                };
                Kernel::RopeTable { positions, inv_freq, factor: *attention_factor, out: out.data }
            }
            Op::Rope { style, head_dim } => {
                Kernel::Rope { style: *style, head_dim: *head_dim, x: input(0), table: input(1), out, size }
            }
            Op::Columns { start, .. } => Kernel::Columns { x: input(0), start: *start, out, size },
            Op::MulParam { weight } => {
                Kernel::MulParam { x: input(0), weight: self.program.vector(*weight), out, size }
            }
            Op::Moe(spec) => Kernel::Moe(Box::new(self.moe(spec, size.rows, [input(0), input(1)], out))),
            Op::Conv1d(spec) => Kernel::Conv1d(Box::new(ConvArgs {
                rows: size.rows,
                x: input(0),
                kernel: self.program.conv_kernel(spec.weight),
                bias: spec.bias.map(|id| self.program.vector(id)),
                slides: self.slides(node, spec.window),
                activation: spec.activation,
                out,
                precision: self.program.options.precision,
            })),
            Op::Attention(spec) => self.attention(node, spec, None, None, None, ScoreBias::default()),
            Op::FusedAttention { spec, q_norm, k_norm, rope } => {
                self.attention(node, spec, *q_norm, *k_norm, *rope, ScoreBias::default())
            }
            Op::BiasedAttention { spec, bias } => {
                self.attention(node, spec, None, None, None, self.score_bias(node, spec, bias))
            }
            Op::StoreCrossKv(_) => unreachable!("it has no output, and is made above"),
            Op::CrossAttention(spec) => self.cross_attention(node, spec),
            Op::CrossWeights { spec, chosen } => Kernel::CrossWeights(Box::new(CrossWeightsArgs {
                q: input(0),
                rows: arena.read_indices(node.inputs[1]),
                out,
                heads: spec.heads,
                chosen,
                scale: spec.scale,
                spans: self.cross_spans(node, false),
                cache: &self.cross_caches[spec.source.index()],
            })),
            Op::SelectRows => Kernel::SelectRows {
                x: input(0),
                rows: arena.rows(node.inputs[0]),
                indices: arena.read_indices(node.inputs[1]),
                out,
                width: size.width,
            },
        }
    }

    fn linear(
        &self,
        node: &Node,
        norm: Option<&Norm>,
        parts: &[rlx_ir::LinearPart],
        epilogue: GraphEpilogue,
    ) -> Kernel<'a> {
        let prologue = match norm.map(|norm| self.norm(norm)) {
            None => Prologue::None,
            Some(NormStep::Rms { weight, eps }) => Prologue::RmsNorm { weight, eps },
            Some(NormStep::Layer { weight, bias, eps }) => Prologue::LayerNorm { weight, bias, eps },
        };
        let parts = parts.iter().enumerate().map(|(i, part)| LinearPart {
            weight: self.program.matrix(part.weight),
            bias: part.bias.map(|id| self.program.vector(id)),
            // A gated pair has one output, which stands for both parts.
            out: self.arena.rows_out(node.outputs[i.min(node.outputs.len() - 1)]),
        });
        Kernel::Linear(LinearStep {
            rows: self.arena.rows(node.inputs[0]),
            x: self.arena.rows_in(node.inputs[0]),
            prologue,
            parts: parts.collect(),
            epilogue: match epilogue {
                GraphEpilogue::None => Epilogue::None,
                GraphEpilogue::Add => Epilogue::Add(self.arena.rows_in(node.inputs[1])),
                GraphEpilogue::Activation(activation) => Epilogue::Activation(activation),
                GraphEpilogue::Gated(activation) => Epilogue::Gated(activation),
            },
            x_layout: Layout::Rows,
            out_layout: Layout::Rows,
            precision: self.program.options.precision,
        })
    }

    fn moe(&self, spec: &rlx_ir::MoeSpec, rows: usize, [x, logits]: [RowsIn<'a>; 2], out: RowsOut<'a>) -> MoeArgs<'a> {
        let matrix = |id: rlx_ir::ParamId| self.program.matrix(id);
        let experts = spec.experts.iter().map(|expert| ExpertArgs {
            gate: expert.gate.map(matrix),
            up: matrix(expert.up),
            down: matrix(expert.down),
        });
        MoeArgs {
            rows,
            x,
            logits,
            out,
            experts: experts.collect(),
            router: RouterArgs {
                top_k: spec.top_k,
                score: spec.score,
                choice_bias: spec.choice_bias.map(|id| self.program.vector(id)),
                normalise: spec.normalise,
                scale: spec.scale,
                expert_scale: spec.expert_scale.map(|id| self.program.vector(id)),
            },
            activation: spec.activation,
            precision: self.program.options.precision,
        }
    }

    /// The rows of each sequence that `node` reads, beside those it makes of them.
    fn slides(&self, node: &Node, window: rlx_ir::Window) -> Slides {
        let spans = |id: ValueId| {
            let spans = self.spans.of(&self.program.graph.value(id).shape);
            spans.iter().map(|span| span.start..span.start + span.len)
        };
        Slides::new(window, spans(node.inputs[0]).zip(spans(node.outputs[0])))
    }

    fn norm(&self, norm: &Norm) -> NormStep<'a> {
        let vector = |id: Option<rlx_ir::ParamId>| id.map(|id| self.program.vector(id));
        match *norm {
            Norm::Rms { weight, eps } => NormStep::Rms { weight: vector(weight), eps },
            Norm::Layer { weight, bias, eps } => NormStep::Layer { weight: vector(weight), bias: vector(bias), eps },
        }
    }

    fn score_bias(&self, node: &Node, spec: &rlx_ir::AttentionSpec, bias: &rlx_ir::ScoreBias) -> ScoreBias<'a> {
        let vector = |id: rlx_ir::ParamId| self.program.vector(id);
        let distance = bias.distance.map(|distance| {
            let (table, rows, zero) = match distance.table {
                DistanceTable::Param { table, left } => {
                    let table = RowsIn { data: vector(table), stride: spec.head_dim };
                    (table, table.data.len() / spec.head_dim, left)
                }
                DistanceTable::Operand => {
                    let rows = self.arena.rows(node.inputs[3]);
                    (self.arena.rows_in(node.inputs[3]), rows, rows.saturating_sub(1) / 2)
                }
            };
            DistanceBias {
                table,
                rows,
                zero,
                by_head: distance.table == DistanceTable::Operand,
                content: distance.content.map(vector),
                position: distance.position.map(vector),
            }
        });
        let key = node.inputs.last().filter(|_| bias.key).map(|&id| self.arena.read(id));
        ScoreBias { distance, key }
    }

    fn attention(
        &self,
        node: &Node,
        spec: &rlx_ir::AttentionSpec,
        q_norm: Option<rlx_ir::HeadNorm>,
        k_norm: Option<rlx_ir::HeadNorm>,
        rope: Option<rlx_ir::FusedRope>,
        bias: ScoreBias<'a>,
    ) -> Kernel<'a> {
        let head_norm = |norm: rlx_ir::HeadNorm| HeadNorm { weight: self.program.vector(norm.weight), eps: norm.eps };
        let args = AttentionArgs {
            q: self.arena.rows_in(node.inputs[0]),
            kv: Some([self.arena.rows_in(node.inputs[1]), self.arena.rows_in(node.inputs[2])]),
            out: self.arena.rows_out(node.outputs[0]),
            out_layout: Layout::Rows,
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            v_dim: spec.v_head_dim,
            scale: spec.scale,
            causal: spec.causal,
            window: spec.window,
            softcap: spec.softcap,
            q_norm: q_norm.map(head_norm),
            k_norm: k_norm.map(head_norm),
            rope: rope.map(|rope| (rope.style, self.arena.read(node.inputs[3]), rope.pairs)),
            spans: self.spans.of(&self.program.graph.value(node.inputs[0]).shape),
            bias,
            cache: spec.cache.map(|id| &self.caches[id.index()]),
            precision: self.program.attention_precision(spec.cache.is_some()),
        };
        Kernel::Attention(Box::new(args))
    }

    /// Attention without rows of its own to what another program left.
    fn cross_attention(&self, node: &Node, spec: &rlx_ir::CrossAttentionSpec) -> Kernel<'a> {
        let cache = &self.cross_caches[spec.source.index()];
        let layout = cache.layout();
        let args = AttentionArgs {
            q: self.arena.rows_in(node.inputs[0]),
            kv: None,
            out: self.arena.rows_out(node.outputs[0]),
            out_layout: Layout::Rows,
            heads: spec.heads,
            kv_heads: layout.kv_heads,
            head_dim: layout.k_dim,
            v_dim: layout.v_dim,
            scale: spec.scale,
            causal: false,
            window: None,
            softcap: None,
            q_norm: None,
            k_norm: None,
            rope: None,
            spans: self.cross_spans(node, false),
            bias: ScoreBias::default(),
            cache: Some(cache),
            precision: self.program.attention_precision(true),
        };
        Kernel::Attention(Box::new(args))
    }

    /// The sequences of a node of cross-attention.
    fn cross_spans(&self, node: &Node, writes: bool) -> &'a [SeqSpan<'a>] {
        let dim = self.program.graph.value(node.inputs[0]).shape.dims()[0];
        self.cross.get(dim, writes).unwrap_or_default()
    }
}

/// Frequencies for the longest sequence of the batch; see [`DynamicNtk`].
fn dynamic_inv_freq(plain: &[f32], dynamic: &DynamicNtk, positions: &[i32]) -> Vec<f32> {
    let len = positions.iter().copied().max().unwrap_or(0) as f64 + 1.0;
    let max = dynamic.max_positions as f64;
    let dim = 2.0 * plain.len() as f64;
    if len <= max || dim <= 2.0 {
        return plain.to_vec();
    }
    let factor = f64::from(dynamic.factor);
    let theta = f64::from(dynamic.theta) * (factor * len / max - (factor - 1.0)).powf(dim / (dim - 2.0));
    (0..plain.len()).map(|i| theta.powf(-2.0 * i as f64 / dim) as f32).collect()
}

impl LinearStep<'_> {
    fn args(&self) -> LinearArgs<'_> {
        LinearArgs {
            rows: self.rows,
            batch: self.rows,
            x: self.x,
            x_layout: self.x_layout,
            prologue: self.prologue,
            parts: &self.parts,
            epilogue: self.epilogue,
            out_layout: self.out_layout,
            precision: self.precision,
        }
    }

    fn scratch_bytes(&self, isa: Isa, threads: usize) -> usize {
        let shapes: Vec<LinearShape> = self
            .parts
            .iter()
            .map(|part| LinearShape { dtype: part.weight.dtype(), rows: part.weight.rows(), cols: part.weight.cols() })
            .collect();
        let gated = matches!(self.epilogue, Epilogue::Gated(_));
        linear::scratch_bytes(self.rows, &shapes, gated, self.precision, isa, threads)
    }
}

impl Kernel<'_> {
    /// Lets `reader` have the rows that `self` leaves it alone as tiles, if it multiplies tiles.
    pub(super) fn hand_on_tiles(&mut self, reader: &mut Kernel<'_>, isa: Isa, threads: usize) {
        let Kernel::Linear(reader) = reader else { return };
        let (rows, width) = (reader.rows, reader.x.stride);
        // Tiles are whole, and have the memory of the rows: of few they may need more.
        let fits = Layout::Tiles.floats(rows, width, width) <= reader.x.data.len();
        if rows <= 1 || !fits || !reader.args().reads_tiles(isa) {
            return;
        }
        match self {
            Kernel::Linear(step) => step.out_layout = Layout::Tiles,
            Kernel::Attention(args) if args.makes_tiles(isa, threads) => args.out_layout = Layout::Tiles,
            _ => return,
        }
        reader.x_layout = Layout::Tiles;
    }

    pub(super) fn scratch_bytes(&self, isa: Isa, threads: usize) -> usize {
        match self {
            Kernel::Linear(step) => step.scratch_bytes(isa, threads),
            Kernel::Attention(args) => attention::attention_scratch_bytes(args, isa, threads),
            Kernel::StoreKv(args) => attention::store_scratch_bytes(args, threads),
            Kernel::CrossWeights(args) => attention::cross_weights_scratch_bytes(args, threads),
            Kernel::Moe(args) => moe::moe_scratch_bytes(args, isa, threads),
            Kernel::Conv1d(args) => conv::conv1d_scratch_bytes(args, isa, threads),
            _ => 0,
        }
    }

    /// This thread's share of the step.
    pub(super) fn run(&self, ctx: &ThreadCtx<'_>, isa: Isa, work: &[WorkCounter], scratch: SharedSlice<'_, u8>) {
        match self {
            Kernel::Nothing => {}
            Kernel::Linear(step) => linear::linear(ctx, isa, work, scratch, &step.args()),
            Kernel::Lookup { table, ids, out, width } => lookup(ctx, *table, ids, *out, *width),
            Kernel::Norm { norm: NormStep::Rms { weight, eps }, group, x, out, size } => {
                rows::rms_norm_groups(ctx, isa, *x, *weight, *eps, *out, size.rows, size.width, *group);
            }
            Kernel::Norm { norm: NormStep::Layer { weight, bias, eps }, group, x, out, size } => {
                rows::layer_norm_groups(ctx, isa, *x, *weight, *bias, *eps, *out, size.rows, size.width, *group);
            }
            Kernel::Unary { op, x, out, size } => rows::unary(ctx, isa, *op, *x, *out, size.rows, size.width),
            Kernel::Binary { op, a, b, out, size } => {
                rows::binary(ctx, isa, *op, *a, Operand::Rows(*b), *out, size.rows, size.width);
            }
            Kernel::Gated { activation, gate, up, out, size } => {
                rows::gated(ctx, isa, *activation, *gate, *up, *out, size.rows, size.width);
            }
            Kernel::RopeTable { positions, inv_freq, factor, out } => {
                rows::rope_table(ctx, positions, inv_freq, *factor, *out);
            }
            Kernel::Rope { style, head_dim, x, table, out, size } => {
                let heads = size.width / head_dim;
                let pairs = table.stride / 2;
                rows::rope(ctx, isa, *style, *x, table.data, pairs, *out, size.rows, heads, *head_dim);
            }
            Kernel::Attention(args) => {
                attention::attention(ctx, isa, work, scratch, args);
            }
            Kernel::StoreKv(args) => attention::store_kv(ctx, isa, scratch, args),
            Kernel::CrossWeights(args) => attention::cross_weights(ctx, isa, work, scratch, args),
            Kernel::Moe(args) => moe::moe(ctx, isa, work, scratch, args),
            Kernel::Conv1d(args) => conv::conv1d(ctx, isa, work, scratch, args),
            Kernel::Columns { x, start, out, size } => rows::columns(ctx, *x, *start, *out, size.rows, size.width),
            Kernel::MulParam { x, weight, out, size } => {
                let operand = if weight.len() == 1 { Operand::Scalar(weight[0]) } else { Operand::Row(weight) };
                rows::binary(ctx, isa, BinaryOp::Mul, *x, operand, *out, size.rows, size.width);
            }
            Kernel::SelectRows { x, rows, indices, out, width } => {
                let done = rows::gather_rows(ctx, *x, *rows, indices, *out, *width);
                debug_assert!(done.is_ok(), "indices are checked before the run");
            }
        }
    }
}

/// Rows `ids` of a table of any type, as f32.
fn lookup(ctx: &ThreadCtx<'_>, table: Table<'_>, ids: &[i32], out: RowsOut<'_>, width: usize) {
    for t in ctx.share(ids.len(), 1) {
        // SAFETY: each row belongs to one thread.
        let row = unsafe { out.part(t, 0..width) };
        let id = ids[t] as usize;
        match table {
            Table::Packed(matrix) => matrix.unpack_row(id, row),
            Table::File(data) => {
                let bytes = data.dtype.bytes_for(width).unwrap_or(0);
                let done = rlx_quant::dequantize(data.dtype, &data.bytes[id * bytes..(id + 1) * bytes], row);
                debug_assert!(done.is_ok(), "a table's rows are whole blocks of a known type, checked when compiled");
            }
        }
    }
}
