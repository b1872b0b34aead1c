//! Scalar and vector mathematics shared by the kernels.
//!
//! The enums are those of rlx-ir; what is here adds the arithmetic to them.

mod activation;
pub(crate) mod functions;
mod log_sum_exp;
pub(crate) mod simd;

pub use activation::{ActivationMath, UnaryMath};
pub(crate) use activation::{activate, binary, unary};
pub use log_sum_exp::log_sum_exp;
pub use rlx_ir::{Activation, BinaryOp, RopeStyle, UnaryOp};
