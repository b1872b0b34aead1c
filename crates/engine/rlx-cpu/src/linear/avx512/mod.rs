//! AVX-512 kernels (F, BW, DQ, VL, VNNI): a register holds a line of 16 rows x 4 columns, or 16 f32.

pub(crate) mod amx;
pub(crate) mod bf16;
mod dequant;
mod fixed;
mod float;
mod int8;
mod unpack;

pub(crate) use dequant::dequantise;
pub(crate) use fixed::fixed;
pub(crate) use float::float;
pub(crate) use int8::int8;
