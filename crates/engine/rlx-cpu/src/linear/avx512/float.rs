//! f32 activations against float panels, converted to f32 in registers.

use std::arch::x86_64::*;

use super::unpack::load_f16;
use crate::linear::fetch::{Ahead, Fetch};
use crate::linear::format::{self, PANEL};
use crate::linear::kernels;
use crate::linear::lines::{FloatLines, LINE, TokenOffsets, for_each_token};
use crate::linear::plan::UNIT;

/// As [`scalar::float`](crate::linear::scalar::float).
///
/// # Safety
/// As the scalar kernel, and the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
pub(crate) unsafe fn float<const DTYPE: u8, const T: usize>(
    panels: [*const u8; 2],
    pairs: usize,
    x: FloatLines,
    _tokens: usize,
    out: *mut f32,
    fetch: Fetch,
) {
    // SAFETY: the caller's promises.
    unsafe {
        if T >= 4 {
            let stream = T <= 8 && fetch.is_stream();
            return match (stream, x.token == LINE) {
                (true, _) => tile::<DTYPE, T, 2, 1, true, false>(panels, pairs, x, out, fetch),
                (false, true) => tile::<DTYPE, T, 2, 1, false, true>(panels, pairs, x, out, fetch),
                (false, false) => tile::<DTYPE, T, 2, 1, false, false>(panels, pairs, x, out, fetch),
            };
        }
        // Few tokens: a panel at a time, one stream; several sums per result hide the latency of the FMA.
        for (p, panel) in panels.into_iter().enumerate() {
            if p > 0 && panel == panels[0] {
                break;
            }
            let fetch = if p == 0 && panels[1] != panel { Fetch::stream([panels[1]; 2]) } else { fetch };
            if T == 1 {
                tile::<DTYPE, T, 1, 4, true, false>([panel], pairs, x, out.add(p * PANEL), fetch);
            } else {
                tile::<DTYPE, T, 1, 2, true, false>([panel], pairs, x, out.add(p * PANEL), fetch);
            }
        }
    }
}

/// `T` tokens times `P` panels, with `U` independent sums per result: pairs of columns go to them in turn. `STREAM` says that `fetch` is
/// one, `PACKED` that the tokens' lines lie side by side.
///
/// # Safety
/// As [`float`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn tile<
    const DTYPE: u8,
    const T: usize,
    const P: usize,
    const U: usize,
    const STREAM: bool,
    const PACKED: bool,
>(
    panels: [*const u8; P],
    pairs: usize,
    x: FloatLines,
    out: *mut f32,
    fetch: Fetch,
) {
    // AMD's processors foresee one stream of such weights better by themselves, found by trying.
    let foreseen = T == 1 && DTYPE != kernels::F32 && crate::isa::is_amd();
    let fetches = STREAM && !foreseen;
    let ahead = Ahead::of_floats(T);
    let mut sums = [[[_mm512_setzero_ps(); T]; P]; U];
    let offsets = if PACKED { TokenOffsets::packed() } else { TokenOffsets::new(x.token) };
    // SAFETY: pairs below `pairs` lie in the panels and the tile.
    unsafe {
        let bytes = 2 * PANEL * kernels::float_dtype(DTYPE).block_bytes();
        // The lines of a single token are one.
        let together = if T == 1 { 2 * LINE } else { LINE / 2 };
        for first in (0..pairs).step_by(together) {
            let mut places = [[std::ptr::null(); 2]; P];
            for p in 0..P {
                if STREAM {
                    places[p] = [ahead.first, ahead.second].map(|distance| {
                        format::ahead(panels[p], fetch.next(p), first * bytes, pairs * bytes, distance)
                    });
                } else {
                    fetch.of_line(p, first / (LINE / 2));
                }
            }
            let x = x.first.add(first / (LINE / 2) * x.line);
            let panels = panels.map(|panel| panel.add(first * bytes));
            let count = (pairs - first).min(together);
            let mut pair = 0;
            while pair + U <= count {
                for (u, sums) in sums.iter_mut().enumerate() {
                    step::<DTYPE, T, P>(
                        panels,
                        fetches.then_some((ahead, places)),
                        pair + u,
                        x.add(2 * (pair + u)),
                        offsets,
                        sums,
                    );
                }
                pair += U;
            }
            while pair < count {
                step::<DTYPE, T, P>(
                    panels,
                    fetches.then_some((ahead, places)),
                    pair,
                    x.add(2 * pair),
                    offsets,
                    &mut sums[0],
                );
                pair += 1;
            }
        }
        for t in 0..T {
            for p in 0..P {
                let mut sum = sums[0][p][t];
                for other in &sums[1..] {
                    sum = _mm512_add_ps(sum, other[p][t]);
                }
                _mm512_storeu_ps(out.add(t * UNIT + p * PANEL), sum);
            }
        }
    }
}

/// Two columns of `P` panels times `T` tokens, whose values are at `x` and every line on; as far behind the places beside `ahead`
/// (near, far) lies what is fetched, if anything is.
///
/// # Safety
/// As [`float`], with `pair` below the number of pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn step<const DTYPE: u8, const T: usize, const P: usize>(
    panels: [*const u8; P],
    ahead: Option<(Ahead, [[*const u8; 2]; P])>,
    pair: usize,
    x: *const f32,
    offsets: TokenOffsets,
    sums: &mut [[__m512; T]; P],
) {
    // SAFETY: the caller's promises; prefetches may go beyond the end.
    unsafe {
        let bytes = PANEL * kernels::float_dtype(DTYPE).block_bytes();
        let seventh = x.wrapping_add(offsets.seven());
        for c in 0..2 {
            let mut column = [_mm512_setzero_ps(); P];
            for p in 0..P {
                let at = panels[p].add(pair * 2 * bytes);
                if let (Some((ahead, places)), 0) = (ahead, c) {
                    for line in 0..2 * bytes / 64 {
                        let [near, far] = places[p].map(|place| place.wrapping_add(pair * 2 * bytes + 64 * line));
                        ahead.prefetch(near, far);
                    }
                }
                column[p] = match DTYPE {
                    kernels::F32 => _mm512_loadu_ps(at.add(64 * c).cast()),
                    kernels::F16 => load_f16(at.add(32 * c)),
                    _ => {
                        let both = _mm512_loadu_si512(at.cast());
                        let high = _mm512_set1_epi32(0xFFFF_0000u32 as i32);
                        let bits = if c == 0 { _mm512_slli_epi32::<16>(both) } else { _mm512_and_si512(both, high) };
                        _mm512_castsi512_ps(bits)
                    }
                };
            }
            for_each_token!(t in T {
                let x = _mm512_set1_ps(*offsets.place(x, seventh, t).add(c));
                for p in 0..P {
                    sums[p][t] = _mm512_fmadd_ps(column[p], x, sums[p][t]);
                }
            });
        }
    }
}
