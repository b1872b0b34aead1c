//! Activations in the forms that the kernels read, after the norm.

use super::format::{GROUP, GROUP_QUANTS};
use super::lines::{FIXED_LINE, FIXED_WORDS, LINE, SHORT_LINE, put_fixed, put_floats};
use super::plan::{FIXED_BLOCK, INT8_TILE, Plan, TILE_COLS, TILE_ROWS, int8_tile_rows};
use super::{LinearArgs, Prologue};
use crate::{Isa, SharedSlice, ThreadCtx};

/// What goes with a group of 32 activations of one token: `x ≈ scale * q`, and `q` is `128 * high + low`, two int8.
///
/// One int8 would be too coarse where single channels tower over the others. Reading twice as many activations costs little,
/// since the weights are unpacked once.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct GroupMeta {
    /// Largest magnitude over [`MAX_QUANT`]; not a number if any of the values is not.
    pub(crate) scale: f32,
    /// `scale` times the sum of the quants.
    pub(crate) sum: f32,
    /// Sums of the first and the last 16 quants.
    pub(crate) isum: [i32; 2],
}

/// What goes with a block of [`FIXED_BLOCK`] fixed-point activations of one token.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct FixedMeta {
    /// Multiplies the integers; not a number if any of the values is not.
    pub(crate) scale: f32,
    /// Sums of the rounded values of each 16 columns,
    pub(crate) halves: [f32; FIXED_BLOCK / 16],
    /// and of each group.
    pub(crate) groups: [f32; FIXED_BLOCK / GROUP],
}

impl FixedMeta {
    /// The sum that minimum `m` of `mins` of run `run` meets; runs are of `columns` columns.
    #[inline(always)]
    pub(crate) fn sum(&self, columns: usize, mins: usize, run: usize, m: usize) -> f32 {
        let each = columns / mins;
        let at = run * columns % FIXED_BLOCK / each + m;
        if each == GROUP { self.groups[at] } else { self.halves[at] }
    }
}

/// Largest quant of an activation; its high part is an int8 after rounding.
pub(crate) const MAX_QUANT: f32 = 127.0 * 128.0;

/// Bytes of the prepared activations, by form, as pointers into the scratch.
///
/// - int8: tiles of 8 tokens (the last one of [`int8_tile_rows`]); a tile is `[groups][tokens][high, low][32]` i8, and in a
///   region of its own `[groups][tokens]` [`GroupMeta`].
/// - bf16: tiles of 16 tokens, `[tokens / 16][columns / 32][16][32]`; columns beyond the last are zero.
/// - f32: tiles of `float_tile` tokens, each `[columns / 16][tokens][16]`; columns beyond the last are zero.
/// - fixed point: tiles of `float_tile` tokens, each `[pairs / line][tokens][line]` pairs of i16, and in a region of its own
///   `[blocks of columns][tokens]` [`FixedMeta`].
#[derive(Clone, Copy)]
pub(crate) struct Activations {
    int8: *mut i8,
    meta: *mut GroupMeta,
    float: *mut f32,
    bf16: *mut u16,
    fixed: *mut i32,
    fixed_meta: *mut FixedMeta,
    fixed_blocks: usize,
    fixed_lines: usize,
    tile_cols: usize,
    groups: usize,
    cols: usize,
    float_tile: usize,
}

impl Activations {
    /// # Safety
    /// `base` points to the copy of the prepared activations that `plan` laid out.
    pub(crate) unsafe fn new(plan: &Plan, base: *mut u8) -> Activations {
        // SAFETY: the plan's offsets lie inside the copy.
        unsafe {
            let int8 = base.add(plan.int8_at.unwrap_or(0));
            let fixed = base.add(plan.fixed_at.unwrap_or(0));
            Activations {
                int8: int8.cast(),
                meta: int8.add(if plan.int8_at.is_some() { plan.int8_quant_bytes() } else { 0 }).cast(),
                float: base.add(plan.float_at.unwrap_or(0)).cast(),
                bf16: base.add(plan.bf16_at.unwrap_or(0)).cast(),
                fixed: fixed.cast(),
                fixed_meta: fixed.add(if plan.fixed_at.is_some() { plan.fixed_bytes() } else { 0 }).cast(),
                fixed_blocks: plan.fixed_blocks(),
                fixed_lines: plan.fixed_lines(),
                tile_cols: plan.tile_cols(),
                groups: plan.groups(),
                cols: plan.cols,
                float_tile: plan.float_tile,
            }
        }
    }

    /// The same, but for bf16 tiles that an earlier step left.
    pub(crate) fn with_tiles(self, x: &[f32]) -> Activations {
        Activations { bf16: x.as_ptr().cast_mut().cast(), ..self }
    }

    /// Values and scales of int8 tile `tile`.
    pub(crate) fn int8_tile(&self, tile: usize) -> (*const i8, *const GroupMeta) {
        let groups = tile * INT8_TILE * self.groups;
        // SAFETY: the plan reserved full tiles before the last.
        unsafe { (self.int8.add(groups * GROUP_QUANTS), self.meta.add(groups)) }
    }

    /// f32 tile `tile`.
    pub(crate) fn float_tile(&self, tile: usize) -> *const f32 {
        // SAFETY: as above.
        unsafe { self.float.add(tile * self.float_tile * self.cols.next_multiple_of(LINE)) }
    }

    /// Pairs of integers and scales of fixed-point tile `tile`.
    pub(crate) fn fixed_tile(&self, tile: usize) -> (*const i32, *const FixedMeta) {
        let tokens = tile * self.float_tile;
        let (lines, blocks) = (tokens * self.fixed_lines, tokens * self.fixed_blocks);
        // SAFETY: as above.
        unsafe { (self.fixed.add(lines * FIXED_WORDS), self.fixed_meta.add(blocks)) }
    }

    /// The tiles of the 16 tokens of block `block`.
    pub(crate) fn bf16_block(&self, block: usize) -> *const u16 {
        // SAFETY: as above.
        unsafe { self.bf16.add(block * TILE_ROWS * self.tile_cols) }
    }
}

/// Prepares the activations of a call: this thread's share of the rows and a barrier, or all of them for itself.
///
/// # Safety
/// `acts` and `row`, which has room for a row, come from `plan`; the machine has `isa`.
pub(crate) unsafe fn prepare(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    plan: &Plan,
    args: &LinearArgs<'_>,
    acts: &Activations,
    row: &mut [f32],
) {
    // Whole tiles where there are enough, so that threads do not write to the same cache lines.
    let granularity = if plan.rows < 64 * ctx.count() { 1 } else { TILE_ROWS };
    let tokens = if plan.redundant { 0..plan.rows } else { ctx.share(plan.rows, granularity) };
    // SAFETY: the caller's promises; tokens are this thread's own.
    unsafe { rows(isa, plan, args, acts, row, tokens) };
    if !plan.redundant {
        ctx.barrier();
    }
}

/// The forms that are prepared row by row.
///
/// # Safety
/// As [`prepare`], and no other thread prepares `tokens`.
unsafe fn rows(
    isa: Isa,
    plan: &Plan,
    args: &LinearArgs<'_>,
    acts: &Activations,
    row: &mut [f32],
    tokens: std::ops::Range<usize>,
) {
    // SAFETY: passed on.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx => rows_avx512(plan, args, acts, row, tokens),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => rows_avx2(plan, args, acts, row, tokens),
            _ => rows_any(plan, args, acts, row, tokens),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn rows_avx512(
    plan: &Plan,
    args: &LinearArgs<'_>,
    acts: &Activations,
    row: &mut [f32],
    tokens: std::ops::Range<usize>,
) {
    // SAFETY: passed on.
    unsafe { rows_any(plan, args, acts, row, tokens) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows_avx2(
    plan: &Plan,
    args: &LinearArgs<'_>,
    acts: &Activations,
    row: &mut [f32],
    tokens: std::ops::Range<usize>,
) {
    // SAFETY: passed on.
    unsafe { rows_any(plan, args, acts, row, tokens) }
}

/// # Safety
/// `acts` was laid out by `plan`, and no other thread prepares `tokens`.
#[inline(always)]
unsafe fn rows_any(
    plan: &Plan,
    args: &LinearArgs<'_>,
    acts: &Activations,
    row: &mut [f32],
    tokens: std::ops::Range<usize>,
) {
    let last = tokens.end == plan.rows && !tokens.is_empty();
    for t in tokens {
        let x = match prepared_row(args, t, row) {
            Some(x) => x,
            None => &*row,
        };
        // SAFETY: row `t` of each form lies inside the plan's layout and is this thread's.
        unsafe {
            if plan.int8_at.is_some() {
                let tile = t / INT8_TILE;
                let width = int8_tile_rows((plan.rows - tile * INT8_TILE).min(INT8_TILE));
                let (q, meta) = acts.int8_tile(tile);
                quantise(x, q.cast_mut(), meta.cast_mut(), width, t % INT8_TILE);
            }
            if plan.bf16_at.is_some() {
                let tiles = acts.bf16_block(t / TILE_ROWS).cast_mut().add(t % TILE_ROWS * TILE_COLS);
                round_to_tiles(x, tiles);
            }
            let (tile, width) = (t / plan.float_tile, plan.float_tile);
            if plan.float_at.is_some() {
                put_floats(x, acts.float_tile(tile).cast_mut(), width, t % width);
            }
            if plan.fixed_at.is_some() {
                let (words, meta) = acts.fixed_tile(tile);
                let (words, meta) = (words.cast_mut(), meta.cast_mut());
                let (t, length, sums) = (t % width, plan.fixed_length, plan.fixed_sums);
                // Called by name, so as to be compiled for this instruction set.
                if plan.short_lines() {
                    put_fixed::<{ 2 * SHORT_LINE }>(x, words, meta, width, t, length, sums);
                } else {
                    put_fixed::<FIXED_LINE>(x, words, meta, width, t, length, sums);
                }
            }
        }
    }
    // The places of tokens that there are not are multiplied too: with numbers that cost no more than others.
    if last && plan.float_at.is_some() {
        row.fill(0.0);
        for t in plan.rows..plan.float_tiles() * plan.float_tile {
            // SAFETY: the last tile is a whole one; the last token's thread writes there alone.
            unsafe {
                let tile = acts.float_tile(t / plan.float_tile).cast_mut();
                put_floats(row, tile, plan.float_tile, t % plan.float_tile);
            }
        }
    }
}

/// Row `t` of the activations: as it is, or (`None`) in `out` after the prologue.
#[inline(always)]
pub(super) fn prepared_row<'a>(args: &LinearArgs<'a>, t: usize, out: &mut [f32]) -> Option<&'a [f32]> {
    match args.prologue {
        Prologue::None => return Some(args.x.row(t, out.len())),
        Prologue::RmsNorm { weight, eps } => rms_norm(args.x.row(t, out.len()), weight, eps, out),
        Prologue::LayerNorm { weight, bias, eps } => layer_norm(args.x.row(t, out.len()), weight, bias, eps, out),
        Prologue::Window(slides) => slides.gather(args.x, t, out),
    }
    None
}

/// Partial sums kept side by side, so that sums of rows vectorise.
const LANES: usize = 16;

#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f(v);
        }
    }
    let tail: f32 = rest.iter().map(|&v| f(v)).sum();
    lanes.iter().sum::<f32>() + tail
}

#[inline(always)]
fn rms_norm(x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let factor = 1.0 / (sum(x, |v| v * v) / x.len() as f32 + eps).sqrt();
    match weight {
        Some(weight) => {
            for ((out, &v), &w) in out.iter_mut().zip(x).zip(weight) {
                *out = v * factor * w;
            }
        }
        None => {
            for (out, &v) in out.iter_mut().zip(x) {
                *out = v * factor;
            }
        }
    }
}

#[inline(always)]
fn layer_norm(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let mean = sum(x, |v| v) / x.len() as f32;
    let variance = sum(x, |v| (v - mean) * (v - mean)) / x.len() as f32;
    let factor = 1.0 / (variance + eps).sqrt();
    for (out, &v) in out.iter_mut().zip(x) {
        *out = (v - mean) * factor;
    }
    if let Some(weight) = weight {
        for (out, &w) in out.iter_mut().zip(weight) {
            *out *= w;
        }
    }
    if let Some(bias) = bias {
        for (out, &b) in out.iter_mut().zip(bias) {
            *out += b;
        }
    }
}

/// Quantises one row into place `t` of a tile of `width` tokens.
///
/// # Safety
/// The tile has room for `x.len() / 32` groups of `width` tokens.
#[inline(always)]
unsafe fn quantise(x: &[f32], q: *mut i8, meta: *mut GroupMeta, width: usize, t: usize) {
    for (g, x) in x.as_chunks::<GROUP>().0.iter().enumerate() {
        let absmax = largest_magnitude(x);
        // Values near the subnormals count as zero: their reciprocal would overflow.
        let tiny = absmax < MAX_QUANT * f32::MIN_POSITIVE;
        let scale = if tiny { 0.0 } else { absmax / MAX_QUANT };
        let inverse = if tiny { 0.0 } else { MAX_QUANT / absmax };
        let mut quants = [[0i8; GROUP]; 2];
        let mut sums = [0i32; 2];
        for (half, sum) in sums.iter_mut().enumerate() {
            for i in 16 * half..16 * half + 16 {
                let value = round(x[i] * inverse);
                let high = value.wrapping_add(64) >> 7;
                quants[0][i] = high as i8;
                quants[1][i] = value.wrapping_sub(high << 7) as i8;
                *sum = sum.wrapping_add(value);
            }
        }
        // SAFETY: group `g`, token `t` of the tile.
        unsafe {
            q.add((g * width + t) * GROUP_QUANTS).cast::<[[i8; GROUP]; 2]>().write_unaligned(quants);
            let sum = scale * sums[0].wrapping_add(sums[1]) as f32;
            meta.add(g * width + t).write(GroupMeta { scale, sum, isum: sums });
        }
    }
}

/// The largest magnitude; infinity and NaN count as larger than all numbers.
#[inline(always)]
pub(super) fn largest_magnitude(x: &[f32]) -> f32 {
    // As integers, magnitudes order like their values, with infinity and NaN on top.
    let mut largest = 0i32;
    for &v in x {
        largest = largest.max((v.to_bits() & 0x7FFF_FFFF) as i32);
    }
    f32::from_bits(largest as u32)
}

/// Rounds one row to bf16, into its place in a run of tiles.
///
/// # Safety
/// `tiles` points to the row's place in the first tile of as many as the row needs.
#[inline(always)]
unsafe fn round_to_tiles(x: &[f32], tiles: *mut u16) {
    let (whole, rest) = x.as_chunks::<TILE_COLS>();
    let mut last = [0.0; TILE_COLS];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    for (i, x) in whole.iter().chain(last).enumerate() {
        let mut rounded = [0u16; TILE_COLS];
        for (out, v) in rounded.iter_mut().zip(x) {
            let bits = v.to_bits();
            // To nearest even; a NaN keeps its top bits and its quiet bit, which rounding could carry away.
            let nearest = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
            *out = if bits & 0x7FFF_FFFF > 0x7F80_0000 { bits >> 16 | 0x40 } else { nearest } as u16;
        }
        // SAFETY: the caller's promise.
        unsafe { tiles.add(i * TILE_ROWS * TILE_COLS).cast::<[u16; TILE_COLS]>().write_unaligned(rounded) };
    }
}

/// The nearest integer, ties to even, for magnitudes up to 2^22: adding 1.5 * 2^23 leaves it in the low mantissa bits.
#[inline(always)]
pub(super) fn round(v: f32) -> i32 {
    ((v + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4B40_0000)
}

/// The thread's copy of the scratch as a raw pointer, aligned to 64 bytes.
///
/// # Panics
/// If the scratch is too small for the plan.
pub(crate) fn aligned_base(scratch: SharedSlice<'_, u8>, needed: usize) -> *mut u8 {
    let start = scratch.as_mut_ptr();
    let skip = start.align_offset(64);
    assert!(skip + needed <= scratch.len(), "scratch of {} bytes, {} needed", scratch.len(), needed + 64);
    // SAFETY: inside the scratch by the check above.
    unsafe { start.add(skip) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even() {
        for (v, want) in [(0.5, 0), (1.5, 2), (-1.5, -2), (126.7, 127), (-127.0, -127), (0.0, 0)] {
            assert_eq!(round(v), want, "{v}");
        }
    }

    #[test]
    fn quantises_the_edges() {
        for (x, finite) in [(0.0, true), (1e-40, true), (1e30, true), (f32::INFINITY, false), (f32::NAN, false)] {
            let mut values = [0.25 * if x > 1.0 { x } else { 1.0 }; GROUP];
            if x < 1.0 {
                values = [x; GROUP];
            }
            values[7] = x;
            let (mut q, mut meta) = ([0i8; GROUP_QUANTS], GroupMeta::default());
            // SAFETY: one group of one token.
            unsafe { quantise(&values, q.as_mut_ptr(), &mut meta, 1, 0) };
            assert_eq!(meta.scale.is_finite(), finite, "{x}: {meta:?}");
            if finite {
                let got = meta.scale * (128 * i32::from(q[7]) + i32::from(q[GROUP + 7])) as f32;
                assert!((got - x).abs() <= 0.5 / MAX_QUANT * 1.01 * x.abs() + 1e-35, "{x}: {got}");
            }
        }
    }
}
