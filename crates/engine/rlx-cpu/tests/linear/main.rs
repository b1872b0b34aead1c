//! Op suite of the linear kernels: every weight type on every instruction set of this machine, at generated ragged
//! shapes, against an f64 reference on the weights that `rlx_quant::dequantize` gives.

mod cases;
mod layouts;
mod packing;
mod suite;
