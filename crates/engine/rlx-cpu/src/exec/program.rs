//! A graph compiled for the CPU: its weights packed, its kernels chosen.

use std::sync::Arc;

use rlx_ir::{DType, Graph, LinearPart, Norm, Op, Param};
use rlx_mem::{AlignedBuf, Bytes};

use super::CpuError;
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
}

/// A compiled graph with its packed weights; runs on its own thread pool.
pub struct CpuProgram {
    pub(crate) graph: Graph,
    pub(crate) weights: Vec<Weight>,
    pub(crate) pool: ThreadPool,
    pub(crate) options: CpuOptions,
}

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Usage {
    Unused,
    Table,
    Vector,
    Matrix,
}

impl CpuProgram {
    /// Compiles `graph`, taking each parameter's data from `load` and packing it. One parameter at a time is held twice.
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
        let usages = usages(&graph);
        let mut weights = Vec::with_capacity(usages.len());
        for (param, usage) in graph.params().iter().zip(usages) {
            let data = load(param)?;
            weights.push(prepare(param, usage, data, &options, &pool)?);
        }
        Ok(CpuProgram { graph, weights, pool, options })
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

    pub(crate) fn matrix(&self, id: rlx_ir::ParamId) -> &PackedMatrix {
        match &self.weights[id.index()] {
            Weight::Matrix(matrix) => matrix,
            Weight::Table(_) | Weight::Vector(_) => unreachable!("parameter usage is decided from the same graph"),
        }
    }

    pub(crate) fn vector(&self, id: rlx_ir::ParamId) -> &[f32] {
        match &self.weights[id.index()] {
            Weight::Vector(vector) => vector,
            Weight::Matrix(_) | Weight::Table(_) => unreachable!("parameter usage is decided from the same graph"),
        }
    }

    /// Bytes of weights that one run of `op` reads.
    pub(crate) fn weight_bytes_of(&self, op: &Op) -> usize {
        match op {
            Op::Embedding { .. } => 0,
            // What one token takes; a batch may take more.
            Op::Moe(spec) => {
                let all: usize = op.params().iter().map(|id| self.weights[id.index()].bytes()).sum();
                all / spec.experts.len() * spec.top_k
            }
            _ => op.params().iter().map(|id| self.weights[id.index()].bytes()).sum(),
        }
    }
}

impl Weight {
    fn bytes(&self) -> usize {
        match self {
            Weight::Matrix(matrix) => matrix.bytes(),
            Weight::Table(_) => 0,
            Weight::Vector(vector) => vector.len() * 4,
        }
    }
}

/// What each parameter is used as. Linears win over look-ups: a tied table is packed once and serves both.
fn usages(graph: &Graph) -> Vec<Usage> {
    let mut usages = vec![Usage::Unused; graph.params().len()];
    let mut mark = |id: rlx_ir::ParamId, usage: Usage| {
        let known = &mut usages[id.index()];
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
            Op::Moe(spec) => {
                let matrices = spec.experts.iter().flat_map(|e| [e.gate, Some(e.up), Some(e.down)]).flatten();
                matrices.for_each(|id| mark(id, Usage::Matrix));
                spec.choice_bias.iter().chain(&spec.expert_scale).for_each(|&id| mark(id, Usage::Vector));
            }
            Op::Embedding { table } => mark(*table, Usage::Table),
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
            | Op::SelectRows
            | Op::Columns { .. } => {}
        }
    }
    usages
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
            let packed = PackedMatrix::pack(data.dtype, rows, cols, &data.bytes, options.isa, pool)
                .map_err(|source| CpuError::Pack { name: param.name.clone(), source })?;
            data.bytes.release();
            Ok(Weight::Matrix(packed))
        }
        Usage::Table => {
            if !param.shape[1].is_multiple_of(data.dtype.block_len()) {
                return Err(fail(format!("rows of {} elements are no whole {} blocks", param.shape[1], data.dtype)));
            }
            Ok(Weight::Table(data))
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
