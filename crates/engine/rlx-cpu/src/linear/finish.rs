//! From a tile of products to the output: bias, then the epilogue.

use std::ops::Range;

use super::plan::UNIT;
use super::{Epilogue, LinearArgs, LinearPart};
use crate::Isa;
use crate::math::ActivationMath;

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
    up: Option<(&LinearPart<'_>, &mut [f32])>,
    tokens: Range<usize>,
    first: usize,
) {
    // SAFETY: passed on.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => finish_avx512(isa, args, part, tile, up, tokens, first),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => finish_avx2(isa, args, part, tile, up, tokens, first),
            _ => finish_any(isa, args, part, tile, up, tokens, first),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn finish_avx512(
    isa: Isa,
    args: &LinearArgs<'_>,
    part: &LinearPart<'_>,
    tile: &mut [f32],
    up: Option<(&LinearPart<'_>, &mut [f32])>,
    tokens: Range<usize>,
    first: usize,
) {
    // SAFETY: passed on.
    unsafe { finish_any(isa, args, part, tile, up, tokens, first) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn finish_avx2(
    isa: Isa,
    args: &LinearArgs<'_>,
    part: &LinearPart<'_>,
    tile: &mut [f32],
    up: Option<(&LinearPart<'_>, &mut [f32])>,
    tokens: Range<usize>,
    first: usize,
) {
    // SAFETY: passed on.
    unsafe { finish_any(isa, args, part, tile, up, tokens, first) }
}

/// # Safety
/// No other thread touches these elements of the output.
#[inline(always)]
unsafe fn finish_any(
    isa: Isa,
    args: &LinearArgs<'_>,
    part: &LinearPart<'_>,
    tile: &mut [f32],
    up: Option<(&LinearPart<'_>, &mut [f32])>,
    tokens: Range<usize>,
    first: usize,
) {
    let width = (part.weight.rows() - first).min(UNIT);
    // Whole rows of the tile, whatever lies in its unused columns: a copy of `width` is made last.
    let tile = &mut tile[..tokens.len() * UNIT];
    add_bias(tile, part, first, width);
    match args.epilogue {
        Epilogue::Activation(activation) => activation.apply_slice(isa, tile),
        Epilogue::Gated(activation) => {
            activation.apply_slice(isa, tile);
            if let Some((part, up)) = up {
                add_bias(&mut up[..tile.len()], part, first, width);
                for (y, &u) in tile.iter_mut().zip(up.iter()) {
                    *y *= u;
                }
            }
        }
        Epilogue::Scale(factor) => {
            for y in tile.iter_mut() {
                *y *= factor;
            }
        }
        Epilogue::None | Epilogue::Add(_) | Epilogue::Accumulate => {}
    }
    for (y, t) in tile.as_chunks::<UNIT>().0.iter().zip(tokens) {
        let at = t * part.out.stride + first;
        // SAFETY: the caller's promise.
        let out = unsafe { part.out.data.part(at..at + width) };
        let residual = match args.epilogue {
            Epilogue::Add(residual) => Some(&residual.data[t * residual.stride + first..][..width]),
            _ => None,
        };
        let accumulate = matches!(args.epilogue, Epilogue::Accumulate);
        // A length that is known is moved in registers.
        match <&mut [f32; UNIT]>::try_from(&mut *out) {
            Ok(out) => put(y, residual, accumulate, out),
            Err(_) => put(&y[..width], residual, accumulate, out),
        }
    }
}

/// Writes finished results of one token, after adding what is added to them.
#[inline(always)]
fn put(y: &[f32], residual: Option<&[f32]>, accumulate: bool, out: &mut [f32]) {
    match residual {
        Some(residual) => {
            for ((out, &y), &r) in out.iter_mut().zip(y).zip(residual) {
                *out = y + r;
            }
        }
        None if accumulate => {
            for (out, &y) in out.iter_mut().zip(y) {
                *out += y;
            }
        }
        None => out.copy_from_slice(y),
    }
}

#[inline(always)]
fn add_bias(tile: &mut [f32], part: &LinearPart<'_>, first: usize, width: usize) {
    let Some(bias) = part.bias else { return };
    let bias = &bias[first..first + width];
    let mut padded = [0.0; UNIT];
    padded[..width].copy_from_slice(bias);
    for y in tile.as_chunks_mut::<UNIT>().0 {
        for (y, &b) in y.iter_mut().zip(&padded) {
            *y += b;
        }
    }
}
