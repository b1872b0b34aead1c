//! AVX2 kernels (with FMA and F16C): a register holds half a line, 8 rows x 4 columns, or 8 f32.

mod dequant;
mod fixed;
mod float;
mod int8;
mod unpack;

pub(crate) use dequant::dequantise;
pub(crate) use fixed::{fixed, floats_to_fixed, quants_to_fixed};
pub(crate) use float::float;
pub(crate) use int8::int8;
