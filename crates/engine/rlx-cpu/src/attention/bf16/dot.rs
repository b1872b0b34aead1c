//! Products of bf16 tiles with `vdpbf16ps`.

use std::arch::x86_64::*;

use super::TILE;

/// Rows of a tile whose sums are in registers at once.
const ROWS: usize = 8;

/// As [`Square`](super::Square).
///
/// # Safety
/// As there, and the machine has AVX-512 with BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn square(
    left: [*const u32; 2],
    right: [*const u32; 2],
    steps: usize,
    out: [*mut f32; 4],
    stride: usize,
    accumulate: bool,
) {
    let halves = if out[0] == out[2] { 1 } else { 2 };
    for (half, rows) in left.into_iter().enumerate().take(halves) {
        for first in (0..16).step_by(ROWS) {
            // SAFETY: rows and pairs lie in the tiles, outputs in their squares, as the caller promises.
            unsafe {
                let out = [out[2 * half], out[2 * half + 1]].map(|out| out.add(first * stride));
                let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
                if accumulate {
                    for (row, sums) in sums.iter_mut().enumerate() {
                        *sums = out.map(|out| _mm512_loadu_ps(out.add(row * stride)));
                    }
                }
                for step in 0..steps {
                    let rows = rows.add(step * (TILE / 2) + first * 16);
                    for pair in 0..16 {
                        let columns =
                            right.map(|tile| bf16(_mm512_loadu_si512(tile.add(step * (TILE / 2) + pair * 16).cast())));
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let x = bf16(_mm512_set1_epi32(rows.add(row * 16 + pair).cast::<i32>().read()));
                            *sums = [0, 1].map(|i| _mm512_dpbf16_ps(sums[i], columns[i], x));
                        }
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    for i in 0..2 {
                        _mm512_storeu_ps(out[i].add(row * stride), sums[i]);
                    }
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16(pairs: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of plain data.
    unsafe { std::mem::transmute(pairs) }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::{Square, Tiles, Unit, amx};
    use crate::Isa;

    /// An odd tile out is given twice, and added once.
    fn twice_the_same(unit: Unit, square: Square) {
        let (left, right) = ([bf16::ONE; 512], [bf16::from_f32(0.5); 512]);
        let mut out = vec![3.0f32; 16 * 16];
        let (left, right): ([_; 2], [_; 2]) = ([left.as_ptr().cast(); 2], [right.as_ptr().cast(); 2]);
        // SAFETY: as below, with one tile of a step on each side and one square.
        unsafe {
            let _tiles = (unit == Unit::Amx).then(|| Tiles::configure());
            square(left, right, 1, [out.as_mut_ptr(); 4], 16, true);
        }
        assert_eq!(out, [3.0 + 32.0 * 0.5; 16 * 16], "{unit:?}");
    }

    /// Both units against plain sums, whether or not this processor would choose them.
    #[test]
    fn squares_are_products() {
        const STEPS: usize = 3;
        let value = |i: usize| bf16::from_f32(((i * 37) % 101) as f32 / 32.0 - 1.5);
        let tile = |seed: usize| (0..STEPS * 512).map(|i| value(seed + i * (seed + 3))).collect::<Vec<_>>();
        let (left, right) = ([tile(1), tile(2)], [tile(5), tile(8)]);
        let before: Vec<f32> = (0..32 * 40).map(|i| i as f32).collect();
        let want = |row: usize, column: usize| {
            let (left, right) = (&left[row / 16], &right[column / 16]);
            let term = |k: usize| {
                let (step, k) = (k / 32 * 512, k % 32);
                let x = left[step + row % 16 * 32 + k].to_f64();
                x * right[step + k / 2 * 32 + column % 16 * 2 + k % 2].to_f64()
            };
            (0..32 * STEPS).map(term).sum::<f64>()
        };
        let mut units: Vec<(Unit, Square)> = vec![];
        match is_x86_feature_detected!("avx512bf16") {
            true => units.push((Unit::Dot, super::square)),
            false => println!("skipped: this machine has no AVX512-BF16"),
        }
        match Isa::Amx.require() {
            Ok(_) => units.push((Unit::Amx, amx::square)),
            Err(why) => println!("skipped: {why}"),
        }
        for (unit, square) in units {
            twice_the_same(unit, square);
            for accumulate in [false, true] {
                let mut out = before.clone();
                // SAFETY: the machine has the unit; tiles have STEPS steps, and out has 32 rows of 40.
                unsafe {
                    let _tiles = (unit == Unit::Amx).then(|| Tiles::configure());
                    let start = out.as_mut_ptr();
                    let squares = [0, 16, 16 * 40, 16 * 40 + 16].map(|at| start.add(at));
                    let sides = [&left, &right].map(|side| [0, 1].map(|i| side[i].as_ptr().cast::<u32>()));
                    square(sides[0], sides[1], STEPS, squares, 40, accumulate);
                }
                for (at, (&got, &before)) in out.iter().zip(&before).enumerate() {
                    let (row, column) = (at / 40, at % 40);
                    if column >= 32 {
                        assert_eq!(got, before, "wrote beyond the square");
                        continue;
                    }
                    let want = want(row, column) + if accumulate { f64::from(before) } else { 0.0 };
                    // Terms are below 3: 96 roundings of f32 sums below 2048.
                    let error = (f64::from(got) - want).abs();
                    assert!(error < 96.0 * 2048.0 * 6e-8, "{unit:?} {accumulate} {row} {column}: {got}, not {want}");
                }
            }
        }
    }
}
