//! ggml block formats: layout, exact dequantisation and quantisation.
//!
//! This crate is the scalar reference that every kernel is tested against. It gives three views of packed weights:
//!
//! - [`dequantize`]: the element values as `f32`, in the evaluation order of ggml's reference code, hence bit for bit
//!   what GGUF tools print;
//! - [`unpack_ints`]: the integers inside one block (quants, group scales, group minima) with the zero point
//!   added, which is what a kernel repacks;
//! - [`quantize`] and [`quantize_with_importance`]: packed blocks from `f32`, byte for byte as ggml's reference
//!   quantiser makes them.
//!
//! The byte layouts are those of ggml (`ggml-common.h`) and are written down in [`blocks`]. All numbers in blocks are
//! little endian.

pub mod blocks;
pub mod codebooks;
mod dequant;
mod error;
mod grids;
mod ints;
mod quant;

pub use dequant::dequantize;
pub use error::QuantError;
pub use ints::{BlockScales, group_len, has_ints, min_sign, unpack_codes, unpack_ints, zero_point};
pub use quant::{can_quantize, quantize, quantize_with_importance};
