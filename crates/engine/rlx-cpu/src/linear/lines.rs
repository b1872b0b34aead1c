//! Activations in lines: some words of a token together, and the same words of a tile's tokens side by side,
//! `[words / line][tokens][line]`. A kernel reads a word of every token at fixed distances, and a row needs no transposing.

use super::plan::{FIXED_BLOCK, FIXED_MAX_ACTIVATION};
use super::prepare::{FixedMeta, largest_magnitude, round};

/// f32 of a line: those of a cache line.
pub(crate) const LINE: usize = 16;
/// Words of a block of fixed-point pairs.
pub(crate) const FIXED_WORDS: usize = FIXED_BLOCK / 2;
/// Pairs of a line for AVX2, which has few tokens in a tile: near enough for the shortest addresses. AVX-512 has whole blocks.
pub(crate) const SHORT_LINE: usize = 4;

/// Repeats a block for `$t` of `0..$tokens`, at most 14, each time with a literal: an array that is only indexed by literals lies in
/// registers for certain, where a loop may leave it in memory.
macro_rules! for_each_token {
    ($t:ident in $tokens:ident $body:block) => {
        $crate::linear::lines::for_each_token!($t $tokens $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($t:ident $tokens:ident $body:block $($i:literal)*) => {
        $(if $i < $tokens {
            let $t = $i;
            $body
        })*
    };
}
pub(crate) use for_each_token;

/// Writes a row as f32 into token `t`'s place of a tile of `width` tokens, with zeros to the end of its last line.
///
/// # Safety
/// The tile has room for the row's lines of `width` tokens.
#[inline(always)]
pub(super) unsafe fn put_floats(x: &[f32], tile: *mut f32, width: usize, t: usize) {
    let (whole, rest) = x.as_chunks::<LINE>();
    let mut last = [0.0; LINE];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    for (i, line) in whole.iter().chain(last).enumerate() {
        // SAFETY: line `i` of token `t`.
        unsafe { tile.add((i * width + t) * LINE).cast::<[f32; LINE]>().write(*line) };
    }
}

/// Writes a row as fixed-point numbers, pairs of i16 in lines of `WORDS`, into token `t`'s place of a tile of `width` tokens, with zeros to the end of its
/// last block, and what goes with the blocks into `meta`, `[blocks][width]`: the sums only `with_sums`.
///
/// # Safety
/// The tile and `meta` have room for the row's blocks of `width` tokens.
#[inline(always)]
pub(super) unsafe fn put_fixed<const WORDS: usize>(
    x: &[f32],
    tile: *mut i32,
    meta: *mut FixedMeta,
    width: usize,
    t: usize,
    with_sums: bool,
) {
    let (whole, rest) = x.as_chunks::<FIXED_BLOCK>();
    let mut last = [0.0; FIXED_BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    for (b, block) in whole.iter().chain(last).enumerate() {
        let (integers, scale) = to_fixed(block);
        let mut sums = FixedMeta { scale, ..FixedMeta::default() };
        if with_sums {
            sums.halves = halves(&integers, scale);
            sums.groups = [sums.halves[0] + sums.halves[1], sums.halves[2] + sums.halves[3]];
        }
        // SAFETY: block `b` of token `t`, and its lines.
        unsafe {
            meta.add(b * width + t).write(sums);
            let lines = bytemuck::cast::<_, [i32; FIXED_WORDS]>(integers);
            for (i, line) in lines.as_chunks::<WORDS>().0.iter().enumerate() {
                let at = b * FIXED_WORDS / WORDS + i;
                tile.add((at * width + t) * WORDS).cast::<[i32; WORDS]>().write(*line);
            }
        }
    }
}

/// A block as fixed-point numbers, and their scale.
#[inline(always)]
fn to_fixed(x: &[f32; FIXED_BLOCK]) -> ([i16; FIXED_BLOCK], f32) {
    let absmax = largest_magnitude(x);
    let tiny = absmax < FIXED_MAX_ACTIVATION * f32::MIN_POSITIVE;
    let scale = if tiny { 0.0 } else { absmax / FIXED_MAX_ACTIVATION };
    let inverse = if tiny { 0.0 } else { FIXED_MAX_ACTIVATION / absmax };
    let mut integers = [0i16; FIXED_BLOCK];
    for (out, &v) in integers.iter_mut().zip(x) {
        *out = round(v * inverse) as i16;
    }
    (integers, scale)
}

/// Sums of the rounded values of each 16 columns.
#[inline(always)]
fn halves(integers: &[i16; FIXED_BLOCK], scale: f32) -> [f32; FIXED_BLOCK / 16] {
    let mut halves = [0.0; FIXED_BLOCK / 16];
    for (half, integers) in halves.iter_mut().zip(integers.as_chunks::<16>().0) {
        *half = scale * integers.iter().map(|&v| i32::from(v)).sum::<i32>() as f32;
    }
    halves
}
