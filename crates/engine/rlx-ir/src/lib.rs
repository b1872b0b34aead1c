//! Graph, ops, dtypes, symbolic shapes, shape inference, verifier and text dump of the RLX compiler.
//!
//! A model is a [`Graph`]: nodes in execution order over single-assignment values, with weights as named parameters.
//! Dims may be symbolic, so that one graph serves prefill, decode and batches of any size. There is no I/O and no kernel
//! here.

pub mod batch;
mod dtype;
mod dump;
mod graph;
mod infer;
mod op;
mod shape;

pub use dtype::DType;
pub use graph::{Cache, CacheId, Graph, Node, Param, ParamId, Value, ValueId};
pub use infer::IrError;
pub use op::{
    Activation, AttentionSpec, BinaryOp, DynamicNtk, Epilogue, Expert, FusedRope, HeadNorm, LinearPart, MoeSpec, Norm,
    Op, RopeStyle, RouterScore, UnaryOp,
};
pub use shape::{Dim, Shape, Symbol};
