//! Kernels in plain Rust: they run everywhere and are what the others are tested against.

use half::{bf16, f16};
use rlx_ir::DType;

use super::fetch::Fetch;
use super::format::{BLOCK_GROUPS, Format, GROUP, GROUP_QUANTS, PANEL, quad, scale_min};
use super::lines::{FloatLines, LINE};
use super::plan::{INT8_TILE, MAX_TILE, UNIT};
use super::prepare::GroupMeta;

/// An int8 tile times `panels` panels: `out[t * UNIT + 16 * panel + row]`.
///
/// # Safety
/// From `first` on lie `panels` panels of `groups` groups of `F`, at least one, and of several tokens at most two; `q` and `meta` hold
/// an int8 tile of `tokens` (at most 8) tokens; `out` has room for the results.
pub(crate) unsafe fn int8<F: Format>(
    first: *const u8,
    panels: usize,
    groups: usize,
    q: *const i8,
    meta: *const GroupMeta,
    tokens: usize,
    out: *mut f32,
    _next: *const u8,
) {
    // SAFETY: the caller's promises give the lengths.
    let (all, q, meta) = unsafe {
        (
            std::slice::from_raw_parts(first, panels * F::panel_bytes(groups)),
            std::slice::from_raw_parts(q, groups * tokens * GROUP_QUANTS),
            std::slice::from_raw_parts(meta, groups * tokens),
        )
    };
    for (p, panel) in all.chunks_exact(F::panel_bytes(groups)).enumerate() {
        let sums = int8_panel::<F>(panel, groups, q, meta, tokens);
        for (t, sums) in sums[..tokens].iter().enumerate() {
            // SAFETY: `out` has room for the tokens' results.
            unsafe { out.add(t * UNIT + p * PANEL).cast::<[f32; PANEL]>().write_unaligned(*sums) };
        }
    }
}

/// The sums of each token with the rows of a panel.
fn int8_panel<F: Format>(
    panel: &[u8],
    groups: usize,
    q: &[i8],
    meta: &[GroupMeta],
    tokens: usize,
) -> [[f32; PANEL]; INT8_TILE] {
    let mut sums = [[0.0f32; PANEL]; INT8_TILE];
    let mut at = 0;
    for first in (0..groups).step_by(BLOCK_GROUPS) {
        let count = (groups - first).min(BLOCK_GROUPS);
        let header = &panel[at..];
        for g in 0..count {
            let quants = &header[F::header_bytes(count) + g * F::QUANT_BYTES..];
            for row in 0..PANEL {
                let weights: [[u8; 4]; 8] = std::array::from_fn(|line| quad::<F>(quants, line, row));
                for t in 0..tokens {
                    let (high, low) = q[((first + g) * tokens + t) * GROUP_QUANTS..][..GROUP_QUANTS].split_at(GROUP);
                    let meta = &meta[(first + g) * tokens + t];
                    let per_scale = 8 / F::SCALES;
                    for s in 0..F::SCALES {
                        let isum = if F::SCALES == 1 { meta.isum[0].wrapping_add(meta.isum[1]) } else { meta.isum[s] };
                        let mut dot = isum.wrapping_mul(-F::ZERO);
                        for line in s * per_scale..(s + 1) * per_scale {
                            for b in 0..4 {
                                let at = 4 * line + b;
                                let x = 128 * i32::from(high[at]) + i32::from(low[at]);
                                dot = dot.wrapping_add(i32::from(weights[line][b]) * x);
                            }
                        }
                        let (scale, min) = scale_min::<F>(header, g, s, row);
                        sums[t][row] += dot as f32 * (scale * meta.scale);
                        if F::MIN_SIGN != 0 {
                            sums[t][row] += min * (meta.scale * isum as f32);
                        }
                    }
                }
            }
        }
        at += F::block_bytes(count);
    }
    sums
}

/// Dequantises a panel to `[columns][16]` f32, exactly.
///
/// # Safety
/// `panel` holds `groups` groups of `F`, `out` has room for `groups * 32 * 16` values.
pub(crate) unsafe fn dequantise<F: Format>(panel: *const u8, groups: usize, out: *mut f32) {
    // SAFETY: the caller's promises give the lengths.
    let (panel, out) = unsafe {
        (
            std::slice::from_raw_parts(panel, F::panel_bytes(groups)),
            std::slice::from_raw_parts_mut(out, groups * GROUP * PANEL),
        )
    };
    let mut at = 0;
    for block in out.chunks_mut(BLOCK_GROUPS * GROUP * PANEL) {
        let count = block.len() / (GROUP * PANEL);
        let header = &panel[at..];
        for (g, group) in block.chunks_exact_mut(GROUP * PANEL).enumerate() {
            let quants = &header[F::header_bytes(count) + g * F::QUANT_BYTES..];
            for row in 0..PANEL {
                for line in 0..8 {
                    let (scale, min) = scale_min::<F>(header, g, line * F::SCALES / 8, row);
                    for (b, q) in quad::<F>(quants, line, row).into_iter().enumerate() {
                        let mut value = scale * (q as i32 - F::ZERO) as f32;
                        if F::MIN_SIGN != 0 {
                            value += min;
                        }
                        group[(4 * line + b) * PANEL + row] = value;
                    }
                }
            }
        }
        at += F::block_bytes(count);
    }
}

/// Two columns of a float panel as f32: `[2][16]`.
#[inline(always)]
fn column_pair(dtype: DType, panel: &[u8], pair: usize) -> [[f32; PANEL]; 2] {
    let mut out = [[0.0; PANEL]; 2];
    for c in 0..2 {
        for r in 0..PANEL {
            out[c][r] = match dtype {
                DType::F32 => {
                    let at = 4 * ((2 * pair + c) * PANEL + r);
                    f32::from_ne_bytes([panel[at], panel[at + 1], panel[at + 2], panel[at + 3]])
                }
                DType::F16 => {
                    let at = 2 * ((2 * pair + c) * PANEL + r);
                    f16::from_ne_bytes([panel[at], panel[at + 1]]).to_f32()
                }
                _ => {
                    let at = 4 * (pair * PANEL + r) + 2 * c;
                    bf16::from_ne_bytes([panel[at], panel[at + 1]]).to_f32()
                }
            };
        }
    }
    out
}

/// An f32 tile times two float panels (which may be the same) of `pairs` column pairs: `out[t * UNIT + 16 * panel + row]`.
///
/// # Safety
/// The panels hold `pairs` column pairs each; `x` is an f32 tile of `tokens` tokens, a size of
/// [`float_tiles`](super::kernels::float_tiles); `out` has room for as many rows of a unit.
pub(crate) unsafe fn float<const DTYPE: u8>(
    panels: [*const u8; 2],
    pairs: usize,
    x: FloatLines,
    tokens: usize,
    out: *mut f32,
    _fetch: Fetch,
) {
    let dtype = super::kernels::float_dtype(DTYPE);
    for (p, panel) in panels.into_iter().enumerate() {
        // SAFETY: the caller's promises give the length.
        let panel = unsafe { std::slice::from_raw_parts(panel, pairs * 2 * PANEL * dtype.block_bytes()) };
        let mut sums = [[0.0f32; PANEL]; MAX_TILE];
        for pair in 0..pairs {
            for (c, weights) in column_pair(dtype, panel, pair).iter().enumerate() {
                let (line, word) = ((2 * pair + c) / LINE, (2 * pair + c) % LINE);
                for (t, sums) in sums[..tokens].iter_mut().enumerate() {
                    // SAFETY: the caller's promise: the tile has the column of the token.
                    let x = unsafe { *x.first.add(line * x.line + t * x.token + word) };
                    for (sum, &w) in sums.iter_mut().zip(weights) {
                        *sum += w * x;
                    }
                }
            }
        }
        for (t, sums) in sums[..tokens].iter().enumerate() {
            // SAFETY: `out` has room for the tokens' rows of a unit.
            unsafe { out.add(t * UNIT + p * PANEL).cast::<[f32; PANEL]>().write_unaligned(*sums) };
        }
    }
}
