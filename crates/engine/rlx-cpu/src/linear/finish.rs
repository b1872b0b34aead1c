//! From a tile of products to the output: bias, then the epilogue.

use std::ops::Range;

use super::activate::activate;
use super::plan::UNIT;
use super::{Epilogue, LinearArgs, LinearPart};
use crate::Isa;

/// Finishes the products of `tokens` with the rows of a unit that starts at row `first`; `tile[i * UNIT + j]` is token
/// `tokens.start + i`, row `first + j`. With a gate, `up` is the second part and its tile.
///
/// # Safety
/// The machine has `isa`, and no other thread touches these elements of the output.
pub(crate) unsafe fn finish(
    isa: Isa,
    args: &LinearArgs<'_>,
    part: &LinearPart<'_>,
    tile: &mut [f32],
    up: Option<(&&LinearPart<'_>, &mut [f32])>,
    tokens: Range<usize>,
    first: usize,
) {
    // SAFETY: passed on.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => finish_avx512(args, part, tile, up, tokens, first),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => finish_avx2(args, part, tile, up, tokens, first),
            _ => finish_any(args, part, tile, up, tokens, first),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn finish_avx512(
    args: &LinearArgs<'_>,
    part: &LinearPart<'_>,
    tile: &mut [f32],
    up: Option<(&&LinearPart<'_>, &mut [f32])>,
    tokens: Range<usize>,
    first: usize,
) {
    // SAFETY: passed on.
    unsafe { finish_any(args, part, tile, up, tokens, first) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn finish_avx2(
    args: &LinearArgs<'_>,
    part: &LinearPart<'_>,
    tile: &mut [f32],
    up: Option<(&&LinearPart<'_>, &mut [f32])>,
    tokens: Range<usize>,
    first: usize,
) {
    // SAFETY: passed on.
    unsafe { finish_any(args, part, tile, up, tokens, first) }
}

/// # Safety
/// No other thread touches these elements of the output.
#[inline(always)]
unsafe fn finish_any(
    args: &LinearArgs<'_>,
    part: &LinearPart<'_>,
    tile: &mut [f32],
    mut up: Option<(&&LinearPart<'_>, &mut [f32])>,
    tokens: Range<usize>,
    first: usize,
) {
    let width = (part.weight.rows() - first).min(UNIT);
    for (i, t) in tokens.enumerate() {
        let y: &mut [f32; UNIT] = (&mut tile[i * UNIT..(i + 1) * UNIT]).try_into().expect("a row of the tile");
        add_bias(y, part, first, width);
        let at = t * part.out.stride + first;
        // SAFETY: the caller's promise.
        let out = unsafe { part.out.data.part(at..at + width) };
        match args.epilogue {
            Epilogue::None => {}
            Epilogue::Add(residual) => {
                let at = t * residual.stride + first;
                for (y, &r) in y.iter_mut().zip(&residual.data[at..at + width]) {
                    *y += r;
                }
            }
            Epilogue::Accumulate => {
                for (y, &o) in y.iter_mut().zip(out.iter()) {
                    *y += o;
                }
            }
            Epilogue::Scale(factor) => {
                for y in y.iter_mut() {
                    *y *= factor;
                }
            }
            Epilogue::Activation(activation) => activate(activation, y),
            Epilogue::Gated(activation) => {
                activate(activation, y);
                if let Some((part, tile)) = &mut up {
                    let up: &mut [f32; UNIT] = (&mut tile[i * UNIT..(i + 1) * UNIT]).try_into().expect("a row");
                    add_bias(up, part, first, width);
                    for (y, &u) in y.iter_mut().zip(up.iter()) {
                        *y *= u;
                    }
                }
            }
        }
        if width == UNIT {
            out.copy_from_slice(y);
        } else {
            out.copy_from_slice(&y[..width]);
        }
    }
}

#[inline(always)]
fn add_bias(y: &mut [f32; UNIT], part: &LinearPart<'_>, first: usize, width: usize) {
    if let Some(bias) = part.bias {
        for (y, &b) in y.iter_mut().zip(&bias[first..first + width]) {
            *y += b;
        }
    }
}
