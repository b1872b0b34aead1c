//! `y = x W^T` with weights of any type: the norm before it, several matrices of the same input, and bias, activation,
//! gate or residual after it, in one step without a barrier between them.
//!
//! A call has two phases. First the activations are *prepared*: normalised and converted to the form that the weights'
//! kernels read (blocks of integers, f32 or bf16 tiles). A single row is prepared by every thread for itself; more rows are shared
//! out and followed by a barrier; what an earlier step left as tiles ([`Layout`]) is read as it is. Then the threads take
//! *units* of 32 weight rows from a common counter, multiply them with all tokens and finish the results while they are in the first-level cache.
//!
//! | weights | few tokens | many tokens, with AMX | many tokens, with AVX2 or AVX-512 | `Precision::F32` |
//! |---|---|---|---|---|
//! | quantised | 15-bit activations as two int8 | dequantised to bf16 tiles | fixed point; of an expert, from 3 rows on | dequantised to f32, f32 FMA |
//! | types without packed kernels | dequantised to f32, f32 FMA | dequantised to bf16 tiles | f32 FMA | dequantised to f32, f32 FMA |
//! | F16, BF16 | f32 FMA | bf16 tiles | fixed point | f32 FMA |
//! | F32 | f32 FMA | f32 FMA (`Precision::Bf16`: bf16 tiles) | f32 FMA (`Precision::Bf16`: fixed point) | f32 FMA |
//!
//! Other instruction sets multiply many tokens as they do few.

// Other architectures run the scalar kernels and never walk tiles.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports, unused_macros, unused_variables))]

mod fetch;
mod finish;
mod format;
mod items;
mod kernels;
mod layout;
mod lines;
mod pack;
mod plan;
mod prepare;
mod run;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod tiles;

use plan::Plan;
use rlx_ir::Activation;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::amx::Tiles;
pub use layout::Layout;
pub use pack::{LinearError, PackedMatrix};
pub use plan::{LinearShape, scratch_bytes};
pub(crate) use plan::{TILE_COLS, scratch_bytes_in};
pub use run::linear;

use crate::conv::Slides;
use crate::{Isa, SharedSlice};

/// Rows of activations to read: row `t` is `data[t * stride..][..width]`.
#[derive(Clone, Copy)]
pub struct RowsIn<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub stride: usize,
}

/// Rows to write: row `t` is `data[t * stride..][..width]`.
#[derive(Clone, Copy)]
pub struct RowsOut<'a> {
    /// The elements; may be written by all threads, each its own part.
    pub data: SharedSlice<'a, f32>,
    /// Elements from one row to the next.
    pub stride: usize,
}

/// What happens to each row of x first.
#[derive(Clone, Copy, Debug, Default)]
pub enum Prologue<'a> {
    /// Nothing.
    #[default]
    None,
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    RmsNorm {
        /// `[in features]`; none multiplies by one.
        weight: Option<&'a [f32]>,
        /// Added to the mean square.
        eps: f32,
    },
    /// `(x - mean) / sqrt(var + eps) * weight + bias`.
    LayerNorm {
        /// `[in features]`; none multiplies by one.
        weight: Option<&'a [f32]>,
        /// `[in features]`; none adds nothing.
        bias: Option<&'a [f32]>,
        /// Added to the variance.
        eps: f32,
    },
    /// Row `t` is the rows of x that a window sees from there, side by side (a convolution).
    Window(&'a Slides),
}

/// What happens to the products (bias added) before they are stored.
#[derive(Clone, Copy, Default)]
pub enum Epilogue<'a> {
    /// Nothing.
    #[default]
    None,
    /// Adds rows of the output's shape (the residual stream). They may not overlap the output; see
    /// [`Epilogue::Accumulate`]. One part.
    Add(RowsIn<'a>),
    /// Adds to what the output holds. One part.
    Accumulate,
    /// Multiplies by a factor.
    Scale(f32),
    /// Applies a nonlinearity.
    Activation(Activation),
    /// Two parts of one shape, one output (that of the first): `act(first) * second`.
    Gated(Activation),
}

/// One weight matrix of a call, and where its product goes.
#[derive(Clone, Copy)]
pub struct LinearPart<'a> {
    /// `[out features, in features]`
    pub weight: &'a PackedMatrix,
    /// `[out features]`
    pub bias: Option<&'a [f32]>,
    /// `[T, out features]`; overlaps neither x nor another part's output.
    pub out: RowsOut<'a>,
}

/// A call: `out_p = epilogue(prologue(x) W_p^T + bias_p)` for each part `p`.
#[derive(Clone, Copy)]
pub struct LinearArgs<'a> {
    /// Tokens, T.
    pub rows: usize,
    /// Tokens of the run that they are of, at least T: the arithmetic is that of so many.
    pub batch: usize,
    /// `[T, in features]`; with [`Prologue::Window`], the rows that the window slides along, of `in features / taps`.
    pub x: RowsIn<'a>,
    /// How x lies in memory. [`Layout::Tiles`] only where all parts are multiplied as tiles ([`LinearArgs::reads_tiles`]); the stride
    /// is not looked at then.
    pub x_layout: Layout,
    /// Applied to each row of x.
    pub prologue: Prologue<'a>,
    /// The matrices; all have the same number of in features.
    pub parts: &'a [LinearPart<'a>],
    /// Applied to each product.
    pub epilogue: Epilogue<'a>,
    /// How the outputs are to lie in memory. [`Layout::Tiles`] only for more than one token, whose outputs are whole values, not parts of
    /// wider rows, and nothing is accumulated.
    pub out_layout: Layout,
    /// Which arithmetic is allowed.
    pub precision: Precision,
}

impl LinearArgs<'_> {
    /// Whether x may lie in tiles, with kernels of `isa`: it is multiplied as it is, and by all parts so.
    pub fn reads_tiles(&self, isa: Isa) -> bool {
        matches!(self.prologue, Prologue::None) && Plan::of(self, isa, 1).is_tiles_alone()
    }
}

/// Which arithmetic a linear may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Quantised weights: 15-bit activations (blocks of 32, absmax scale), or bf16 tiles or fixed point for many tokens. F16 and
    /// BF16 weights: f32, or bf16 tiles or fixed point for many tokens. F32 weights: f32. Attention: see
    /// [`AttentionArgs::precision`](crate::attention::AttentionArgs::precision); of a program whose weights are all F32, f32 unless
    /// keys are kept in fewer bits.
    #[default]
    Auto,
    /// f32 throughout: weights are dequantised exactly, activations stay f32.
    F32,
    /// As `Auto`, and bf16 tiles or fixed point for F32 weights too, and for attention where that is faster.
    Bf16,
}
