//! Activations in lines: some words of a token together, and the same words of a tile's tokens side by side,
//! `[words / line][tokens][line]`. A kernel reads a word of every token at fixed distances, and a row needs no transposing.

use super::plan::{FIXED_BLOCK, FIXED_MAX};
use super::prepare::{FixedMeta, largest_magnitude, round};

/// f32 of a line: those of a cache line.
pub(crate) const LINE: usize = 16;
/// Columns of a line of fixed-point numbers, and their words, which are pairs.
pub(crate) const FIXED_LINE: usize = 64;
pub(crate) const FIXED_WORDS: usize = FIXED_LINE / 2;
/// Pairs of a line for AVX2, which has few tokens in a tile: near enough for the shortest addresses.
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
/// last [`FIXED_LINE`], and what goes with the blocks into `meta`, `[blocks][width]`: the sums only `with_sums`. No row of a block is longer than
/// `length`.
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
    length: f32,
    with_sums: bool,
) {
    let (whole, rest) = x.as_chunks::<FIXED_BLOCK>();
    let mut last = [0.0; FIXED_BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    for (b, block) in whole.iter().chain(last).enumerate() {
        let (integers, scale) = to_fixed(block, length);
        let mut sums = FixedMeta { scale, ..FixedMeta::default() };
        if with_sums {
            sums.halves = halves(&integers, scale);
            sums.groups = std::array::from_fn(|g| sums.halves[2 * g] + sums.halves[2 * g + 1]);
        }
        // SAFETY: block `b` of token `t`, and its lines.
        unsafe {
            meta.add(b * width + t).write(sums);
            let words: &[i32] = bytemuck::cast_slice(&integers.0);
            let columns = (x.len() - b * FIXED_BLOCK).next_multiple_of(FIXED_LINE).min(FIXED_BLOCK);
            for (i, line) in words[..columns / 2].as_chunks::<WORDS>().0.iter().enumerate() {
                let at = b * FIXED_BLOCK / 2 / WORDS + i;
                tile.add((at * width + t) * WORDS).cast::<[i32; WORDS]>().write(*line);
            }
        }
    }
}

/// Integers that can be read as words.
#[repr(C, align(64))]
struct Integers([i16; FIXED_BLOCK]);

/// A block as fixed-point numbers, and their scale.
#[inline(always)]
fn to_fixed(x: &[f32; FIXED_BLOCK], length: f32) -> (Integers, f32) {
    let absmax = largest_magnitude(x);
    let tiny = absmax < FIXED_MAX * f32::MIN_POSITIVE;
    let unit = if tiny { 0.0 } else { 1.0 / absmax };
    // Of numbers up to 1: squares neither overflow nor vanish.
    let mut squares = [0.0f32; LINE];
    for line in x.as_chunks::<LINE>().0 {
        for (square, &v) in squares.iter_mut().zip(line) {
            *square = (v * unit).mul_add(v * unit, *square);
        }
    }
    let largest = FIXED_MAX.min(length / squares.iter().sum::<f32>().max(1.0).sqrt());
    let scale = if tiny { 0.0 } else { absmax / largest };
    let inverse = unit * largest;
    let mut integers = Integers([0; FIXED_BLOCK]);
    for (out, &v) in integers.0.iter_mut().zip(x) {
        *out = round(v * inverse) as i16;
    }
    (integers, scale)
}

/// Sums of the rounded values of each 16 columns.
#[inline(always)]
fn halves(integers: &Integers, scale: f32) -> [f32; FIXED_BLOCK / 16] {
    let mut halves = [0.0; FIXED_BLOCK / 16];
    for (half, integers) in halves.iter_mut().zip(integers.0.as_chunks::<16>().0) {
        *half = scale * integers.iter().map(|&v| i32::from(v)).sum::<i32>() as f32;
    }
    halves
}
