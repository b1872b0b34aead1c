//! Scalar and vector mathematics shared by the kernels.
//!
//! The enums `Activation`, `BinaryOp`, `UnaryOp`, `RopeStyle`, `HeadNorm` are those of rlx-ir (one definition per thing); what is
//! here adds the arithmetic to them as free functions or extension traits: never a second enum.

pub use rlx_ir::{Activation, BinaryOp, RopeStyle, UnaryOp};
