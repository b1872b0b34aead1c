//! Convolutions along the rows of sequences.
//!
//! | kernel | how |
//! |---|---|
//! | dense | one [`linear`](crate::linear()) with the weight as `[out, taps * in]`: while activations are prepared for its kernels, the rows under the window are put side by side |
//! | groups | one such linear per group, over its own channels |
//! | depthwise | sums over taps with channels in the lanes, four rows at a time |

mod depthwise;
mod kernel;
mod slides;

use rlx_ir::Activation;

pub use kernel::{ConvKernel, DepthwiseTaps};
pub use slides::Slides;

use crate::calls::Calls;
use crate::linear::{self, Epilogue, Layout, LinearArgs, LinearPart, LinearShape, PackedMatrix, Precision, Prologue};
use crate::{Isa, RowsIn, RowsOut, SharedSlice, ThreadCtx, WorkCounter};

/// A call of [`conv1d`]; see [`rlx_ir::Conv1dSpec`].
#[derive(Clone)]
pub struct ConvArgs<'a> {
    /// Rows of the result.
    pub rows: usize,
    /// `[T, in channels]`
    pub x: RowsIn<'a>,
    /// The weights.
    pub kernel: &'a ConvKernel,
    /// `[out channels]`
    pub bias: Option<&'a [f32]>,
    /// Which rows of x each row of the result sees.
    pub slides: Slides,
    /// Applied to the sums.
    pub activation: Option<Activation>,
    /// `[rows, out channels]`; does not overlap x.
    pub out: RowsOut<'a>,
    /// Which arithmetic is allowed.
    pub precision: Precision,
}

/// Bytes of scratch memory that a call needs on `threads` threads.
pub fn conv1d_scratch_bytes(args: &ConvArgs<'_>, isa: Isa, threads: usize) -> usize {
    match args.kernel {
        ConvKernel::Depthwise(_) => 0,
        // All groups have one shape.
        ConvKernel::Groups(groups) => {
            let shape = |m: &PackedMatrix| LinearShape { dtype: m.dtype(), rows: m.rows(), cols: m.cols() };
            let bytes = |m| linear::scratch_bytes(args.rows, &[shape(m)], false, args.precision, isa, threads);
            groups.first().map_or(0, bytes)
        }
    }
}

/// Computes `args` on all threads of a pool: each calls it with the same arguments. `work` are at least two counters at zero;
/// `scratch` has [`conv1d_scratch_bytes`]. The output is complete after a barrier, which the caller puts.
///
/// # Panics
/// If shapes do not fit together, or scratch is too short.
pub fn conv1d(ctx: &ThreadCtx<'_>, isa: Isa, work: &[WorkCounter], scratch: SharedSlice<'_, u8>, args: &ConvArgs<'_>) {
    if args.rows == 0 {
        return;
    }
    let groups = match args.kernel {
        ConvKernel::Depthwise(taps) => return depthwise::depthwise(ctx, isa, taps, args),
        ConvKernel::Groups(groups) => groups,
    };
    let mut calls = Calls::new(ctx, isa, work, scratch);
    for (g, weight) in groups.iter().enumerate() {
        let (first_in, first_out) = (g * weight.cols() / args.slides.window().taps, g * weight.rows());
        let part = LinearPart {
            weight,
            bias: args.bias.map(|bias| &bias[first_out..first_out + weight.rows()]),
            out: RowsOut { data: args.out.data.from(first_out), stride: args.out.stride },
        };
        let x = RowsIn { data: args.x.data.get(first_in..).unwrap_or_default(), stride: args.x.stride };
        let call = LinearArgs {
            rows: args.rows,
            batch: args.rows,
            x,
            x_layout: Layout::Rows,
            prologue: Prologue::Window(&args.slides),
            parts: &[part],
            epilogue: args.activation.map_or(Epilogue::None, Epilogue::Activation),
            out_layout: Layout::Rows,
            precision: args.precision,
        };
        match groups.len() {
            1 => linear::linear(ctx, isa, work, scratch, &call),
            _ => calls.linear(&call),
        }
    }
}
