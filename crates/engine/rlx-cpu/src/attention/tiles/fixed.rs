//! Products of fixed-point tiles with `vpdpwssd`.

use std::arch::x86_64::*;

use super::{Scales, TILE};

/// Rows of a tile whose sums are in registers at once.
const ROWS: usize = 8;

/// As [`Square`](super::Square). Sums become f32 times the scales of their row and column, of which rows have none in what is
/// accumulated.
///
/// # Safety
/// As there, and the machine has AVX-512 with VNNI; the sums of products are within 32 bits.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn square(
    left: [*const u32; 2],
    right: [*const u32; 2],
    steps: usize,
    out: [*mut f32; 4],
    stride: usize,
    accumulate: bool,
    scales: [Scales; 2],
) {
    let halves = if out[0] == out[2] { 1 } else { 2 };
    for (half, rows) in left.into_iter().enumerate().take(halves) {
        for first in (0..16).step_by(ROWS) {
            // SAFETY: rows and pairs lie in the tiles, outputs in their squares, scales beside them, as the caller promises.
            unsafe {
                let out = [out[2 * half], out[2 * half + 1]].map(|out| out.add(first * stride));
                let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
                for step in 0..steps {
                    let rows = rows.add(step * (TILE / 2) + first * 16);
                    for pair in 0..16 {
                        let columns =
                            right.map(|tile| _mm512_loadu_si512(tile.add(step * (TILE / 2) + pair * 16).cast()));
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let x = _mm512_set1_epi32(rows.add(row * 16 + pair).cast::<i32>().read());
                            *sums = [0, 1].map(|i| _mm512_dpwssd_epi32(sums[i], columns[i], x));
                        }
                    }
                }
                let columns = scales.map(|scales| _mm512_loadu_ps(scales.columns));
                for (row, sums) in sums.iter().enumerate() {
                    let out = out.map(|out| out.add(row * stride));
                    let sums = sums.map(|sum| _mm512_cvtepi32_ps(sum));
                    // Both before either is written: they may be the same.
                    let totals = if accumulate {
                        let before = out.map(|out| _mm512_loadu_ps(out));
                        [0, 1].map(|i| _mm512_fmadd_ps(sums[i], columns[i], before[i]))
                    } else {
                        let row = _mm512_set1_ps(*scales[half].rows.add(first + row));
                        [0, 1].map(|i| _mm512_mul_ps(sums[i], _mm512_mul_ps(columns[i], row)))
                    };
                    (0..2).for_each(|i| _mm512_storeu_ps(out[i], totals[i]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::{Scales, Square, Tiles, Unit, amx};

    const STEPS: usize = 3;
    /// Scales of rows and columns, of two tiles each.
    const SCALES: [f32; 32] = {
        let mut scales = [0.0; 32];
        let mut i = 0;
        while i < 32 {
            scales[i] = 0.5 + i as f32 / 32.0;
            i += 1;
        }
        scales
    };

    /// The units that this machine has.
    fn units() -> Vec<(Unit, Square)> {
        let all = [(Unit::Fixed, super::square as Square), (Unit::Amx, amx::square)];
        let (here, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(|(unit, _)| unit.is_available());
        missing.iter().for_each(|(unit, _)| println!("skipped {unit:?}: this machine lacks it"));
        here
    }

    /// Number `i` of a tile as the unit has it, and its value.
    fn number(unit: Unit, i: usize) -> (u16, f64) {
        let x = (i * 37) as i32 % 101 - 50;
        match unit {
            Unit::Amx => (bf16::from_f32(x as f32 / 32.0).to_bits(), f64::from(x) / 32.0),
            Unit::Fixed => ((100 * x) as i16 as u16, f64::from(100 * x)),
        }
    }

    /// # Safety
    /// The machine has the unit; tiles have as many steps, and out its squares.
    unsafe fn run(
        (unit, square): (Unit, Square),
        [left, right]: [[&[u16]; 2]; 2],
        steps: usize,
        out: [*mut f32; 4],
        accumulate: bool,
    ) {
        let second = if out[0] == out[1] { 0 } else { 16 };
        let scales = [0, second].map(|at| Scales { rows: SCALES[at..].as_ptr(), columns: SCALES[at..].as_ptr() });
        let [left, right] = [left, right].map(|side| side.map(|tile| tile.as_ptr().cast::<u32>()));
        // SAFETY: the caller's promise.
        unsafe {
            let _tiles = (unit == Unit::Amx).then(|| Tiles::configure());
            square(left, right, steps, out, 40, accumulate, scales);
        }
    }

    /// What a unit multiplies the product of a row and a column by.
    fn scale(unit: Unit, row: usize, column: usize, accumulate: bool) -> f64 {
        let row = if accumulate { 1.0 } else { f64::from(SCALES[row]) };
        if unit == Unit::Fixed { row * f64::from(SCALES[column]) } else { 1.0 }
    }

    #[test]
    fn squares_are_products() {
        let before: Vec<f32> = (0..32 * 40).map(|i| i as f32).collect();
        for (unit, square) in units() {
            let tile = |seed: usize| (0..STEPS * 512).map(move |i| number(unit, seed + i * (seed + 3)));
            let bits = |seed: usize| tile(seed).map(|x| x.0).collect::<Vec<_>>();
            let values = |seed: usize| tile(seed).map(|x| x.1).collect::<Vec<_>>();
            let (left, right) = ([bits(1), bits(2)], [bits(5), bits(8)]);
            let (rows, columns) = ([values(1), values(2)], [values(5), values(8)]);
            let want = |row: usize, column: usize| {
                let (left, right) = (&rows[row / 16], &columns[column / 16]);
                let term = |k: usize| {
                    let (step, k) = (k / 32 * 512, k % 32);
                    left[step + row % 16 * 32 + k] * right[step + k / 2 * 32 + column % 16 * 2 + k % 2]
                };
                (0..32 * STEPS).map(term).sum::<f64>()
            };
            for accumulate in [false, true] {
                let mut out = before.clone();
                let start = out.as_mut_ptr();
                // SAFETY: the machine has the unit; tiles have STEPS steps, and out has 32 rows of 40.
                unsafe {
                    let squares = [0, 16, 16 * 40, 16 * 40 + 16].map(|at| start.add(at));
                    run((unit, square), [[&left[0], &left[1]], [&right[0], &right[1]]], STEPS, squares, accumulate);
                }
                for (at, (&got, &before)) in out.iter().zip(&before).enumerate() {
                    let (row, column) = (at / 40, at % 40);
                    if column >= 32 {
                        assert_eq!(got, before, "wrote beyond the square");
                        continue;
                    }
                    let scaled = want(row, column) * scale(unit, row, column, accumulate);
                    let want = scaled + if accumulate { f64::from(before) } else { 0.0 };
                    // Terms of bf16 are below 3: 96 roundings of f32 sums below 2048. Integers are exact, and rounded to f32 thrice.
                    let limit = if unit == Unit::Amx { 96.0 * 2048.0 * 6e-8 } else { 2e-7 * want.abs().max(2048.0) };
                    let error = (f64::from(got) - want).abs();
                    assert!(error < limit, "{unit:?} {accumulate} {row} {column}: {got}, not {want}");
                }
            }
        }
    }

    /// An odd tile out is given twice, and added once.
    #[test]
    fn the_same_twice_is_added_once() {
        for (unit, square) in units() {
            let ones = [if unit == Unit::Amx { bf16::ONE.to_bits() } else { 1 }; 512];
            let mut out = vec![3.0f32; 16 * 40];
            // SAFETY: the machine has the unit; one tile of a step on each side and one square.
            unsafe { run((unit, square), [[&ones; 2]; 2], 1, [out.as_mut_ptr(); 4], true) }
            for (at, &got) in out.iter().enumerate() {
                let column = at % 40;
                let added = if column < 16 { 32.0 * scale(unit, 0, column, true) as f32 } else { 0.0 };
                assert_eq!(got, 3.0 + added, "{unit:?} {at}");
            }
        }
    }
}
