//! A graph compiled for the CPU: its weights packed, its kernels chosen.

use std::sync::Arc;

use rlx_ir::{DType, Graph, LinearPart, Node, Norm, Op, Param};
use rlx_mem::{AlignedBuf, Bytes, PageArena};

use super::CpuError;
use crate::conv::ConvKernel;
use crate::linear::{PackedMatrix, Precision};
use crate::{Isa, ThreadPool};

/// How to compile for the CPU.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// Threads that run the model.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// How exactly to compute.
    pub precision: Precision,
}

/// A parameter as the checkpoint has it.
#[derive(Clone, Debug)]
pub struct WeightData {
    /// Element type.
    pub dtype: DType,
    /// The elements.
    pub bytes: Bytes,
}

/// A parameter as the kernels read it.
pub(crate) enum Weight {
    /// Multiplied with (and perhaps looked up in).
    Matrix(PackedMatrix),
    /// Only looked up in: rows stay in the file.
    Table(WeightData),
    /// A norm's weight or a bias.
    Vector(AlignedBuf<f32>),
    /// A convolution's kernel.
    Conv(ConvKernel),
}

/// A compiled graph with its packed weights; runs on its own thread pool.
pub struct CpuProgram {
    pub(crate) graph: Graph,
    pub(crate) weights: Vec<Weight>,
    pub(crate) pool: ThreadPool,
    pub(crate) options: CpuOptions,
    /// Nodes whose only result goes into the product of another and nowhere else, and that other.
    pub(crate) handed_on: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Usage {
    Unused,
    Table,
    Vector,
    Matrix,
    Conv { groups: usize },
}

impl CpuProgram {
    /// Compiles `graph`, taking each parameter's data from `load` and packing it. Files' pages are given back on the way, so that
    /// weights are held once; a parameter in memory of its own is held twice while it is packed.
    ///
    /// # Errors
    /// If the machine lacks the instruction set, a parameter does not load, or its data is not of its shape.
    pub fn compile<E: From<CpuError>>(
        graph: Graph,
        options: CpuOptions,
        load: &mut dyn FnMut(&Param) -> Result<WeightData, E>,
    ) -> Result<CpuProgram, E> {
        options.isa.require().map_err(CpuError::from)?;
        let pool = ThreadPool::new(options.threads);
        let usages = usages(&graph)?;
        let mut weights = Vec::with_capacity(usages.len());
        let mut arena = PageArena::new();
        for (param, usage) in graph.params().iter().zip(usages) {
            let data = load(param)?;
            weights.push(prepare(param, usage, data, &options, &pool, &mut arena)?);
        }
        let handed_on = handed_on(&graph);
        Ok(CpuProgram { graph, weights, pool, options, handed_on })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The options it was compiled with.
    pub fn options(&self) -> &CpuOptions {
        &self.options
    }

    /// Bytes of the packed weights, without tables that stay in the file.
    pub fn weight_bytes(&self) -> usize {
        self.weights.iter().map(Weight::bytes).sum()
    }

    /// Bytes of weights that the graph reads for one token: of experts those that it takes, of tables nothing, of what
    /// several steps use one reading each.
    pub fn weight_bytes_per_token(&self) -> usize {
        self.graph.nodes().iter().map(|node| self.weight_bytes_of(&node.op)).sum()
    }

    /// Which arithmetic attention may use: without a cache that rounds keys, a program whose every product is exact does not round
    /// them either.
    pub(crate) fn attention_precision(&self, cached: bool) -> Precision {
        let is_exact = |weight: &Weight| match weight {
            Weight::Matrix(matrix) => matches!(matrix.dtype(), DType::F32 | DType::F64),
            _ => true,
        };
        match self.options.precision {
            Precision::Auto if !cached && self.weights.iter().all(is_exact) => Precision::F32,
            precision => precision,
        }
    }

    pub(crate) fn matrix(&self, id: rlx_ir::ParamId) -> &PackedMatrix {
        match &self.weights[id.index()] {
            Weight::Matrix(matrix) => matrix,
            _ => unreachable!("parameter usage is decided from the same graph"),
        }
    }

    pub(crate) fn conv_kernel(&self, id: rlx_ir::ParamId) -> &ConvKernel {
        match &self.weights[id.index()] {
            Weight::Conv(kernel) => kernel,
            _ => unreachable!("parameter usage is decided from the same graph"),
        }
    }

    pub(crate) fn vector(&self, id: rlx_ir::ParamId) -> &[f32] {
        match &self.weights[id.index()] {
            Weight::Vector(vector) => vector,
            _ => unreachable!("parameter usage is decided from the same graph"),
        }
    }

    /// Bytes of weights that one run of `op` reads for one token; for a batch a mixture of experts may read more.
    pub(crate) fn weight_bytes_of(&self, op: &Op) -> usize {
        op.per_token(op.params().iter().map(|id| self.weights[id.index()].bytes()).sum())
    }
}

impl Weight {
    fn bytes(&self) -> usize {
        match self {
            Weight::Matrix(matrix) => matrix.bytes(),
            Weight::Table(_) => 0,
            Weight::Vector(vector) => vector.len() * 4,
            Weight::Conv(kernel) => kernel.bytes(),
        }
    }
}

/// See [`CpuProgram::handed_on`].
fn handed_on(graph: &Graph) -> Vec<(usize, usize)> {
    let (nodes, uses) = (graph.nodes(), graph.use_counts());
    let multiplied = |node: &&Node| matches!(node.op, Op::Linear(_) | Op::FusedLinear { norm: None, .. });
    let readers = nodes.iter().enumerate().filter(|(_, node)| multiplied(node) && uses[node.inputs[0].index()] == 1);
    let pair = |(reader, node): (usize, &Node)| {
        let maker = nodes.iter().position(|maker| maker.outputs == node.inputs[..1])?;
        Some((maker, reader))
    };
    readers.filter_map(pair).collect()
}

/// What each parameter is used as. Linears win over look-ups: a tied table is packed once and serves both.
///
/// # Errors
/// If one is used in ways that want it in two forms, as a convolution's kernel with two numbers of groups.
fn usages(graph: &Graph) -> Result<Vec<Usage>, CpuError> {
    let mut usages = vec![Usage::Unused; graph.params().len()];
    let mut conflict = None;
    let mut mark = |id: rlx_ir::ParamId, usage: Usage| {
        let known = &mut usages[id.index()];
        let looked_up = |usage: Usage| matches!(usage, Usage::Table | Usage::Matrix);
        if *known != Usage::Unused && *known != usage && !(looked_up(*known) && looked_up(usage)) {
            conflict.get_or_insert(id);
        }
        if usage > *known {
            *known = usage;
        }
    };
    for node in graph.nodes() {
        let mut part = |part: &LinearPart| {
            mark(part.weight, Usage::Matrix);
            part.bias.into_iter().for_each(|id| mark(id, Usage::Vector));
        };
        match &node.op {
            Op::Linear(p) => part(p),
            Op::FusedLinear { norm, parts, .. } => {
                parts.iter().for_each(&mut part);
                norm.iter().flat_map(norm_params).for_each(|id| mark(id, Usage::Vector));
            }
            Op::Norm { norm, .. } => norm_params(norm).for_each(|id| mark(id, Usage::Vector)),
            Op::MulParam { weight } => mark(*weight, Usage::Vector),
            Op::Conv1d(spec) => {
                mark(spec.weight, Usage::Conv { groups: spec.groups });
                spec.bias.into_iter().for_each(|id| mark(id, Usage::Vector));
            }
            Op::Moe(spec) => {
                let matrices = spec.experts.iter().flat_map(|e| [e.gate, Some(e.up), Some(e.down)]).flatten();
                matrices.for_each(|id| mark(id, Usage::Matrix));
                spec.choice_bias.iter().chain(&spec.expert_scale).for_each(|&id| mark(id, Usage::Vector));
            }
            Op::Embedding { table } => mark(*table, Usage::Table),
            Op::BiasedAttention { .. } => node.op.params().into_iter().for_each(|id| mark(id, Usage::Vector)),
            Op::FusedAttention { q_norm, k_norm, .. } => {
                q_norm.iter().chain(k_norm).for_each(|norm| mark(norm.weight, Usage::Vector));
            }
            Op::Input
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Gated(_)
            | Op::RopeTable { .. }
            | Op::Rope { .. }
            | Op::Attention(_)
            | Op::StoreCrossKv(_)
            | Op::CrossAttention(_)
            | Op::CrossWeights { .. }
            | Op::SelectRows
            | Op::Columns { .. } => {}
        }
    }
    match conflict {
        None => Ok(usages),
        Some(id) => {
            let name = graph.param_info(id).name.clone();
            Err(CpuError::Param { name, what: "is used in two ways that do not go together".into() })
        }
    }
}

fn norm_params(norm: &Norm) -> impl Iterator<Item = rlx_ir::ParamId> + use<> {
    let (weight, bias) = match *norm {
        Norm::Rms { weight, .. } => (weight, None),
        Norm::Layer { weight, bias, .. } => (weight, bias),
    };
    weight.into_iter().chain(bias)
}

fn prepare(
    param: &Param,
    usage: Usage,
    data: WeightData,
    options: &CpuOptions,
    pool: &ThreadPool,
    arena: &mut PageArena,
) -> Result<Weight, CpuError> {
    let fail = |what: String| CpuError::Param { name: param.name.clone(), what };
    let elements = param.shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    let expected = elements.and_then(|n| data.dtype.bytes_for(n));
    if expected != Some(data.bytes.len()) {
        let found = data.bytes.len();
        return Err(fail(format!("{found} bytes of {} are no tensor of shape {:?}", data.dtype, param.shape)));
    }
    match usage {
        Usage::Matrix => {
            let (rows, cols) = (param.shape[0], param.shape[1]);
            data.bytes.will_need();
            let packed = PackedMatrix::pack_file(arena, data.dtype, rows, cols, &data.bytes, options.isa, pool)
                .map_err(|source| CpuError::Pack { name: param.name.clone(), source })?;
            Ok(Weight::Matrix(packed))
        }
        Usage::Table => {
            if !param.shape[1].is_multiple_of(data.dtype.block_len()) {
                return Err(fail(format!("rows of {} elements are no whole {} blocks", param.shape[1], data.dtype)));
            }
            Ok(Weight::Table(data))
        }
        Usage::Conv { groups } => {
            let shape = [param.shape[0], param.shape[1], param.shape[2]];
            data.bytes.will_need();
            let kernel = ConvKernel::pack(arena, data.dtype, shape, groups, &data.bytes, options.isa, pool)
                .map_err(|source| CpuError::Pack { name: param.name.clone(), source })?;
            data.bytes.release();
            Ok(Weight::Conv(kernel))
        }
        Usage::Vector | Usage::Unused => {
            let mut vector = AlignedBuf::zeroed(elements.unwrap_or(0));
            rlx_quant::dequantize(data.dtype, &data.bytes, &mut vector).map_err(|error| fail(error.to_string()))?;
            Ok(Weight::Vector(vector))
        }
    }
}

/// Keeps the program and the pool it owns alive for its states.
pub(crate) type SharedProgram = Arc<CpuProgram>;

#[cfg(test)]
mod tests {
    use rlx_ir::{Activation, Expert, MoeSpec, RouterScore, Shape};

    use super::*;

    const WIDTH: usize = 32;

    /// A table, a router, and five experts of which a token takes two.
    fn graph() -> Graph {
        let mut g = Graph::new();
        let t = g.symbol("T");
        let tokens = g.input("tokens", DType::I32, Shape::new([t.into()]));
        let table = g.param("table", &[50, WIDTH]).unwrap();
        let x = g.push(Op::Embedding { table }, &[tokens], "embed").unwrap()[0];
        let router = g.param("router", &[5, WIDTH]).unwrap();
        let logits = g.push(Op::Linear(LinearPart { weight: router, bias: None }), &[x], "router").unwrap()[0];
        let experts = (0..5).map(|i| Expert {
            gate: None,
            up: g.param(&format!("{i}.up"), &[64, WIDTH]).unwrap(),
            down: g.param(&format!("{i}.down"), &[WIDTH, 64]).unwrap(),
        });
        let spec = MoeSpec {
            experts: experts.collect(),
            top_k: 2,
            score: RouterScore::Softmax,
            choice_bias: None,
            normalise: true,
            scale: 1.0,
            expert_scale: None,
            activation: Activation::Silu,
        };
        let y = g.push(Op::Moe(spec), &[x, logits], "moe").unwrap()[0];
        g.output("y", y);
        g
    }

    #[test]
    fn a_token_reads_its_experts_and_no_table() {
        let options = CpuOptions { threads: 1, isa: Isa::Scalar, precision: Precision::F32 };
        let program = CpuProgram::compile::<CpuError>(graph(), options, &mut |param| {
            let elements: usize = param.shape.iter().product();
            Ok(WeightData { dtype: DType::F32, bytes: Bytes::copy_from(&vec![0; 4 * elements]) })
        });
        let program = program.unwrap();
        let sizes: Vec<usize> = program.weights.iter().map(Weight::bytes).collect();
        let (table, router, expert) = (sizes[0], sizes[1], sizes[2] + sizes[3]);
        assert_eq!((table, sizes.len()), (0, 12));
        assert!(router > 0 && expert >= 2 * 64 * WIDTH * 4);
        assert_eq!(program.weight_bytes(), router + 5 * expert);
        assert_eq!(program.weight_bytes_per_token(), router + 2 * expert);
        assert_eq!(program.graph().parameters_per_token(), 5 * WIDTH + 2 * 2 * 64 * WIDTH);
    }
}
