//! Activations in lines: some words of a token together, and the same words of a tile's tokens side by side,
//! `[words / line][tokens][line]`. A kernel reads a word of every token at fixed distances, and a row needs no transposing.

use super::plan::{FIXED_BLOCK, FIXED_MAX};
use super::prepare::{FixedMeta, largest_magnitude, round};

/// Bytes of a cache line.
pub(crate) const CACHE_LINE: usize = 64;
/// f32 of a line: those of a cache line.
pub(crate) const LINE: usize = CACHE_LINE / size_of::<f32>();
/// Columns of a line of fixed-point numbers, and their words, which are pairs.
pub(crate) const FIXED_LINE: usize = 64;
pub(crate) const FIXED_WORDS: usize = FIXED_LINE / 2;
/// Pairs of a line for AVX2, which has few tokens in a tile: near enough for the shortest addresses.
pub(crate) const SHORT_LINE: usize = 4;

/// The f32 of a tile's tokens: line `i` of token `t` begins `i * line + t * token` behind `first`.
#[derive(Clone, Copy)]
pub(crate) struct FloatLines {
    pub(crate) first: *const f32,
    pub(crate) line: usize,
    pub(crate) token: usize,
}

#[cfg(target_arch = "x86_64")]
impl FloatLines {
    /// The lines from column `column` of the first on.
    #[inline(always)]
    pub(crate) fn columns_from(self, column: usize) -> FloatLines {
        FloatLines { first: self.first.wrapping_add(column), ..self }
    }
}

/// Distances between tokens' lines: every address is one of two pointers and one of these times 1, 2 or 4, as instructions can say it.
/// With a pointer for each of fourteen tokens there would not be enough registers.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct TokenOffsets {
    one: usize,
    three: usize,
    five: usize,
}

#[cfg(target_arch = "x86_64")]
impl TokenOffsets {
    /// Those of tokens that lie side by side: the compiler knows every distance.
    #[inline(always)]
    pub(crate) fn packed() -> TokenOffsets {
        TokenOffsets { one: LINE, three: 3 * LINE, five: 5 * LINE }
    }

    /// Those of tokens that are `token` apart.
    #[inline(always)]
    pub(crate) fn new(token: usize) -> TokenOffsets {
        // Hidden from the compiler, which would make pointers of them.
        let [one, three, five] = [token, 3 * token, 5 * token].map(std::hint::black_box);
        TokenOffsets { one, three, five }
    }

    /// That of token 7.
    #[inline(always)]
    pub(crate) fn seven(self) -> usize {
        2 * self.one + self.five
    }

    /// The place of token `t` of at most 14, given those of tokens 0 and 7.
    #[inline(always)]
    pub(crate) fn place(self, first: *const f32, seventh: *const f32, t: usize) -> *const f32 {
        let TokenOffsets { one, three, five } = self;
        let (from, t) = if t < 7 { (first, t) } else { (seventh, t - 7) };
        let distance = match t {
            0 => 0,
            1 => one,
            2 => 2 * one,
            3 => three,
            4 => 4 * one,
            5 => five,
            _ => 2 * three,
        };
        from.wrapping_add(distance)
    }
}

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

/// Writes a row as fixed-point numbers, in lines of `COLUMNS`, into token `t`'s place of a tile of `width` tokens, with zeros to the end of
/// its last line, and what goes with the blocks into `meta`, `[blocks][width]`: the sums only `with_sums`. No row of a block is longer
/// than `length`.
///
/// # Safety
/// The tile and `meta` have room for the row's lines and blocks of `width` tokens.
#[inline(always)]
pub(super) unsafe fn put_fixed<const COLUMNS: usize>(
    x: &[f32],
    tile: *mut i32,
    meta: *mut FixedMeta,
    width: usize,
    t: usize,
    length: f32,
    with_sums: bool,
) {
    let block = |b: usize| &x[b * FIXED_BLOCK..x.len().min((b + 1) * FIXED_BLOCK)];
    let blocks = x.len().div_ceil(FIXED_BLOCK);
    let mut next = block_scale(block(0), length);
    for b in 0..blocks {
        let (inverse, scale) = next;
        if b + 1 < blocks {
            // Early: a square root and a division take long, and numbers become integers meanwhile.
            next = block_scale(block(b + 1), length);
        }
        let mut sums = [0i32; FIXED_BLOCK / 16];
        let (whole, rest) = block(b).as_chunks::<COLUMNS>();
        // SAFETY: line `line` of token `t`. Integers go there at once: put together elsewhere, they would be waited for.
        let place = |line: usize| unsafe {
            &mut *tile.add(((b * FIXED_BLOCK / COLUMNS + line) * width + t) * COLUMNS / 2).cast::<[i16; COLUMNS]>()
        };
        for (i, line) in whole.iter().enumerate() {
            put_line(line, inverse, place(i), &mut sums[i * COLUMNS / 16..], with_sums);
        }
        if !rest.is_empty() {
            let mut last = [0.0; COLUMNS];
            last[..rest.len()].copy_from_slice(rest);
            let i = whole.len();
            put_line(&last, inverse, place(i), &mut sums[i * COLUMNS / 16..], with_sums);
        }
        // SAFETY: block `b` of token `t`.
        let meta = unsafe { &mut *meta.add(b * width + t) };
        meta.scale = scale;
        if with_sums {
            meta.halves = sums.map(|sum| scale * sum as f32);
            meta.groups = std::array::from_fn(|g| meta.halves[2 * g] + meta.halves[2 * g + 1]);
        }
    }
}

/// Turns a line into integers and, if wanted, adds those of each sixteen numbers to `sums`.
#[inline(always)]
fn put_line<const COLUMNS: usize>(
    line: &[f32; COLUMNS],
    inverse: f32,
    integers: &mut [i16; COLUMNS],
    sums: &mut [i32],
    with_sums: bool,
) {
    for (integer, &v) in integers.iter_mut().zip(line) {
        *integer = round(v * inverse) as i16;
    }
    if with_sums {
        for (half, integers) in integers.chunks(16).enumerate() {
            sums[half] += integers.iter().map(|&v| i32::from(v)).sum::<i32>();
        }
    }
}

/// Magnitudes whose squares neither overflow in sums nor vanish.
const SQUARABLE: std::ops::Range<f32> = 1e-15..1e15;

/// What the numbers of a block are multiplied by to become integers, and their scale: a row of them is at most `length` long.
#[inline(always)]
fn block_scale(x: &[f32], length: f32) -> (f32, f32) {
    let absmax = largest_magnitude(x);
    if SQUARABLE.contains(&absmax) {
        let inverse = (FIXED_MAX / absmax).min(length / squares(x, 1.0).sqrt());
        return (inverse, 1.0 / inverse);
    }
    let tiny = absmax < FIXED_MAX * f32::MIN_POSITIVE;
    let unit = if tiny { 0.0 } else { 1.0 / absmax };
    let largest = FIXED_MAX.min(length / squares(x, unit).max(1.0).sqrt());
    (unit * largest, if tiny { 0.0 } else { absmax / largest })
}

/// The sum of the squares of `unit` times each number.
#[inline(always)]
fn squares(x: &[f32], unit: f32) -> f32 {
    let mut lanes = [0.0f32; LINE];
    let (whole, rest) = x.as_chunks::<LINE>();
    for line in whole {
        for (lane, &v) in lanes.iter_mut().zip(line) {
            *lane = (v * unit).mul_add(v * unit, *lane);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane = (v * unit).mul_add(v * unit, *lane);
    }
    // Halves onto halves: one addition after the other would take four times as long.
    let mut width = LINE;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}
