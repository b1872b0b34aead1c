//! From a tile of products to the output: bias, then the epilogue, in one pass.

use std::ops::Range;

use half::bf16;
use rlx_ir::Activation;

use super::plan::UNIT;
use super::{Epilogue, Layout, LinearArgs, LinearPart, RowsIn};
use crate::Isa;
use crate::math::activate;
use crate::math::simd::{Simd, simd_dispatch};

/// Finishes the products of `tokens` with `rows`: `tile[i * UNIT + j]` is token `tokens.start + i`, row `rows.start + j`; a single token may have more rows than a unit. With a gate, `up` is the second part and its tile.
///
/// # Safety
/// The machine has `isa`, and no other thread touches these elements of the output.
pub(crate) unsafe fn finish<'a>(
    isa: Isa,
    args: &LinearArgs<'_>,
    part: &LinearPart<'a>,
    tile: &'a [f32],
    up: Option<(&LinearPart<'a>, &'a [f32])>,
    tokens: Range<usize>,
    rows: Range<usize>,
) {
    let products = |part: &LinearPart<'a>, tile| Products { tile, bias: part.bias.map(|bias| &bias[rows.clone()]) };
    let up = up.map(|(part, tile)| products(part, tile));
    finished(isa, args, part, &Finish { tile: products(part, tile), up, tokens, rows });
}

/// The products of a part, and what is added to those of each token.
struct Products<'a> {
    tile: &'a [f32],
    bias: Option<&'a [f32]>,
}

impl Products<'_> {
    /// The sums of token `i` from the `j`-th row on.
    #[inline(always)]
    fn load<V: Simd>(&self, i: usize, j: usize) -> V {
        let tile = &self.tile[i * UNIT + j..][..V::LANES];
        // SAFETY: LANES elements, and as many of the bias as there are.
        unsafe {
            let sums = V::load(tile.as_ptr());
            match self.bias.map(|bias| &bias[j..]) {
                None => sums,
                Some(bias) if bias.len() >= V::LANES => sums + V::load(bias.as_ptr()),
                Some(bias) => sums + V::load_part(bias.as_ptr(), bias.len()),
            }
        }
    }
}

/// What is finished, and where it goes.
struct Finish<'a> {
    tile: Products<'a>,
    up: Option<Products<'a>>,
    tokens: Range<usize>,
    rows: Range<usize>,
}

simd_dispatch! {
    fn finished(args: &LinearArgs<'_>, part: &LinearPart<'_>, what: &Finish<'_>) = finished_v
}

#[inline(always)]
fn finished_v<V: Simd>(args: &LinearArgs<'_>, part: &LinearPart<'_>, what: &Finish<'_>) {
    match args.out_layout {
        Layout::Rows => finished_in::<V, false>(args.epilogue, part, what),
        Layout::Tiles => finished_in::<V, true>(args.epilogue, part, what),
    }
}

#[inline(always)]
fn finished_in<V: Simd, const TILES: bool>(epilogue: Epilogue<'_>, part: &LinearPart<'_>, what: &Finish<'_>) {
    // Each function is a loop of its own.
    macro_rules! activated {
        ($chosen:expr, $($name:ident)*) => {
            match $chosen {
                $(Activation::$name => what.put::<V, TILES>(part, None, false, |y| activate(Activation::$name, y)),)*
            }
        };
    }
    match epilogue {
        Epilogue::None => what.put::<V, TILES>(part, None, false, |y| y),
        Epilogue::Add(residual) => what.put::<V, TILES>(part, Some(residual), false, |y| y),
        Epilogue::Accumulate => what.put::<V, TILES>(part, None, true, |y| y),
        Epilogue::Scale(factor) => what.put::<V, TILES>(part, None, false, |y| y * V::splat(factor)),
        Epilogue::Activation(activation) | Epilogue::Gated(activation) => {
            activated!(activation, Silu GeluTanh GeluErf QuickGelu Relu Relu2 Sigmoid Tanh);
        }
    }
}

impl Finish<'_> {
    /// Writes `function` of each sum, times that of the gate's second part, plus the residual or what is there (of rows).
    #[inline(always)]
    fn put<V: Simd, const TILES: bool>(
        &self,
        part: &LinearPart<'_>,
        residual: Option<RowsIn<'_>>,
        accumulate: bool,
        function: impl Fn(V) -> V,
    ) {
        let width = self.rows.len();
        for (i, t) in self.tokens.clone().enumerate() {
            let residual = residual.map(|rows| &rows.data[t * rows.stride + self.rows.start..][..width]);
            let value = |j: usize| {
                let y = function(self.tile.load::<V>(i, j));
                self.up.as_ref().map_or(y, |up| y * up.load::<V>(i, j))
            };
            if TILES {
                let block = self.rows.start / UNIT;
                // SAFETY: `finish`'s caller promises that no other thread touches these elements.
                let line = unsafe { part.out.tile_line(t, block, part.weight.rows()) };
                put_line::<V>(line, width, residual, value);
            } else {
                let at = t * part.out.stride + self.rows.start;
                // SAFETY: as above.
                put_row::<V>(unsafe { part.out.data.part(at..at + width) }, residual, accumulate, value);
            }
        }
    }
}

/// Writes a row of `value`s, plus the residual or what is there.
#[inline(always)]
fn put_row<V: Simd>(out: &mut [f32], residual: Option<&[f32]>, accumulate: bool, value: impl Fn(usize) -> V) {
    for j in (0..out.len()).step_by(V::LANES) {
        let (y, n) = (value(j), out.len() - j);
        let place = out[j..].as_mut_ptr();
        let added = match residual {
            Some(residual) => Some(residual[j..].as_ptr()),
            None => accumulate.then_some(place.cast_const()),
        };
        // SAFETY: n elements are left of the output, and of what is added.
        unsafe {
            if n >= V::LANES {
                added.map_or(y, |added| y + V::load(added)).store(place);
            } else {
                added.map_or(y, |added| y + V::load_part(added, n)).store_part(place, n);
            }
        }
    }
}

/// Writes the `width` first numbers of a line of a tile, `value`s plus the residual, and zeros after them.
#[inline(always)]
fn put_line<V: Simd>(line: &mut [bf16; UNIT], width: usize, residual: Option<&[f32]>, value: impl Fn(usize) -> V) {
    for j in (0..UNIT).step_by(V::LANES) {
        let n = width.saturating_sub(j).min(V::LANES);
        // SAFETY: n elements are left of what is added, and all lanes of the line.
        unsafe {
            let mut y = if n == 0 { V::zero() } else { value(j) };
            if let (Some(residual), 1..) = (residual, n) {
                let residual = residual[j..].as_ptr();
                y = y + if n == V::LANES { V::load(residual) } else { V::load_part(residual, n) };
            }
            if n < V::LANES {
                let mut kept = [0.0; UNIT];
                y.store(kept.as_mut_ptr());
                y = V::load_part(kept.as_ptr(), n);
            }
            y.store_bf16(line[j..].as_mut_ptr());
        }
    }
}
