//! Scalar and vector mathematics shared by the kernels.
//!
//! The enums are those of rlx-ir; what is here adds the arithmetic to them.

mod activation;
pub(crate) mod functions;
pub(crate) mod simd;

pub use activation::{ActivationMath, UnaryMath};
pub(crate) use activation::{activate, binary, unary};
pub use rlx_ir::{Activation, BinaryOp, RopeStyle, UnaryOp};
