//! Graph, ops, dtypes, symbolic shapes, shape inference, verifier and text dump of the RLX compiler.

mod dtype;

pub use dtype::DType;
