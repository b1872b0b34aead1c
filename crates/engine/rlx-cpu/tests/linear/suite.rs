//! Products against an f64 reference.

use rlx_cpu::{
    Epilogue, Isa, Layout, LinearArgs, LinearPart, LinearShape, PackedMatrix, Precision, Prologue, RowsIn, RowsOut,
    SharedSlice, ThreadPool, WorkCounter, linear, scratch_bytes,
};
use rlx_ir::{Activation, DType};

use crate::cases::{Rng, values, weight_types, weights};

pub(crate) struct Part {
    dtype: DType,
    values: Vec<f32>,
    pub(crate) packed: PackedMatrix,
    bias: Option<Vec<f32>>,
}

pub(crate) struct Case {
    isa: Isa,
    threads: usize,
    precision: Precision,
    pub(crate) tokens: usize,
    pub(crate) cols: usize,
    pub(crate) x_stride: usize,
    pub(crate) x: Vec<f32>,
    pub(crate) norm: usize,
    norm_weight: Vec<f32>,
    norm_bias: Vec<f32>,
    pub(crate) parts: Vec<Part>,
    pub(crate) epilogue: usize,
    activation: Activation,
    pub(crate) out_stride: usize,
    /// What the outputs hold before, and the residual.
    pub(crate) before: Vec<f32>,
}

const EPS: f32 = 1e-5;
const ACTIVATIONS: [Activation; 8] = [
    Activation::Silu,
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Relu2,
    Activation::Sigmoid,
    Activation::Tanh,
];
const TOKENS: [usize; 13] = [1, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 33, 64];
const ROWS: [usize; 9] = [1, 15, 16, 17, 31, 32, 33, 64, 83];

fn case(rng: &mut Rng, isa: Isa, dtypes: &[DType], precision: Precision) -> Case {
    let unit = dtypes.iter().map(|dtype| dtype.block_len()).max().unwrap();
    let cols = if unit == 1 { 1 + rng.below(200) } else { unit * (1 + rng.below(if unit == 32 { 19 } else { 4 })) };
    let (tokens, rows) = (rng.pick(&TOKENS), rng.pick(&ROWS));
    sized_case(rng, isa, dtypes, precision, [tokens, rows, cols])
}

/// A case with `[tokens, rows, cols]`; parts without a gate have rows of their own.
pub(crate) fn sized_case(
    rng: &mut Rng,
    isa: Isa,
    dtypes: &[DType],
    precision: Precision,
    [tokens, rows, cols]: [usize; 3],
) -> Case {
    let epilogue = if dtypes.len() == 2 { rng.pick(&[0, 3, 4, 5]) } else { rng.below(5) };
    let epilogue = if dtypes.len() > 2 { rng.pick(&[0, 3, 4]) } else { epilogue };
    let pool = ThreadPool::new(2);
    let size = 1.0 / (cols as f32).sqrt();
    let parts: Vec<Part> = dtypes
        .iter()
        .map(|&dtype| {
            let rows = if epilogue == 5 || dtypes.len() == 1 { rows } else { rng.pick(&ROWS) };
            let src = weights(rng, dtype, rows * cols);
            Part {
                dtype,
                values: values(dtype, &src, rows * cols),
                packed: PackedMatrix::pack(dtype, rows, cols, &src, isa, &pool).unwrap(),
                bias: (rng.below(2) == 0).then(|| rng.normals(rows)),
            }
        })
        .collect();
    let widest = parts.iter().map(|part| part.packed.rows()).max().unwrap();
    let out_stride = widest + rng.pick(&[0, 5]);
    let x_stride = cols + rng.pick(&[0, 3]);
    Case {
        isa,
        threads: 1 + rng.below(3),
        precision,
        tokens,
        cols,
        x_stride,
        x: rng.normals(tokens * x_stride).iter().map(|v| v * size).collect(),
        norm: rng.below(5),
        norm_weight: rng.normals(cols).iter().map(|v| v * size).collect(),
        norm_bias: rng.normals(cols).iter().map(|v| v * size).collect(),
        parts,
        epilogue,
        activation: rng.pick(&ACTIVATIONS),
        out_stride,
        before: rng.normals(tokens * out_stride),
    }
}

impl Case {
    fn prologue(&self) -> Prologue<'_> {
        match self.norm {
            0 | 1 => Prologue::None,
            2 => Prologue::RmsNorm { weight: Some(&self.norm_weight), eps: EPS },
            3 => Prologue::RmsNorm { weight: None, eps: EPS },
            _ => Prologue::LayerNorm { weight: Some(&self.norm_weight), bias: Some(&self.norm_bias), eps: EPS },
        }
    }

    pub(crate) fn run(&self) -> Vec<Vec<f32>> {
        self.run_as(None, Layout::Rows).expect("rows are read by every kernel")
    }

    /// The outputs in a layout, of x or of tiles instead; none if these cannot be read.
    pub(crate) fn run_as(&self, tiles: Option<&[f32]>, out_layout: Layout) -> Option<Vec<Vec<f32>>> {
        let pool = ThreadPool::new(self.threads);
        let mut outs: Vec<Vec<f32>> = self.parts.iter().map(|_| self.before.clone()).collect();
        let shapes: Vec<LinearShape> = self
            .parts
            .iter()
            .map(|part| LinearShape { dtype: part.dtype, rows: part.packed.rows(), cols: self.cols })
            .collect();
        let gated = self.epilogue == 5;
        let bytes = scratch_bytes(self.tokens, &shapes, gated, self.precision, self.isa, self.threads);
        // Scratch holds anything: here NaNs, to find reads of what nobody wrote.
        let mut scratch = vec![0xFFu8; bytes];
        let parts: Vec<LinearPart<'_>> = self
            .parts
            .iter()
            .zip(&mut outs)
            .map(|(part, out)| LinearPart {
                weight: &part.packed,
                bias: part.bias.as_deref(),
                out: RowsOut { data: SharedSlice::new(out), stride: self.out_stride },
            })
            .collect();
        let epilogue = match self.epilogue {
            0 => Epilogue::None,
            1 => Epilogue::Add(RowsIn { data: &self.before, stride: self.out_stride }),
            2 => Epilogue::Accumulate,
            3 => Epilogue::Scale(-1.5),
            4 => Epilogue::Activation(self.activation),
            _ => Epilogue::Gated(self.activation),
        };
        let args = LinearArgs {
            rows: self.tokens,
            batch: self.tokens,
            x: RowsIn { data: tiles.unwrap_or(&self.x), stride: self.x_stride },
            x_layout: if tiles.is_some() { Layout::Tiles } else { Layout::Rows },
            prologue: self.prologue(),
            parts: &parts,
            epilogue,
            out_layout,
            precision: self.precision,
        };
        if tiles.is_some() && !args.reads_tiles(self.isa) {
            return None;
        }
        let work = [WorkCounter::new(self.threads)];
        let scratch = SharedSlice::new(&mut scratch);
        pool.run(&|ctx| linear(ctx, self.isa, &work, scratch, &args));
        Some(outs)
    }

    /// x after the norm, in f64.
    fn input(&self, t: usize) -> Vec<f64> {
        let x: Vec<f64> = self.x[t * self.x_stride..][..self.cols].iter().map(|&v| v as f64).collect();
        let n = self.cols as f64;
        let rms = |x: &[f64]| 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / n + EPS as f64).sqrt();
        match self.norm {
            0 | 1 => x,
            2 => {
                let factor = rms(&x);
                x.iter().zip(&self.norm_weight).map(|(v, &w)| v * factor * w as f64).collect()
            }
            3 => {
                let factor = rms(&x);
                x.iter().map(|v| v * factor).collect()
            }
            _ => {
                let mean = x.iter().sum::<f64>() / n;
                let centred: Vec<f64> = x.iter().map(|v| v - mean).collect();
                let factor = rms(&centred);
                let affine = self.norm_weight.iter().zip(&self.norm_bias);
                centred.iter().zip(affine).map(|(v, (&w, &b))| v * factor * w as f64 + b as f64).collect()
            }
        }
    }

    /// The product with row `r` of part `p` and its bias; and its natural size: what random signs would give.
    fn product(&self, p: usize, r: usize, x: &[f64]) -> (f64, f64) {
        let part = &self.parts[p];
        let terms = part.values[r * self.cols..][..self.cols].iter().zip(x).map(|(&w, x)| w as f64 * x);
        let (sum, squares) = terms.fold((0.0, 0.0), |(sum, squares), term| (sum + term, squares + term * term));
        (sum + part.bias.as_ref().map_or(0.0, |bias| bias[r] as f64), squares)
    }

    /// Checks all outputs; returns error energy over natural energy.
    fn check(&self) -> f64 {
        let outs = self.run();
        let (mut error, mut energy) = (0.0, 0.0);
        for t in 0..self.tokens {
            let x = self.input(t);
            for (p, part) in self.parts.iter().enumerate() {
                let rows = part.packed.rows();
                let row = &outs[p][t * self.out_stride..];
                let before = &self.before[t * self.out_stride..];
                let untouched = if self.epilogue == 5 && p == 1 { 0 } else { rows };
                let end = self.out_stride.min(row.len());
                assert_eq!(row[untouched..end], before[untouched..end], "wrote beside its output");
                for r in 0..untouched {
                    let (y, size) = self.product(p, r, &x);
                    let (want, size) = match self.epilogue {
                        0 => (y, size),
                        1 | 2 => (y + before[r] as f64, size),
                        3 => (-1.5 * y, 2.25 * size),
                        4 => (activate(self.activation, y), size * slope(self.activation, y)),
                        _ => {
                            let (u, u_size) = self.product(1, r, &x);
                            let a = activate(self.activation, y);
                            let size = size * slope(self.activation, y);
                            (a * u, size * u * u + a * a * u_size + size * u_size)
                        }
                    };
                    let got = row[r] as f64;
                    error += (got - want) * (got - want);
                    energy += size + 1e-9 * want * want;
                }
            }
        }
        assert!(energy > 0.0);
        error / energy
    }

    /// Whether its products are exact.
    pub(crate) fn precision_is_exact(&self) -> bool {
        self.precision == Precision::Auto && self.parts.iter().all(|part| part.dtype == DType::F32)
    }

    pub(crate) fn describe(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(|p| format!("{} {}", p.dtype, p.packed.rows())).collect();
        format!(
            "{} threads {} {:?} T {} K {} parts {parts:?} norm {} epilogue {} {:?}",
            self.isa, self.threads, self.precision, self.tokens, self.cols, self.norm, self.epilogue, self.activation
        )
    }
}

fn activate(activation: Activation, x: f64) -> f64 {
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    match activation {
        Activation::Silu => x * sigmoid(x),
        Activation::GeluTanh => x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))),
        Activation::GeluErf => {
            // erf by Simpson's rule: plenty for a reference at 1e-7.
            let end = (x / 2.0f64.sqrt()).clamp(-6.0, 6.0);
            let n = 400;
            let f = |i: usize| (-(end * i as f64 / n as f64).powi(2)).exp();
            let sum: f64 =
                (0..=n).map(|i| f(i) * if i == 0 || i == n { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 }).sum();
            0.5 * x * (1.0 + 2.0 / std::f64::consts::PI.sqrt() * sum * end / n as f64 / 3.0)
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::Relu2 => x.max(0.0).powi(2),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}

/// How much of an error energy passes the activation, at most.
fn slope(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu2 => 4.0 * x * x + 1.0,
        _ => 1.3,
    }
}

/// Error energy allowed. f32: rounding of sums of a few hundred terms. Else bf16 tiles are the coarsest: both operands are
/// rounded to within 2^-8 of their power of two, evenly, which has an energy of 2 * 2^-16 / 3 / 2 = 5e-6 (the 2: mantissas are
/// even in 1..2); the rest is luck of small cases. Fixed-point numbers are finer.
fn tolerance(precision: Precision, dtypes: &[DType]) -> f64 {
    let exact = |dtype: &DType| matches!(dtype, DType::F32 | DType::F64);
    if precision == Precision::F32 || (precision == Precision::Auto && dtypes.iter().all(exact)) { 1e-10 } else { 1e-5 }
}

#[test]
fn every_type_on_every_instruction_set() {
    for isa in [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx] {
        if let Err(reason) = isa.require() {
            println!("skipped {isa}: {reason}");
            continue;
        }
        let mut worst = (0.0, String::new());
        for dtype in weight_types() {
            let mut rng = Rng(dtype as u64 * 1000 + isa as u64);
            for i in 0..60 {
                let precision = [Precision::Auto, Precision::F32, Precision::Bf16][if i < 36 { 0 } else { i % 3 }];
                let mut dtypes = vec![dtype; [1, 1, 2, 2, 3][rng.below(5)]];
                if dtypes.len() == 3 || rng.below(6) == 0 {
                    // A mixture as in Q4_K_M files, or any other of the same block length.
                    let alike: Vec<DType> =
                        weight_types().into_iter().filter(|other| other.block_len() == dtype.block_len()).collect();
                    *dtypes.last_mut().unwrap() = rng.pick(&alike);
                }
                let case = case(&mut rng, isa, &dtypes, precision);
                let error = case.check();
                assert!(error <= tolerance(precision, &dtypes), "error {error:e}: {}", case.describe());
                if error > worst.0 {
                    worst = (error, case.describe());
                }
            }
        }
        println!("{isa}: worst error {:e} in {}", worst.0, worst.1);
    }
}

/// Sizes at which activations exceed the caches and columns and tokens are taken in several rounds.
#[test]
fn large_shapes() {
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Scalar) {
        let mut rng = Rng(5);
        for (dtypes, shape) in [
            (vec![DType::Q4_K], [250, 150, 2304]),
            (vec![DType::Q8_0; 2], [130, 90, 4160]),
            (vec![DType::Q5_0; 2], [40, 90, 6176]),
            (vec![DType::F16], [230, 70, 2301]),
            (vec![DType::BF16], [260, 70, 2336]),
            (vec![DType::IQ2_S], [200, 40, 2816]),
            (vec![DType::Q6_K], [1100, 40, 256]),
            (vec![DType::F32], [600, 33, 97]),
            (vec![DType::F32; 3], [131, 70, 98]),
            (vec![DType::F32; 2], [330, 70, 600]),
        ] {
            let case = sized_case(&mut rng, isa, &dtypes, Precision::Auto, shape);
            let error = case.check();
            assert!(error <= tolerance(Precision::Auto, &dtypes), "error {error:e}: {}", case.describe());
        }
    }
}

#[test]
fn activations_that_are_no_numbers_stay_so() {
    for isa in Isa::available() {
        for dtype in [DType::Q4_K, DType::Q8_0, DType::F32] {
            let mut rng = Rng(9);
            for bad in [f32::NAN, f32::INFINITY] {
                let mut case = case(&mut rng, isa, &[dtype], Precision::Auto);
                (case.norm, case.epilogue) = (0, 0);
                case.x[case.cols / 2] = bad;
                let out = &case.run()[0][..case.parts[0].packed.rows()];
                assert!(out.iter().all(|v| !v.is_finite()), "{isa} {dtype} {bad}: {out:?}");
            }
        }
    }
}

/// The largest sums that numbers of given lengths can have: activations that are parallel to weights, alike or not.
#[test]
fn parallel_rows_do_not_overflow() {
    for isa in Isa::available() {
        for dtype in weight_types() {
            let mut rng = Rng(dtype as u64 + 500);
            let mut case = sized_case(&mut rng, isa, &[dtype], Precision::Bf16, [40, 32, 768]);
            (case.norm, case.epilogue) = (0, 0);
            for t in 0..case.tokens {
                let row = &case.parts[0].values[t % 32 * case.cols..][..case.cols];
                let x = &mut case.x[t * case.x_stride..][..case.cols];
                for (x, w) in x.iter_mut().zip(row) {
                    *x = if t < 20 { *w } else { w.signum() };
                }
            }
            let out = &case.run()[0];
            for t in 0..case.tokens {
                let x = case.input(t);
                for r in 0..32 {
                    let (want, _) = case.product(0, r, &x);
                    let weights = &case.parts[0].values[r * case.cols..][..case.cols];
                    let size: f64 = weights.iter().zip(&x).map(|(&w, x)| (f64::from(w) * x).abs()).sum();
                    let got = f64::from(out[t * case.out_stride + r]);
                    // Both factors rounded to bf16, to within 2^-8 of them, is the coarsest, and equal numbers are rounded alike. A sum
                    // that overflows is off by more than its size.
                    assert!((got - want).abs() <= size / 126.0, "{got}, not {want}: {t} {r} {}", case.describe());
                }
            }
        }
    }
}

/// Sizes far from 1, and single numbers that tower over the others.
#[test]
fn sizes_of_numbers_do_not_matter() {
    for isa in Isa::available() {
        for dtype in [DType::F32, DType::BF16, DType::F16, DType::Q4_K, DType::Q8_0] {
            let mut rng = Rng(321);
            for (x_size, w_size) in [(1e-18, 1e-15), (1e18, 1e-15), (1e-15, 1e15), (1e15, 1e15), (1.0, 1.0)] {
                let mut case = sized_case(&mut rng, isa, &[dtype], Precision::Bf16, [40, 32, 768]);
                (case.norm, case.epilogue) = (0, 0);
                case.parts[0].bias = None;
                for (i, x) in case.x.iter_mut().enumerate() {
                    *x *= x_size * if i % 301 == 7 { 100.0 } else { 1.0 };
                }
                if dtype == DType::F32 || dtype == DType::BF16 {
                    let part = &mut case.parts[0];
                    // Powers of two change no digit of either type.
                    let factor = 2f32.powi(f32::log2(w_size).round() as i32);
                    part.values.iter_mut().for_each(|w| *w *= factor);
                    let bytes: Vec<u8> = match dtype {
                        DType::F32 => part.values.iter().flat_map(|w| w.to_le_bytes()).collect(),
                        _ => part.values.iter().flat_map(|w| ((w.to_bits() >> 16) as u16).to_le_bytes()).collect(),
                    };
                    part.packed = PackedMatrix::pack(dtype, 32, 768, &bytes, isa, &ThreadPool::new(2)).unwrap();
                }
                let error = case.check();
                let limit = tolerance(Precision::Bf16, &[dtype]);
                assert!(error <= limit, "error {error:e}: {x_size:e} {w_size:e} {}", case.describe());
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_threads_or_neighbours() {
    for isa in Isa::available() {
        for dtype in [DType::Q4_K, DType::Q6_K, DType::F16, DType::F32] {
            let mut rng = Rng(77);
            let mut case = case(&mut rng, isa, &[dtype], Precision::Auto);
            case.threads = 1;
            let one = case.run();
            case.threads = 3;
            assert!(one == case.run(), "{}", case.describe());
        }
    }
}

/// Rows that are read where they lie, and copies of rows so far apart that they would displace one another from the cache.
#[test]
fn results_do_not_depend_on_the_distance_of_rows() {
    for isa in Isa::available() {
        for tokens in [1, 2, 5, 14, 33, 128, 1000] {
            let mut rng = Rng(tokens as u64);
            let mut case = sized_case(&mut rng, isa, &[DType::F32], Precision::Auto, [tokens, 40, 96]);
            case.norm = 0;
            let near = case.run();
            let rows: Vec<f32> = case
                .x
                .chunks(case.x_stride)
                .flat_map(|row| row.iter().copied().chain([f32::NAN; 4096]).take(4096))
                .collect();
            (case.x, case.x_stride) = (rows, 4096);
            assert!(near == case.run(), "{}", case.describe());
        }
    }
}

/// Up to 16 tokens, so that drafts that are checked together change nothing; more may have other kernels.
#[test]
fn a_row_has_the_same_result_among_any_others() {
    for isa in Isa::available() {
        for dtype in [DType::Q4_K, DType::Q2_K, DType::Q6_K, DType::Q8_0, DType::Q5_1, DType::IQ4_XS] {
            let mut rng = Rng(31);
            let mut case = sized_case(&mut rng, isa, &[dtype], Precision::Auto, [40, 50, 768]);
            let width = case.out_stride;
            case.tokens = 1;
            let one = case.run();
            for tokens in [2, 3, 4, 5, 7, 9, 16] {
                case.tokens = tokens;
                assert!(case.run()[0][..width] == one[0][..width], "{}", case.describe());
            }
        }
    }
}
