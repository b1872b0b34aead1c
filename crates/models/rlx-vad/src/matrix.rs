//! Products of small matrices whose weights are read once for several rows.
//!
//! The loops are plain; crate `pulp` compiles them for the vector instructions that the machine has.

use pulp::Arch;

/// Outputs that are computed together.
const PANEL: usize = 16;
/// Rows that share one reading of the weights.
const ROWS: usize = 4;

/// `y = W x + b`, the weights in panels of [`PANEL`] outputs: of each panel, one run of outputs per input.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    arch: Arch,
    inputs: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
}

impl Matrix {
    /// `weight(output, input)` and `bias(output)`. The number of outputs is a multiple of [`PANEL`].
    pub(crate) fn new(
        inputs: usize,
        outputs: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
    ) -> Matrix {
        debug_assert!(outputs.is_multiple_of(PANEL));
        let mut panels = Vec::with_capacity(inputs * outputs);
        for panel in (0..outputs).step_by(PANEL) {
            for input in 0..inputs {
                panels.extend((panel..panel + PANEL).map(|output| weight(output, input)));
            }
        }
        Matrix { arch: Arch::new(), inputs, panels, bias: (0..outputs).map(bias).collect() }
    }

    /// Multiplies `rows` rows, which begin every `stride` values of `x`, and hands each panel of results to `put(row, output, values)`.
    pub(crate) fn run(&self, x: &[f32], stride: usize, rows: usize, put: impl FnMut(usize, usize, &[f32; PANEL])) {
        match self.arch {
            // A fused multiply-add that the processor lacks is a call that takes a hundred times as long.
            Arch::Scalar => self.multiply(x, stride, rows, put, |w, x, sum| sum + w * x),
            arch => arch.dispatch(
                #[inline(always)]
                || self.multiply(x, stride, rows, put, f32::mul_add),
            ),
        }
    }

    #[inline(always)]
    fn multiply(
        &self,
        x: &[f32],
        stride: usize,
        rows: usize,
        mut put: impl FnMut(usize, usize, &[f32; PANEL]),
        add_product: impl Fn(f32, f32, f32) -> f32 + Copy,
    ) {
        let row = |i: usize| &x[i * stride..][..self.inputs];
        for (panel, weights) in self.panels.chunks_exact(PANEL * self.inputs).enumerate() {
            let at = panel * PANEL;
            let mut bias = [0.0; PANEL];
            bias.copy_from_slice(&self.bias[at..at + PANEL]);
            let mut first = 0;
            while first + ROWS <= rows {
                let together = [row(first), row(first + 1), row(first + 2), row(first + 3)];
                let sums = products(together, weights, bias, add_product);
                for (i, sums) in sums.iter().enumerate() {
                    put(first + i, at, sums);
                }
                first += ROWS;
            }
            for i in first..rows {
                let [sums] = products([row(i)], weights, bias, add_product);
                put(i, at, &sums);
            }
        }
    }
}

/// `bias + W x` of one panel for `N` rows.
#[inline(always)]
fn products<const N: usize>(
    rows: [&[f32]; N],
    weights: &[f32],
    bias: [f32; PANEL],
    add_product: impl Fn(f32, f32, f32) -> f32,
) -> [[f32; PANEL]; N] {
    let rows = rows.map(|row| &row[..weights.len() / PANEL]);
    let mut sums = [bias; N];
    for (i, w) in weights.as_chunks::<PANEL>().0.iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(&rows) {
            let x = row[i];
            for (sum, w) in sum.iter_mut().zip(w) {
                *sum = add_product(*w, x, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_may_overlap_and_need_not_fill_a_block() {
        let native = Matrix::new(3, 32, |o, i| (o * 3 + i) as f32, |o| o as f32 * 0.5);
        let plain = Matrix { arch: Arch::Scalar, ..native.clone() };
        let x: Vec<f32> = (0..20).map(|i| i as f32).collect();
        for (matrix, rows) in [&native, &plain].into_iter().flat_map(|m| [1, 3, 4, 5, 8, 9].map(|rows| (m, rows))) {
            let mut seen = 0;
            matrix.run(&x, 2, rows, |row, at, values| {
                for (o, &value) in (at..).zip(values) {
                    let expected =
                        (0..3).map(|i| (o * 3 + i) as f32 * (row * 2 + i) as f32).sum::<f32>() + o as f32 * 0.5;
                    assert_eq!(value, expected, "row {row}, output {o}");
                    seen += 1;
                }
            });
            assert_eq!(seen, rows * 32);
        }
    }
}
