//! Graph, ops, dtypes, symbolic shapes, shape inference, verifier and text dump of the RLX compiler.
//!
//! A model is a [`Graph`]: nodes in execution order over single-assignment values, with weights as named parameters.
//! Dims may be symbolic, so that one graph serves prefill, decode and batches of any size. There is no I/O and no kernel
//! here.

pub mod batch;
mod cross;
mod dtype;
mod dump;
mod graph;
mod infer;
mod op;
mod shape;
mod window;

pub use cross::{CrossAttentionSpec, CrossKv};
pub use dtype::DType;
pub use graph::{Cache, CacheId, CrossKvId, Graph, Node, Param, ParamId, Value, ValueId};
pub use infer::IrError;
pub use op::{
    Activation, AttentionSpec, BinaryOp, Conv1dSpec, DistanceBias, DistanceTable, DynamicNtk, Epilogue, Expert,
    FusedRope, HeadNorm, LinearPart, MoeSpec, Norm, Op, RopeStyle, RouterScore, ScoreBias, UnaryOp,
};
pub use shape::{Dim, Shape, Symbol};
pub use window::Window;
